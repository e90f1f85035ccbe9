# SPDX-License-Identifier: MIT
"""The comparison as Markdown tables and as a chart, both made from its JSON."""

from __future__ import annotations

import json
import pathlib
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

if TYPE_CHECKING:  # tables need neither PyTorch nor Pillow
    from .job import Result

FORMAT = 1  # of the JSON file

# The scan's forms, as the tables name them.
SCANS = {"auto": "plain", "mamba": "mamba-ssm", "triton": "Triton", "chunked": "chunked"}

BAR, GAP, LEFT, WIDTH, TOP, LINE = 16, 6, 210, 900, 26, 14
COLOURS = ((44, 123, 182), (165, 165, 165), (215, 48, 39), (253, 174, 97), (116, 173, 209),
           (120, 94, 160), (90, 160, 90))


def markdown(summary: Result) -> str:
    """Tables for a README: whole networks, then layers where they were measured."""
    lines = [*_heading(summary), ""]
    for case in summary["cases"]:
        lines += [*_case_table(case), ""]
    for layers in summary.get("layers") or []:
        lines += [*_layer_table(layers), ""]
    lines += [f"Layers, {name}: {text}" for name, text in summary.get("layer_failures", {}).items()]
    return "\n".join(lines).rstrip() + "\n"


def save(summary: Result, path: pathlib.Path) -> None:
    """The JSON file."""
    path.write_text(json.dumps(summary, indent=1) + "\n")


