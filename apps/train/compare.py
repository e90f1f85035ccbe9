#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""One model, the same weights and input, through hymn and through others, on one machine.

    python3 apps/train/compare.py --model tinyconv.safetensors --hymn build/hymn --ncnn

Each round measures every contestant once, one after the other, so that what else the machine does
meets all of them; a contestant's number is the median over the rounds of its rounds' medians.
Times are wall times of one run, from a float tensor in host memory to logits there. Outputs are
compared with those of PyTorch in float64. ``--ncnn`` needs ncnn's Python package and a model
without Mamba stages (``tests/golden/make.py --large DIR`` makes one).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, Optional, Sequence

import numpy
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from hymn_train import Config, HyMUNet  # noqa: E402
from hymn_train.export import load_model  # noqa: E402
from hymn_train.ncnn_model import to_ncnn  # noqa: E402


class Job:
    """What all contestants are given: a model, an input, and a folder for their files."""

    def __init__(self, options: argparse.Namespace, folder: pathlib.Path) -> None:
        self.options, self.folder = options, folder
        self.network: HyMUNet
        self.config: Config
        self.network, self.config = load_model(options.model)
        height, width = self.config.input_size
        if options.size:
            height = width = options.size
        generator = torch.Generator().manual_seed(1)
        shape = (1, self.config.in_channels, height, width)
        self.x = torch.randn(shape, generator=generator)
        with torch.no_grad():
            self.reference = self.network.double()(self.x.double()).numpy()
        self.network.float()
        self.input = folder / "x.npy"
        numpy.save(self.input, self.x.numpy())


