# SPDX-License-Identifier: MIT
"""PyTorch: eager, in a CUDA graph, and compiled; its fastest form of the network for inference."""

from __future__ import annotations

import copy
import functools
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval as fuse

from ..config import Config
from ..network import FusionSkip, HyMUNet, MambaStage, ResidualBlock, SS2D
from ..scan import DIRECTIONS, mamba_available, scan, triton_available
from . import timing
from .job import Job, Result
from .report import SCANS


class InferenceSS2D(SS2D):
    """SS2D with its constants computed beforehand and all projections in the weights' dtype."""

    decay: Tensor
    skip: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv2d(u.permute(0, 3, 1, 2)))
        y = self._scan(u.permute(0, 2, 3, 1).flatten(1, 2), height, width)
        # In 32 bits: the sums of trained networks are beyond binary16.
        norm = self.out_norm
        y = F.layer_norm(y, norm.normalized_shape, norm.weight.to(y.dtype), norm.bias.to(y.dtype),
                         norm.eps)
        y = y.to(z.dtype).view(*x.shape[:3], -1)
        return self.out_proj(y * F.silu(z))

    def _scan(self, u: Tensor, height: int, width: int) -> Tensor:
        projected = F.linear(u, self.x_proj_weight.flatten(0, 1))
        projected = projected.unflatten(-1, (DIRECTIONS, -1)).permute(0, 2, 1, 3)
        dt, B, C = projected.split([self.rank, self.states, self.states], dim=-1)
        dt = torch.einsum("bkpr,kdr->bkpd", dt, self.dt_projs_weight)
        wide = self.decay.dtype
        delta = F.softplus(dt.to(wide) + self.bias.unsqueeze(1))
        return scan(u.to(wide), delta, self.decay, B.to(wide), C.to(wide), self.skip,
                    height, width, self.form).sum(1)


class InferenceMambaStage(MambaStage):
    """A Mamba stage whose output stays in channels-last order."""

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x)).permute(0, 3, 1, 2)


def inference_network(network: HyMUNet, device: str, dtype: torch.dtype,
                      form: str = "auto") -> HyMUNet:
    """A copy with BN folded, weights in ``dtype`` and channels-last, that scans in ``form``; the
    scan and its constants keep 32 bits at least."""
    network = copy.deepcopy(network).double().eval().requires_grad_(False)
    _fold(network)
    wide = torch.promote_types(dtype, torch.float32)
    constants = {}
    for module in network.modules():
        if isinstance(module, SS2D):
            decay = -torch.exp(module.A_logs.to(wide)).view(DIRECTIONS, -1, module.states)
            constants[module] = {"decay": decay, "skip": module.Ds.to(wide).view(DIRECTIONS, -1),
                                 "bias": module.dt_projs_bias.to(wide)}
    network = network.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, SS2D):
            module.__class__ = InferenceSS2D
            for name, tensor in constants[module].items():
                module.register_buffer(name, tensor.clone().contiguous().to(device))
        elif isinstance(module, MambaStage):
            module.__class__ = InferenceMambaStage
    return network.use_scan(form)


def _fold(network: HyMUNet) -> None:
    """Folds every BN into the convolution before it."""
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            module.conv1, module.bn1 = fuse(module.conv1, module.bn1), nn.Identity()
            module.conv2, module.bn2 = fuse(module.conv2, module.bn2), nn.Identity()
            if module.shortcut is not None:
                module.shortcut = nn.Sequential(fuse(module.shortcut[0], module.shortcut[1]))
        elif isinstance(module, FusionSkip):
            module.gate, module.bn = fuse(module.gate, module.bn), nn.Identity()


@functools.lru_cache(maxsize=1)
def scan_forms() -> Tuple[str, ...]:
    """mamba-ssm's kernel where it works here, and what the project has for this device."""
    if not torch.cuda.is_available():
        return ("auto",)
    own = "triton" if triton_available() else "chunked"
    return ("mamba", own) if mamba_available() and _mamba_works() else (own,)