def chart(summary: Result, path: pathlib.Path) -> None:
    """Bars of milliseconds, a panel a case, each panel with its own scale. Needs Pillow."""
    from PIL import Image, ImageDraw

    panels = [_bars(case) for case in summary["cases"] if case["results"]]
    heights = [TOP + len(bars) * (BAR + GAP) + GAP for _, bars in panels]
    lines = [line for line in _heading(summary) if line]
    sheet = Image.new("RGB", (WIDTH, sum(heights) + len(lines) * LINE + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for i, text in enumerate(lines):
        draw.text((6, 4 + i * LINE), text[:150], fill="black")
    y = len(lines) * LINE + GAP
    names = sorted({name for case in summary["cases"] for name in case["results"]},
                   key=lambda name: (not name.startswith("hymn"), name))
    for (title, bars), height in zip(panels, heights):
        draw.text((6, y + 6), title, fill="black")
        _draw_bars(draw, bars, y + TOP, names)
        y += height
    sheet.save(path)


def _heading(summary: Result) -> List[str]:
    options = summary["options"]
    runs = f" of {options['runs']} runs" if options.get("runs") else ""
    results = [result for case in summary["cases"] for result in case["results"].values()]
    counts = {len(result["rounds"]) for result in results} or {options["rounds"]}
    rounds = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    lines = [f"{pathlib.Path(summary['model']).stem}; medians of {rounds} alternating rounds{runs}",
             "", _where(summary) + "."]
    scans = [result["details"]["scan"] for result in results if "scan" in result["details"]]
    if scans and scans[0] in SCANS:
        version = f" ({summary['machine']['mamba_ssm']})" if scans[0] == "mamba" else ""
        lines.append(f"PyTorch has the {SCANS[scans[0]]} scan{version}, but where another is named.")
    return lines


def _where(summary: Result) -> str:
    machine = summary["machine"]
    parts = [machine.get("gpu"), f"{machine['processor']} ({machine['cores']} cores)",
             f"driver {machine['driver']}" if machine.get("driver") else None,
             f"PyTorch {machine['torch']}", machine["date"]]
    return ", ".join(str(part) for part in parts if part)


def _case_table(case: Result) -> List[str]:
    height, width = case["size"]
    first = next(iter(case["results"]), "the first")
    lines = [f"| {height} x {width}, batch {case['batch']} | GPU ms | with transfers | "
             f"wall ms | times {first}'s | images/s | NMSE against float64 |",
             "|---|---|---|---|---|---|---|"]
    for name, result in case["results"].items():
        mark = "" if result["ratio_of"] == "gpu_ms" or not _any_gpu(case) else " (wall)"
        error = _error(result.get("nmse")) if result.get("finite", True) else "not finite"
        lines.append(f"| {name} | {number(result['gpu_ms'])} | "
                     f"{number(result['gpu_transfers_ms'])} | {number(result['wall_ms'])} | "
                     f"{result['ratio']:.2f}{mark} | {number(result['images_per_second'])} | "
                     f"{error} |")
    lines += [f"| {name} | - | - | - | - | - | {text} |" for name, text in case["failures"].items()]
    return lines


def _layer_table(layers: Result) -> List[str]:
    ceilings = layers["ceilings"]
    lines = [f"Layers at {layers['size'][0]} x {layers['size'][1]}, batch {layers['batch']}; "
             f"ceilings: {_ceilings(ceilings)}", "",
             "| layer | times | MB | GFLOP | floor us | hymn us | share | PyTorch us | share | "
             "PyTorch / hymn |", "|---|---|---|---|---|---|---|---|---|---|"]
    for row in layers["rows"]:
        lines.append(
            f"| {row['what']} | {row['count']} | {row['bytes'] / 1e6:.2f} | "
            f"{row['flops'] / 1e9:.3f} | {_us(row['floor_ms'])} | {_us(row['hymn_ms'])} | "
            f"{_share(row, 'hymn_ms')} | {_us(row['torch_ms'])} | {_share(row, 'torch_ms')} | "
            f"{_quotient(row['torch_ms'], row['hymn_ms'])} |")
    total = layers["total"]
    lines += [f"| all of these | {total['count']} | | | {_us(total['floor_ms'])} | "
              f"{_us(total['hymn_ms'])} | {_share(total, 'hymn_ms')} | {_us(total['torch_ms'])} | "
              f"{_share(total, 'torch_ms')} | {_quotient(total['torch_ms'], total['hymn_ms'])} |"]
    for row in layers["rows"]:
        if len(row.get("scans", {})) > 1:  # the table has the fastest
            times = ", ".join(f"{form} {_us(ms)} us" for form, ms in row["scans"].items())
            lines.append(f"\n{row['what']}: {times}")
    lines += [f"\n{name}: {text}" for name, text in layers["failures"].items()]
    return lines


def _ceilings(ceilings: Dict[str, Optional[float]]) -> str:
    words = {"bytes": ("GB/s", 1e9), "flops": ("TFLOP/s of fp16 products", 1e12),
             "exponentials": ("G exponentials/s", 1e9)}
    return ", ".join(f"{value / words[name][1]:.0f} {words[name][0]}"
                     for name, value in ceilings.items() if value)


def number(value: Optional[float]) -> str:
    """Three or four digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.{1 if value >= 100 else 2}f}" \
        if value >= 10 else f"{value:.3f}"


def _error(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.1e}"


def _us(value: Optional[float]) -> str:
    return "-" if value is None else f"{value * 1000:.1f}"


def _share(row: Result, name: str) -> str:
    if not row[name] or not row["floor_ms"]:
        return "-"
    return f"{100 * row['floor_ms'] / row[name]:.0f} %"


def _quotient(a: Optional[float], b: Optional[float]) -> str:
    return "-" if not a or not b else f"{a / b:.2f}"


def _any_gpu(case: Result) -> bool:
    return any(result["gpu_ms"] for result in case["results"].values())


def _bars(case: Result) -> Tuple[str, List[Tuple[str, float, str]]]:
    """A panel's title, and name, length and label of each bar."""
    height, width = case["size"]
    bars = []
    for name, result in case["results"].items():
        of = "gpu_ms" if result["gpu_ms"] else "wall_ms"
        label = f"{number(result[of])} ms{'' if of == 'gpu_ms' else ' (wall)'}, " \
                f"{result['ratio']:.2f} times"
        bars.append((name, float(result[of]), label))
    return f"{height} x {width}, batch {case['batch']}", bars


def _draw_bars(draw: Any, bars: Sequence[Tuple[str, float, str]], y: int,
               names: Sequence[str]) -> None:
    left = max(LEFT, 26 + int(max(draw.textlength(name) for name in names)))
    scale = (WIDTH - left - 190) / max(length for _, length, _ in bars)
    for name, length, label in bars:
        draw.text((16, y + 2), name, fill="black")
        end = left + max(int(length * scale), 1)
        draw.rectangle((left, y, end, y + BAR), fill=COLOURS[names.index(name) % len(COLOURS)])
        draw.text((end + 6, y + 2), label, fill="black")
        y += BAR + GAP
