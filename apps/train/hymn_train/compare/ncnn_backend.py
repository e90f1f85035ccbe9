# SPDX-License-Identifier: MIT
"""ncnn, for models without Mamba stages, through its Python package."""

from __future__ import annotations

import os
from typing import Optional

import numpy

from ..ncnn_model import to_ncnn
from . import timing
from .job import Job, Result


class Ncnn:
    """ncnn on the processor, or through Vulkan with 16-bit floats (its default) or without.

    Wall times are of one run, from a float tensor in host memory to logits there.
    """

    def __init__(self, job: Job, vulkan: bool, half: bool = True) -> None:
        import ncnn  # pylint: disable=import-outside-toplevel
        if job.batch != 1:
            raise ValueError("ncnn takes one picture at a time")
        self.ncnn, self.job = ncnn, job
        self.name = ncnn_name(vulkan, half)
        self.device = f"ncnn {ncnn.__version__}"
        self.details: Result = {}
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

    def prepare(self) -> None:
        """Two runs that are not timed."""
        self.output()
        self.output()

    def output(self) -> numpy.ndarray:
        """The logits."""
        extractor = self.net.create_extractor()
        extractor.input("in0", self.mat)
        status, result = extractor.extract("out0")
        if status != 0:
            raise RuntimeError(f"ncnn: extract returned {status}")
        return numpy.array(result)[None]

    def measure(self, runs: Optional[int], seconds: float) -> Result:
        """Medians: of ``runs`` runs, or of what fits into the seconds, after two."""
        self.prepare()
        wall = timing.median(timing.wall_ms(self.output, seconds, runs))
        return {"gpu_ms": None, "gpu_transfers_ms": None, "wall_ms": wall,
                "images_per_second": 1000 / wall}

    def _choose_device(self, number: int) -> str:
        if self.ncnn.get_gpu_count() <= number:
            raise RuntimeError(f"ncnn sees {self.ncnn.get_gpu_count()} Vulkan devices")
        self.net.set_vulkan_device(number)
        return str(self.ncnn.get_gpu_info(number).device_name())


def ncnn_name(vulkan: bool, half: bool = True) -> str:
    """What the tables call it."""
    return f"ncnn Vulkan {'fp16' if half else 'fp32'}" if vulkan else "ncnn CPU"