def _mamba_works() -> bool:
    """Whether mamba-ssm's kernel runs on this GPU and agrees with the plain scan."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((1, 20, 8), (1, 4, 20, 8), (4, 8, 4), (1, 4, 20, 4), (1, 4, 20, 4), (4, 8))
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    inputs[1], inputs[2] = F.softplus(inputs[1]), -inputs[2].exp()
    try:
        y = scan(*[x.cuda() for x in inputs], 4, 5, form="mamba").cpu()
    except Exception:  # pylint: disable=broad-except # whatever a broken build raises
        return False
    return torch.allclose(y, scan(*inputs, 4, 5, form="sequential"), rtol=1e-3, atol=1e-3)


class Pictures:
    """8-bit pictures in host memory, which are brought to x's device as they are and become the
    network's normalised input there."""

    def __init__(self, config: Config, x: Tensor) -> None:
        count, channels, height, width = x.shape
        generator = torch.Generator().manual_seed(1)
        pixels = torch.randint(0, 256, (count, height, width, channels), dtype=torch.uint8,
                               generator=generator)
        self.host = (pixels.pin_memory() if x.is_cuda else pixels).permute(0, 3, 1, 2)
        self.brought = torch.empty_like(self.host, device=x.device)
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
                     for values in (config.mean, config.std))
        self.x, self.shift, self.scale = x, (-mean / std).to(x), (1 / (255 * std)).to(x)

    def bring(self) -> None:
        """Overwrite x."""
        self.brought.copy_(self.host, non_blocking=True)
        self.x.copy_(self.brought)
        torch.addcmul(self.shift, self.x, self.scale, out=self.x)


class Network:
    """PyTorch on the processor in 32 bits, or on the GPU in 16, without a graph.

    ``gpu_ms`` is of runs that follow one another, with the input and the logits on the GPU;
    ``gpu_transfers_ms`` of such runs with 8-bit pictures and the logits in host memory;
    ``wall_ms`` is of one run from a float tensor in host memory to logits there.
    """

    name = "PyTorch eager"

    def __init__(self, job: Job, form: str) -> None:
        self.job = job
        self.details: Result = {"scan": form}
        self.cuda = torch.cuda.is_available()
        dtype = torch.float16 if self.cuda else torch.float32
        self.device = f"PyTorch {torch.__version__}"
        if self.cuda:
            torch.backends.cudnn.benchmark = True
            self.device += f", CUDA {torch.version.cuda}, {torch.cuda.get_device_name(0)}"
        else:
            self.device += f", CPU, {torch.get_num_threads()} threads"
        where = "cuda" if self.cuda else "cpu"
        self.network = inference_network(job.network, where, dtype, form)
        self.x = job.x.to(where, dtype).contiguous(memory_format=torch.channels_last)
        self.pictures = Pictures(job.config, self.x)
        self.y: Optional[Tensor] = None
        self.host = job.x.pin_memory() if self.cuda else job.x
        self.logits: Optional[Tensor] = None

    def prepare(self) -> None:
        """Run once, and whatever else is not to be timed."""
        with torch.no_grad():
            self.run()
        if self.cuda:
            torch.cuda.synchronize()

    def run(self) -> None:
        """The network, from ``x`` to ``y``."""
        self.y = self.network(self.x)

    def output(self) -> numpy.ndarray:
        """The logits."""
        with torch.no_grad():
            self._end_to_end()
        assert self.logits is not None
        return self.logits.float().numpy().copy()

    def measure(self, runs: Optional[int], seconds: float) -> Result:
        """Medians: of ``runs`` runs, or of what fits into the seconds."""
        with torch.no_grad():
            if not self.cuda:
                self.run()
                wall = timing.median(timing.wall_ms(self._end_to_end, seconds, runs))
                return {"gpu_ms": None, "gpu_transfers_ms": None, "wall_ms": wall,
                        "images_per_second": self._rate(wall)}
            gpu = timing.median(timing.gpu_ms(self.run, seconds))
            both = timing.median(timing.gpu_ms(self._run_on_pictures, seconds / 4, 0.05))
            wall = timing.median(timing.wall_ms(self._end_to_end, seconds / 4, runs))
        return {"gpu_ms": gpu, "gpu_transfers_ms": both, "wall_ms": wall,
                "images_per_second": self._rate(gpu)}

    def _rate(self, ms: float) -> float:
        return self.job.batch / ms * 1000

    def _end_to_end(self) -> None:
        """From ``host`` to ``logits``, both in host memory."""
        if not self.cuda:
            self.x.copy_(self.host)
            self.run()
            self.logits = self.y
            return
        self.x.copy_(self.host.to("cuda", non_blocking=True))
        self._run_and_fetch()
        torch.cuda.synchronize()

    def _run_on_pictures(self) -> None:
        self.pictures.bring()
        self._run_and_fetch()

    def _run_and_fetch(self) -> None:
        self.run()
        assert self.y is not None
        if self.logits is None:
            self.logits = torch.empty(self.y.shape, dtype=self.y.dtype, pin_memory=True)
        self.logits.copy_(self.y, non_blocking=True)


