# SPDX-License-Identifier: MIT
"""What every contestant is given, and the machine that all of them run on."""

from __future__ import annotations

import argparse
import copy
import datetime
import functools
import hashlib
import importlib
import os
import pathlib
import platform
import subprocess
import sys
import time
from typing import Any, Dict, Optional, Tuple

import numpy
import torch

from ..config import Config
from ..export import load_model
from ..network import HyMUNet

Result = Dict[str, Any]


class Deadline:
    """A budget of seconds for all of a comparison; None: as long as it takes."""

    def __init__(self, seconds: Optional[float] = None) -> None:
        self.began, self.seconds = time.monotonic(), seconds

    def left(self) -> float:
        """Seconds that remain, at least 0."""
        if self.seconds is None:
            return float("inf")
        return max(self.seconds - self.spent(), 0.0)

    def spent(self) -> float:
        """Seconds since the comparison began."""
        return time.monotonic() - self.began


class Job:
    """What all contestants are given: a model, an input, and a folder for their files.

    ``options`` has the model's path and the size (0 or None: the model's, unless ``size`` is
    given); ``x`` is (batch, channels, H, W) float32.
    """

    def __init__(self, options: argparse.Namespace, folder: pathlib.Path, batch: int = 1,
                 size: Optional[Tuple[int, int]] = None) -> None:
        self.options, self.folder, self.batch = options, folder, batch
        self.network: HyMUNet
        self.config: Config
        self.network, self.config = load_model(options.model)
        height, width = self.config.input_size
        if size:
            height, width = size
        elif options.size:
            height = width = options.size
        generator = torch.Generator().manual_seed(1)
        shape = (batch, self.config.in_channels, height, width)
        self.x = torch.randn(shape, generator=generator)
        self.input = folder / "x.npy"
        numpy.save(self.input, self.x.numpy())

    @functools.cached_property
    def reference(self) -> numpy.ndarray:
        """The logits of ``x``, in float64."""
        return reference_logits(self.network, self.x)


def reference_logits(network: HyMUNet, x: torch.Tensor) -> numpy.ndarray:
    """The network's logits of x (N, C, H, W), computed in 64 bits, a picture at a time."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = copy.deepcopy(network).to(device).double()
    with torch.no_grad():
        rows = [network(row.to(device).double()).cpu() for row in x.split(1)]
    return torch.cat(rows).numpy()


def describe_machine() -> Result:
    """The machine and the versions of what runs on it."""
    machine: Result = {
        "date": datetime.date.today().isoformat(), "system": _system(),
        "processor": _processor(), "cores": os.cpu_count(),
        "python": platform.python_version(), "torch": torch.__version__,
    }
    for name in ("triton", "mamba_ssm", "ncnn"):
        machine[name] = _version(name)
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        machine.update(gpu=properties.name, gpu_memory=properties.total_memory,
                       multiprocessors=properties.multi_processor_count,
                       cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(),
                       driver=_nvidia("driver_version"), clocks=_nvidia("clocks.max.sm"))
    return machine


def file_hash(path: str) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def note(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def reason(error: BaseException) -> str:
    """An error in one line of moderate length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:400]


def _version(name: str) -> Optional[str]:
    try:
        return str(getattr(importlib.import_module(name), "__version__", "unknown"))
    except Exception:  # pylint: disable=broad-except # a broken package is as good as none
        return None


def _system() -> str:
    """"Linux, glibc 2.39"; without the kernel's name, which may hold a machine's."""
    return ", ".join(part for part in (platform.system(), " ".join(platform.libc_ver()).strip()) if part)


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _nvidia(field: str) -> Optional[str]:
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True,
                              timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
