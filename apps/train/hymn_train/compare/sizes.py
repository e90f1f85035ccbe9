# SPDX-License-Identifier: MIT
"""Time and memory over the pixels of a picture, from ``hymn bench --size ... --json``, as a chart.

    python3 -m hymn_train.compare.sizes sizes.json sizes.png

Both axes are logarithmic; a line of slope one is growth in proportion to the pixels.
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
from typing import Any, Dict, List, Sequence, Tuple

from PIL import Image, ImageDraw

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 900, 420, 70, 50, 50, 20
Point = Tuple[float, float]
KEYS = {"device", "driver", "batch", "size", "gpu_ms", "device_bytes"}
SERIES = (("GPU time, ms", "#2c7bb6", lambda r: r["gpu_ms"]["p50"]),
          ("device memory, MiB", "#d7301f", lambda r: r["device_bytes"] / 2**20))


def _range(values: Sequence[float]) -> Tuple[int, int]:
    """The powers of ten below and above the values, never the same."""
    low = math.floor(math.log10(min(values)))
    return low, max(math.ceil(math.log10(max(values))), low + 1)


def draw(results: List[Dict[str, Any]], path: pathlib.Path) -> None:
    """One point a size and series, with its value; results of one device and batch."""
    pixels = [r["size"][0] * r["size"][1] for r in results]
    values = [value(r) for _, _, value in SERIES for r in results]
    (x0, x1), (y0, y1) = _range(pixels), _range(values)
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    canvas = ImageDraw.Draw(sheet)

    def place(x: float, y: float) -> Point:
        across = (math.log10(x) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        up = (math.log10(y) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return LEFT + across, HEIGHT - BOTTOM - up

    canvas.text((6, 6), f"{results[0]['device']}, driver {results[0]['driver']}, batch "
                        f"{results[0]['batch']}", fill="black")
    for power in range(y0, y1 + 1):
        canvas.line([place(10**x0, 10**power), place(10**x1, 10**power)], fill="#dddddd")
        canvas.text((6, place(10**x0, 10**power)[1] - 6), f"{10**power:g}", fill="black")
    for i, (name, colour, value) in enumerate(SERIES):
        points = [place(x, value(r)) for x, r in zip(pixels, results)]
        slope = place(pixels[0], value(results[0])), \
            place(pixels[-1], value(results[0]) * pixels[-1] / pixels[0])
        canvas.line(slope, fill="#bbbbbb")
        canvas.line(points, fill=colour, width=2)
        canvas.text((LEFT + 180 * i, 24), name, fill=colour)
        for (x, y), result in zip(points, results):
            canvas.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
            canvas.text((x + 6, y + 4), f"{value(result):.4g}", fill=colour)
    canvas.text((LEFT + 380, 24), "grey: in proportion to the pixels", fill="#888888")
    for x, result in zip(pixels, results):
        at = place(x, 10**y0)
        canvas.line([at, (at[0], at[1] + 5)], fill="black")
        canvas.text((at[0] - 30, at[1] + 10), f"{result['size'][0]} x {result['size'][1]}", fill="black")
    sheet.save(path)


def read(path: pathlib.Path) -> List[Dict[str, Any]]:
    """The results in a file of ``hymn bench --json``, which is no list where there is one; ValueError where there are
    none with GPU times."""
    content = json.loads(path.read_text(encoding="utf-8"))
    results = content if isinstance(content, list) else [content]
    if not results or not all(isinstance(r, dict) and KEYS <= r.keys() and r["gpu_ms"] for r in results):
        raise ValueError("holds no results of hymn bench with GPU times")
    return results


def main(arguments: Sequence[str]) -> int:
    """The command; ends with one line where a file cannot be read or written."""
    if len(arguments) != 2:
        sys.exit("usage: python3 -m hymn_train.compare.sizes RESULTS.json CHART.png")
    source, picture = map(pathlib.Path, arguments)
    try:
        results = read(source)
    except (OSError, ValueError, RecursionError) as error:
        sys.exit(f"sizes: {source}: {error}")
    try:
        draw(results, picture)
    except (OSError, ValueError) as error:
        sys.exit(f"sizes: {picture}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