class Graph(Network):
    """The same network, recorded once as a CUDA graph; and ``STREAMS`` times, as many graphs on
    streams of their own, for ``images_per_second``, which has no transfers in it."""

    name = "PyTorch, CUDA graph"
    STREAMS = 4  # hymn bench's default

    def __init__(self, job: Job, form: str) -> None:
        super().__init__(job, form)
        self.graph: Any = None
        self.streams: List[torch.cuda.Stream] = []
        self.graphs: List[Any] = []

    def prepare(self) -> None:
        super().prepare()
        self.graph = timing.capture(super().run)
        own = self.y  # that of self.graph
        self.streams = [torch.cuda.Stream() for _ in range(self.STREAMS)]
        self.graphs = [timing.capture(super(Graph, self).run, stream=stream) for stream in self.streams]
        self.y = own

    def measure(self, runs: Optional[int], seconds: float) -> Result:
        result = super().measure(runs, seconds)
        together = self._rate(timing.together_ms(self.graphs, self.streams, seconds / 4))
        self.details.setdefault("images_per_second", []).append(
            {"one stream": result["images_per_second"], f"{self.STREAMS} streams": together})
        result["images_per_second"] = max(result["images_per_second"], together)
        return result

    def run(self) -> None:
        if self.graph is None:
            super().run()
        else:
            self.graph.replay()


class Compiled(Graph):
    """torch.compile in the options' mode, recorded as a CUDA graph."""

    name = "torch.compile, CUDA graph"

    def __init__(self, job: Job, form: str) -> None:
        super().__init__(job, form)
        mode = job.options.compile_mode
        self.details["mode"] = mode
        torch.compiler.reset()
        self.network = torch.compile(self.network, dynamic=False,
                                     mode=None if mode == "default" else mode)

    def prepare(self) -> None:
        began = time.monotonic()
        super().prepare()
        self.details["compile_seconds"] = round(time.monotonic() - began, 1)


def contestants(job: Job) -> Dict[str, Callable[[], Network]]:
    """PyTorch's forms that make sense here, by name; each call makes one for the job.

    All scan by the first of ``scan_forms``; those in graphs by the others too, as which is faster
    is not known before.
    """
    kinds: List[Any] = [Network, Graph, Compiled] if torch.cuda.is_available() else [Network]
    first, *others = scan_forms()
    found: Dict[str, Callable[[], Network]] = {
        kind.name: functools.partial(kind, job, first) for kind in kinds}
    for form in others:
        for kind in kinds[1:]:
            found[f"{kind.name}, {SCANS[form]} scan"] = functools.partial(kind, job, form)
    return found