class Hymn:
    """The engine, as ``hymn bench`` and ``hymn run`` in processes of their own."""

    name = "hymn"

    def __init__(self, job: Job) -> None:
        self.job = job
        options = job.options
        self.arguments = ["--model", options.model, "--precision", options.precision]
        if options.device is not None:
            self.arguments += ["--device", options.device]
        self.device = ""

    def output(self) -> numpy.ndarray:
        """The logits."""
        path = self.job.folder / "hymn.npy"
        self._run("run", "--input", str(self.job.input), "--output", str(path))
        return numpy.load(path)

    def measure(self, runs: int) -> float:
        """Milliseconds of a run, the median of ``runs``."""
        path = self.job.folder / "hymn.json"
        height, width = self.job.x.shape[2:]
        self._run("bench", "--input", "tensor", "--size", f"{height}x{width}", "--runs", str(runs),
                  "--no-check", "--json", str(path))
        result = json.loads(path.read_text())
        self.device = f"{result['device']}, {result['driver']}"
        return float(result["wall_ms"]["p50"])

    def _run(self, *arguments: str) -> None:
        command = [self.job.options.hymn, arguments[0], *self.arguments, *arguments[1:]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Ncnn:
    """ncnn on the processor, or through Vulkan with 16-bit floats (its default) or without."""

    def __init__(self, job: Job, vulkan: bool, half: bool = True) -> None:
        import ncnn  # pylint: disable=import-outside-toplevel
        self.ncnn = ncnn
        self.name = f"ncnn Vulkan {'fp16' if half else 'fp32'}" if vulkan else "ncnn CPU"
        self.device = f"ncnn {ncnn.__version__}"
        param, weights = job.folder / "model.param", job.folder / "model.bin"
        text, binary = to_ncnn(job.network)
        param.write_text(text)
        weights.write_bytes(binary)
        self.net = ncnn.Net()
        self.net.opt.use_vulkan_compute = vulkan
        if not half:
            self.net.opt.use_fp16_packed = False
            self.net.opt.use_fp16_storage = False
            self.net.opt.use_fp16_arithmetic = False
        if vulkan:
            self.device += f", {self._choose_device(job.options.ncnn_device)}"
        else:
            self.net.opt.num_threads = os.cpu_count() or 1
        if self.net.load_param(str(param)) != 0 or self.net.load_model(str(weights)) != 0:
            raise RuntimeError("ncnn does not load the model")
        self.mat = ncnn.Mat(job.x[0].numpy())

    def output(self) -> numpy.ndarray:
        """The logits."""
        extractor = self.net.create_extractor()
        extractor.input("in0", self.mat)
        status, result = extractor.extract("out0")
        if status != 0:
            raise RuntimeError(f"ncnn: extract returned {status}")
        return numpy.array(result)[None]

    def measure(self, runs: int) -> float:
        """Milliseconds of a run, the median of ``runs`` after two."""
        times = []
        for i in range(runs + 2):
            since = time.perf_counter()
            self.output()
            times.append((time.perf_counter() - since) * 1000)
        return statistics.median(times[2:])

    def _choose_device(self, number: int) -> str:
        if self.ncnn.get_gpu_count() <= number:
            raise RuntimeError(f"ncnn sees {self.ncnn.get_gpu_count()} Vulkan devices")
        self.net.set_vulkan_device(number)
        return str(self.ncnn.get_gpu_info(number).device_name())


def measure(contestants: Sequence[Any], rounds: int, runs: int) -> Dict[str, List[float]]:
    """Milliseconds by name, one a round; whoever is first in a round is last in the next."""
    times: Dict[str, List[float]] = {c.name: [] for c in contestants}
    for i in range(rounds):
        for contestant in list(contestants)[::1 if i % 2 == 0 else -1]:
            times[contestant.name].append(contestant.measure(runs))
            print(f"round {i + 1}: {contestant.name} {times[contestant.name][-1]:.1f} ms",
                  file=sys.stderr)
    return times


def nmse(values: numpy.ndarray, reference: numpy.ndarray) -> float:
    """The mean squared error in units of the reference's mean square."""
    return float(((values - reference) ** 2).sum() / (reference ** 2).sum())


def summarise(job: Job, contestants: Sequence[Any],
              times: Dict[str, List[float]]) -> Dict[str, Any]:
    """What the JSON file holds; ratios say how many times as long as the first one others take."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = medians[contestants[0].name]
    results = {}
    for contestant in contestants:
        name = contestant.name
        values = contestant.output()
        results[name] = {
            "device": contestant.device, "ms": medians[name], "best_ms": min(times[name]),
            "rounds_ms": times[name],
            "ratio": medians[name] / first, "nmse": nmse(values, job.reference),
            "max_abs_error": float(abs(values - job.reference).max()),
        }
    return {"model": job.options.model, "size": list(job.x.shape[2:]), "cores": os.cpu_count(),
            "rounds": job.options.rounds, "runs": job.options.runs, "results": results}


def print_table(summary: Dict[str, Any]) -> None:
    """The README's kind of table."""
    height, width = summary["size"]
    print(f"{summary['model']}, {height} x {width}, batch 1; medians of {summary['rounds']} "
          f"alternating rounds of {summary['runs']} runs; {summary['cores']} processor cores\n")
    print("| | ms | times hymn's | best round | NMSE against float64 | device |")
    print("|---|---|---|---|---|---|")
    for name, result in summary["results"].items():
        print(f"| {name} | {result['ms']:.1f} | {result['ratio']:.2f} | {result['best_ms']:.1f} | "
              f"{result['nmse']:.1e} | {result['device']} |")


def parse(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a .safetensors file")
    parser.add_argument("--hymn", default="build/hymn", help="the command (default build/hymn)")
    parser.add_argument("--device", help="hymn's --device")
    parser.add_argument("--precision", choices=("fp16", "fp32"), default="fp16", help="hymn's")
    parser.add_argument("--size", type=int, help="height and width (default: the model's)")
    parser.add_argument("--ncnn", action="store_true", help="against ncnn, Vulkan and CPU")
    parser.add_argument("--ncnn-device", type=int, default=0, help="number of ncnn's Vulkan device")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=10, help="runs a round")
    parser.add_argument("--json", help="write the results to this file")
    return parser.parse_args(arguments)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command."""
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(options, pathlib.Path(folder))
        contestants: List[Any] = [Hymn(job)]
        if options.ncnn:
            contestants += [Ncnn(job, True), Ncnn(job, True, half=False), Ncnn(job, False)]
        summary = summarise(job, contestants, measure(contestants, options.rounds, options.runs))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(summary, indent=1) + "\n")
    print_table(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
