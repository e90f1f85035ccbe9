# SPDX-License-Identifier: MIT
"""The engine, as ``hymn bench`` and ``hymn run`` in processes of their own."""

from __future__ import annotations

import json
import math
import os
import subprocess
from typing import Any, Optional

import numpy

from .job import Job, Result

KEPT = ("precision", "tier", "runs", "gpu_ms", "wall_ms", "images_per_second", "tuning_ms",
        "cold_start_ms", "warm_start_ms", "warm_ready_ms", "device_bytes", "weight_bytes",
        "activation_bytes", "io_bytes", "host_bytes")
WARM_MS = 400.0


class Hymn:
    """hymn from float tensors to logits, or from 8-bit pictures to masks (``pictures``).

    GPU times are from the first to the last command of a run and have its transfers to and from
    host memory in them, wall times all of a run.
    """

    def __init__(self, job: Job, pictures: bool = False) -> None:
        self.job, self.pictures = job, pictures
        self.name = "hymn, 8-bit pictures to masks" if pictures else "hymn"
        self.device = ""
        self.details: Result = {}
        self.warm_up: Optional[int] = None

    def output(self) -> Optional[numpy.ndarray]:
        """The logits; None where masks are made."""
        if self.pictures:
            return None
        path = self.job.folder / "hymn.npy"
        self._run("run", "--input", str(self.job.input), "--output", str(path),
                  "--batch", str(self.job.batch))
        return numpy.load(path)

    def prepare(self) -> None:
        """Choose the ways of the operators, and see how long a run takes."""
        result = self._bench("--runs", "3", "--tuning", str(self.job.options.tuning))
        self.details.update({f"first_{name}": result[name]
                             for name in ("tuning_ms", "cold_start_ms", "warm_start_ms")})
        once = _p50(result, "gpu_ms") or _p50(result, "wall_ms") or 1.0
        self.warm_up = min(max(math.ceil(WARM_MS / once), 2), 5000)

    def measure(self, runs: Optional[int], seconds: float) -> Result:
        """``gpu_ms``, which is ``gpu_transfers_ms`` too (None without timestamps), and
        ``wall_ms``: medians of ``runs`` runs, or of what fits into the seconds."""
        if self.warm_up is None:
            self.prepare()
        length = ["--runs", str(runs)] if runs else ["--seconds", str(seconds)]
        result = self._bench("--warmup", str(self.warm_up), *length, "--tuning", "0")
        self.details.update({name: result[name] for name in KEPT if name in result})
        self.device = f"{result['device']}, {result['driver']}"
        gpu = _p50(result, "gpu_ms")
        return {"gpu_ms": gpu, "gpu_transfers_ms": gpu, "wall_ms": _p50(result, "wall_ms"),
                "images_per_second": result["images_per_second"]}

    def profile(self) -> Result:
        """``operators``: each dispatch's name, shader, gpu_ms, bytes and flops, in order; their
        sum, ``operators_ms``; ``gpu_ms`` of whole runs; the ceilings that hymn measured."""
        if self.warm_up is None:
            self.prepare()
        result = self._bench("--warmup", str(self.warm_up), "--runs", "10", "--tuning", "0",
                             "--profile")
        return {"operators": result["operators"], "operators_ms": result["operators_ms"],
                "gpu_ms": _p50(result, "gpu_ms"), "ceiling_gbps": result["ceiling_gbps"],
                "ceiling_gflops": result["ceiling_gflops"], "dispatch_us": result["dispatch_us"],
                "chain_ms": result["chain_ms"]}

    def _bench(self, *arguments: str) -> Result:
        path = self.job.folder / "hymn.json"
        height, width = self.job.x.shape[2:]
        self._run("bench", "--input", "image" if self.pictures else "tensor",
                  "--size", f"{height}x{width}", "--batch", str(self.job.batch), "--no-check",
                  "--cache", str(self._caches() / "hymn"), "--json", str(path), *arguments)
        result = json.loads(path.read_text())
        if result["batch"] != self.job.batch:
            raise RuntimeError(f"only a batch of {result['batch']} fits into the device's memory")
        return dict(result)

    def _caches(self) -> Any:
        return self.job.folder / "caches"

    def _run(self, command: str, *arguments: str) -> None:
        options = self.job.options
        line = [options.hymn, command, "--model", options.model, "--precision", options.precision]
        if options.device is not None:
            line += ["--device", options.device]
        # What ``run`` finds in the user's cache folder is what ``bench`` has chosen.
        environment = {**os.environ, "XDG_CACHE_HOME": str(self._caches())}
        done = subprocess.run([*line, *arguments], stdout=subprocess.DEVNULL, env=environment,
                              stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"hymn {command} ended with {done.returncode}: {done.stderr[-300:]}")


def version(hymn: str) -> Optional[str]:
    """What the command calls itself."""
    try:
        return subprocess.run([hymn, "--version"], check=True, capture_output=True, text=True,
                              timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _p50(result: Result, name: str) -> Optional[float]:
    spread = result.get(name)
    return None if spread is None else float(spread["p50"])
