#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One model, the same weights and input, through hymn and through others, on one machine.

    python3 apps/train/compare.py --model base.safetensors --batch 1,8,32 --layers --json base.json
    python3 apps/train/compare.py --model tinyconv.safetensors --ncnn --runs 10
    python3 apps/train/compare.py --table base.json

Each round measures every contestant once, one after the other, so that what else the machine does
meets all of them; a contestant's number is the median over the rounds of its rounds' medians.
GPU times are of hymn's runs with their transfers, and of PyTorch's without; with transfers PyTorch
is given 8-bit pictures, which it normalises on the GPU. Wall times are of one run, from a float
tensor in host memory to logits there. Images a second are hymn's from and to host memory, with four
runs in flight that the GPU may compute at the same time, and those of PyTorch's graphs without
transfers: one, or four on streams of their own, whichever is faster. Outputs are compared with
those of PyTorch in float64. A contestant that fails is reported and the others go on. ``--ncnn``
needs ncnn's Python package and a model without Mamba stages (``tests/golden/make.py --large DIR``
makes one).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import signal
import sys
import tempfile
from typing import Any, Optional, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from hymn_train.arguments import count, counts, duration  # noqa: E402
from hymn_train.compare import report  # noqa: E402
from hymn_train.files import write_output  # noqa: E402


def parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a .safetensors file")
    parser.add_argument("--table", metavar="FILE.json",
                        help="print the tables of an earlier run's --json and end")
    parser.add_argument("--hymn", default="build/hymn", help="the command (default build/hymn)")
    parser.add_argument("--device", help="hymn's --device")
    parser.add_argument("--precision", choices=("fp16", "fp32"), default="fp16", help="hymn's")
    parser.add_argument("--tuning", type=duration, default=10, help="hymn bench's, once a batch")
    parser.add_argument("--input", choices=("tensor", "image", "both"), default="tensor",
                        help="what hymn is given: float tensors, 8-bit pictures, or each in turn")
    parser.add_argument("--size", type=int, help="height and width (default: the model's)")
    parser.add_argument("--batch", type=counts, default=[1], help="such as 1,8,32 (default 1)")
    parser.add_argument("--compile-mode", default="default",
                        help="torch.compile's: default, or max-autotune-no-cudagraphs (minutes)")
    parser.add_argument("--without", action="append", default=[], metavar="NAME",
                        help="leave out one of PyTorch's forms, by its name in the tables")
    parser.add_argument("--ncnn", action="store_true", help="against ncnn, Vulkan and CPU")
    parser.add_argument("--ncnn-device", type=int, default=0, help="number of ncnn's Vulkan device")
    parser.add_argument("--layers", action="store_true",
                        help="each distinct layer against cuDNN, cuBLAS and a CUDA scan too")
    parser.add_argument("--layer-batch", type=counts, default=[1, 8], help="default 1,8")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--runs", type=count, help="runs a round (default: what fits)")
    parser.add_argument("--round-seconds", type=duration, default=0.5,
                        help="of a contestant's measurement in a round (default 0.5)")
    parser.add_argument("--seconds", type=duration,
                        help="for all; fewer rounds, and no compilation, where they run out")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--chart", help="draw them into this PNG file")
    options = parser.parse_args(arguments)
    if not options.model and not options.table:
        parser.error("--model or --table is needed")
    for option, path in (("--json", options.json), ("--chart", options.chart)):
        if path and pathlib.Path(path).is_dir():
            parser.error(f"{option} {path}: is a folder")
        if path and not pathlib.Path(path).parent.is_dir():
            parser.error(f"{option} {path}: its folder does not exist")
    return options


def earlier(path: str) -> Any:
    """What an earlier run's --json holds; ends with one line where it cannot be read."""
    try:
        summary = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        sys.exit(f"compare.py: --table {path}: {error}")
    if not isinstance(summary, dict) or summary.get("format") != report.FORMAT:
        sys.exit(f"compare.py: --table {path}: is no file of compare.py --json")
    return summary


def require_model(path: str, size: Optional[int]) -> None:
    """Ends with one line where that is no model file, or none for pictures of that size (None: the
    model's), before anything is measured."""
    from hymn_train.export import load_model
    try:
        config = load_model(path)[1]
    except (OSError, ValueError) as error:
        sys.exit(f"compare.py: --model: {error}")
    height, width = config.input_size if size is None else (size, size)
    if min(height, width) < 1 or height % config.multiple or width % config.multiple:
        sys.exit(f"compare.py: --size: PyTorch's network takes multiples of {config.multiple}, not "
                 f"{height} x {width}")


def measured(options: argparse.Namespace) -> Any:
    """What is measured now; where PyTorch is missing, or the model is none, ends with one line."""
    try:  # the tables of an earlier run need none of this
        from hymn_train.compare.measure import measure_all
    except ImportError as error:
        sys.exit(f"compare.py needs PyTorch, NumPy and Pillow (apps/train/README.md): {error}")
    require_model(options.model, options.size)
    with tempfile.TemporaryDirectory() as folder:
        return measure_all(options, pathlib.Path(folder))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command; 1 where nothing could be measured or a file not be written, 130 where it is interrupted."""
    options = parse(arguments)
    try:
        summary = earlier(options.table) if options.table else measured(options)
    except KeyboardInterrupt:
        print("compare.py: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    failures = []
    for name, path, write in (("standard output", True, lambda: write_output(report.markdown(summary))),
                              (f"--json {options.json}", options.json and not options.table,
                               lambda: report.save(summary, pathlib.Path(options.json))),
                              (f"--chart {options.chart}", options.chart,
                               lambda: report.chart(summary, pathlib.Path(options.chart)))):
        try:  # what was measured outlives what fails
            if path:
                write()
        except (OSError, ValueError, ImportError) as error:
            failures.append(f"compare.py: {name}: {error}")
    if failures:
        sys.exit("\n".join(failures))
    return 0 if any(case["results"] for case in summary["cases"]) else 1


if __name__ == "__main__":
    sys.exit(main())
