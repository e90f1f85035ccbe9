# SPDX-License-Identifier: MIT
"""Layer by layer: the engine's dispatches beside cuDNN, cuBLAS and a scan kernel through PyTorch.

A layer of the engine has its bias, activation, residual and gate in the same dispatch, its scan the
projection and the softplus of the step size; PyTorch's are the bare convolution, product or scan.
Both find their inputs in the GPU's cache where they fit.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F

from ..config import Config
from ..scan import DIRECTIONS, scan
from . import timing
from .engine import Hymn
from .job import Deadline, Job, Result, note, reason
from .pytorch import scan_forms

REPEAT = 10
LONG = 4
HALF_MAMBA = "mamba, 16-bit operands"  # and results, whose range trained networks can exceed


@dataclasses.dataclass(frozen=True)
class Layer:
    """A distinct piece of work on a picture of ``height`` x ``width``.

    ``kind``: "conv" (``kernel`` x ``kernel``, with ``shortcut`` > 0 a 1x1 convolution of that many
    channels added; with ``resized`` > 0 so many of its channels come from half the size, where a
    1x1 convolution makes as many of them as leave, for the gate), "linear" (with ``convolved`` > 0 so many of its channels then by a 3x3
    convolution in depth), "depthwise", or "scan" (of ``channels_in`` channels, with ``states`` and
    ``rank``).
    """

    kind: str
    height: int
    width: int
    channels_in: int
    channels: int
    kernel: int = 1
    shortcut: int = 0
    states: int = 0
    rank: int = 0
    convolved: int = 0
    resized: int = 0

    def describe(self) -> str:
        """In a table's words."""
        size = f"at {self.height}x{self.width}"
        if self.kind == "scan":
            return f"scan, L {self.height * self.width}, {self.channels} channels, " \
                   f"{self.states} states, rank {self.rank}"
        if self.kind == "linear":
            then = f", {self.convolved} of them depthwise 3x3," if self.convolved else ""
            return f"linear {self.channels_in} to {self.channels}{then} {size}"
        if self.kind == "depthwise":
            return f"depthwise {self.kernel}x{self.kernel}, {self.channels} {size}"
        extra = f" + 1x1 {self.shortcut}" if self.shortcut else ""
        gate = f", {self.resized} of them resized, and their gate's 1x1," if self.resized else ""
        return f"conv {self.kernel}x{self.kernel} {self.channels_in}{extra} to " \
               f"{self.channels}{gate} {size}"

    def bytes(self, batch: int) -> int:
        """Least traffic with 16-bit floats: inputs and weights read once, outputs written once."""
        pixels = batch * self.height * self.width
        if self.resized:
            low = dataclasses.replace(self, height=self.height // 2, width=self.width // 2,
                                      channels_in=self.resized, kernel=1, resized=0)
            whole = dataclasses.replace(self, resized=0)
            return whole.bytes(batch) - 2 * pixels * self.resized + low.bytes(batch)
        if self.kind == "scan":
            projected = DIRECTIONS * (self.rank + 2 * self.states)
            return 2 * pixels * (self.channels + projected + DIRECTIONS * self.channels)
        taps = self.kernel ** 2
        weights = taps * self.channels if self.kind == "depthwise" else \
            self.channels * (taps * self.channels_in + self.shortcut) + 9 * self.convolved
        return 2 * (pixels * (self.channels_in + self.shortcut + self.channels) + weights)

    def flops(self, batch: int) -> int:
        """Two a multiply-add; of a scan, six a state and two a rank; of what is resized, a quarter,
        as its products can be made before.
        """
        outputs = batch * self.height * self.width * self.channels
        if self.kind == "scan":
            return DIRECTIONS * outputs * (6 * self.states + 2 * self.rank)
        taps = self.kernel ** 2
        if self.resized:
            return 2 * outputs * taps * (self.channels_in - self.resized) + \
                (taps + 1) * outputs * self.resized // 2
        in_depth = 2 * 9 * batch * self.height * self.width * self.convolved
        return in_depth + 2 * outputs * (taps if self.kind == "depthwise"
                                         else taps * self.channels_in + self.shortcut)

    def exponentials(self, batch: int) -> int:
        """Of a scan: one a state of every step."""
        if self.kind != "scan":
            return 0
        return DIRECTIONS * batch * self.height * self.width * self.channels * self.states


def list_layers(config: Config, height: int, width: int) -> Dict[Layer, List[str]]:
    """The distinct layers of a network, in its order, and the engine's operators that are each."""
    found: Dict[Layer, List[str]] = {}

    def add(name: str, *fields: Any, **more: int) -> None:
        found.setdefault(Layer(*fields, **more), []).append(name)

    def residual(name: str, size: Tuple[int, int], before: int, channels: int, depth: int) -> None:
        for j in range(depth):
            source = before if j == 0 else channels
            block = f"{name}.blocks.{j}"
            add(f"{block}.conv1", "conv", *size, source, channels, 3)
            add(f"{block}.conv2", "conv", *size, channels, channels, 3,
                source if source != channels else 0)

    before = [config.in_channels] + config.dims[:-1]
    sizes = [(height >> i, width >> i) for i in range(config.stages)]
    for i, channels in enumerate(config.dims):
        name, size = f"encoder.{i}", sizes[i]
        if i < config.conv_stages:
            residual(name, size, before[i], channels, config.depths[i])
            continue
        if i > 0:
            add(f"{name}.down.reduction", "linear", *size, 4 * before[i], channels)
        else:
            add(f"{name}.down.proj", "conv", *size, before[i], channels)
        for j in range(config.depths[i]):
            _add_block(add, f"{name}.blocks.{j}.ss2d", size, channels, config)
    for i in reversed(range(config.stages - 1)):
        channels, deep = config.dims[i], config.dims[i + 1]
        if config.skip == "mgf":
            # A 1x1 convolution commutes with the resizing before it.
            add(f"decoder.{i}.skip.gate", "conv", *sizes[i + 1], deep, channels)
        residual(f"decoder.{i}", sizes[i], channels + deep, channels, config.decoder_depths[i])
    add("head", "conv", *sizes[0], config.dims[0], config.num_classes)
    return found


def _add_block(add: Callable[..., None], name: str, size: Tuple[int, int], channels: int,
               config: Config) -> None:
    inner, rank, states = config.inner(channels), config.rank(channels), config.d_state
    add(f"{name}.in_proj", "linear", *size, channels, 2 * inner)
    add(f"{name}.conv2d", "depthwise", *size, inner, inner, 3)
    add(f"{name}.x_proj", "linear", *size, inner, DIRECTIONS * (rank + 2 * states))
    add(f"{name}.scan", "scan", *size, inner, inner, states=states, rank=rank)
    add(f"{name}.out_proj", "linear", *size, inner, channels)


def join_depthwise(found: Dict[Layer, List[str]],
                   engine: Dict[str, float]) -> Dict[Layer, List[str]]:
    """The layers with each in_proj and the depthwise convolution behind it as one, where the
    engine's profile has the former alone: they are one dispatch there."""
    joined = {name for name in engine if name.endswith(".in_proj")
              and name[:-len("in_proj")] + "conv2d" not in engine}
    result: Dict[Layer, List[str]] = {}
    for layer, names in found.items():
        if layer.kind == "depthwise":
            names = [name for name in names if name[:-len("conv2d")] + "in_proj" not in joined]
        both = [name for name in names if name in joined]
        if both:
            result[dataclasses.replace(layer, convolved=layer.channels // 2)] = both
        rest = [name for name in names if name not in joined]
        if rest:
            result[layer] = rest
    return result


def join_taps(found: Dict[Layer, List[str]], engine: Dict[str, float]) -> Dict[Layer, List[str]]:
    """The layers with the first convolution of a decoder's stage and the gate's as one, where the
    engine's profile sums up taps: it makes the products of what is resized beside the gate's."""
    joined = {name[:-len(".up")] for name in engine if name.endswith(".conv1.up")}
    gates = {_gate_of(name) for name in joined}
    result: Dict[Layer, List[str]] = {}
    for layer, names in found.items():
        both = [name for name in names if name in joined]
        if both:
            deep = layer.channels_in - layer.channels
            result[dataclasses.replace(layer, resized=deep)] = both
        rest = [name for name in names if name not in joined | gates]
        if rest:
            result[layer] = rest
    return result


def _gate_of(name: str) -> str:
    """The gate's convolution beside a decoder's first."""
    return f"{name.split('.blocks.')[0]}.skip.gate"


def _engine_ms(layer: Layer, name: str, engine: Dict[str, float]) -> float:
    """Of all operators that are the layer."""
    parts = [f"{name}.up", f"{name}.taps", _gate_of(name)] if layer.resized else []
    return engine[name] + sum(engine.get(part, 0.0) for part in parts)


def measure(options: argparse.Namespace, folder: pathlib.Path, batch: int,
            deadline: Deadline) -> Result:
    """All layers at a batch, with the scan of 16 times as many steps where the batch is 1."""
    job = Job(options, folder, batch)
    height, width = job.x.shape[2:]
    failures: Dict[str, str] = {}
    found = list_layers(job.config, height, width)
    profile = _profile(job, failures)
    engine = _operator_times(profile)
    found = join_taps(join_depthwise(found, engine), engine)
    if batch == 1:
        _add_long_scan(options, folder, job.config, (height, width), found, engine, failures)
    ceilings = measure_ceilings(failures)
    rows = []
    for layer, names in found.items():
        row: Result = {"what": layer.describe(), "names": names, "count": len(names),
                       "bytes": layer.bytes(batch), "flops": layer.flops(batch),
                       "exponentials": layer.exponentials(batch),
                       "floor_ms": floor_ms(layer, batch, ceilings)}
        times = [_engine_ms(layer, name, engine) for name in names if name in engine]
        row["hymn_ms"] = sum(times) / len(times) if times else None
        row.update(_torch_times(layer, batch, deadline, failures))
        rows.append(row)
    return {"size": [height, width], "batch": batch, "ceilings": ceilings, "rows": rows,
            "total": _total(rows), "profile": profile, "failures": failures}


def _profile(job: Job, failures: Dict[str, str]) -> Result:
    """The engine's profile, or an empty one after a failure: PyTorch's times are still of use."""
    try:
        return Hymn(job).profile()
    except Exception as error:  # pylint: disable=broad-except # whatever it is, it is reported
        failures[f"hymn at {job.x.shape[2]}x{job.x.shape[3]}"] = reason(error)
        return {"operators": []}


def _operator_times(profile: Result) -> Dict[str, float]:
    """Milliseconds by operator; what takes several dispatches is their sum."""
    times: Dict[str, float] = {}
    for operation in profile["operators"]:
        name = operation["name"]
        times[name] = times.get(name, 0.0) + float(operation["gpu_ms"])
    return times


def _add_long_scan(options: argparse.Namespace, folder: pathlib.Path, config: Config,
                   size: Tuple[int, int], found: Dict[Layer, List[str]],
                   engine: Dict[str, float], failures: Dict[str, str]) -> None:
    """Adds the first Mamba stage's scan of a picture four times as wide and high."""
    if config.conv_stages == config.stages:
        return
    long_size = LONG * size[0], LONG * size[1]
    longer = {layer: names for layer, names in list_layers(config, *long_size).items()
              if layer.kind == "scan"}
    layer, names = next(iter(longer.items()))
    job = Job(argparse.Namespace(**{**vars(options), "size": None}), folder, 1, long_size)
    times = _operator_times(_profile(job, failures))
    found[layer] = [f"{name} at {long_size[0]}x{long_size[1]}" for name in names[:1]]
    if names[0] in times:
        engine[found[layer][0]] = times[names[0]]


def floor_ms(layer: Layer, batch: int, ceilings: Dict[str, Optional[float]]) -> Optional[float]:
    """The time that the larger of traffic and arithmetic takes at the ceilings."""
    counts = {"bytes": layer.bytes(batch)}
    if layer.kind == "scan":
        counts["exponentials"] = layer.exponentials(batch)
    else:
        counts["flops"] = layer.flops(batch)
    times = [1000 * count / rate for name, count in counts.items()
             for rate in [ceilings.get(name)] if rate]
    return max(times) if times else None


def measure_ceilings(failures: Dict[str, str]) -> Dict[str, Optional[float]]:
    """Per second: ``bytes`` of a large copy (read and written), ``flops`` of a large product of
    16-bit matrices (32-bit on a processor), and on a GPU ``exponentials``."""
    ceilings: Dict[str, Optional[float]] = {}
    for name, make in (("bytes", _copy), ("flops", _product), ("exponentials", _exponentials)):
        ceilings[name] = None
        try:
            work = make()
            if work is not None:
                ceilings[name] = work[1] / (min(_times(work[0])) / 1000)
        except Exception as error:  # pylint: disable=broad-except # the others go on
            failures[f"ceiling of {name}"] = reason(error)
    return ceilings


Work = Tuple[Callable[[], object], int]


def _copy() -> Work:
    cuda = torch.cuda.is_available()
    source = torch.rand((1 << 30 if cuda else 1 << 25) // 4, device="cuda" if cuda else "cpu")
    target = torch.empty_like(source)
    return (lambda: target.copy_(source)), 2 * 4 * source.numel()


def _product() -> Work:
    cuda = torch.cuda.is_available()
    size, where = (8192, "cuda") if cuda else (512, "cpu")
    a, b = (torch.randn(size, size, device=where, dtype=_dtype()) for _ in range(2))
    c = torch.empty_like(a)
    return (lambda: torch.mm(a, b, out=c)), 2 * size ** 3


def _exponentials() -> Optional[Work]:
    if not torch.cuda.is_available():
        return None
    from .exponentials import workload  # pylint: disable=import-outside-toplevel # needs Triton
    return workload()


def _dtype() -> torch.dtype:
    return torch.float16 if torch.cuda.is_available() else torch.float32


def _times(run: Callable[[], object]) -> List[float]:
    with torch.no_grad():
        if torch.cuda.is_available():
            return timing.gpu_ms(run, 0.15, 0.15)
        run()
        return timing.wall_ms(run, 0.01)


def _torch_times(layer: Layer, batch: int, deadline: Deadline,
                 failures: Dict[str, str]) -> Result:
    """A layer's ``torch_ms``, of a scan that of the fastest form of 32 bits, and of a scan
    ``scans``: all forms' by name. None, or not there, where there was no time left, or after a
    failure.
    """
    forms: Dict[str, Callable[[], Callable[[], object]]] = {"": lambda: _layer_run(layer, batch)}
    if layer.kind == "scan":
        forms = {form: lambda form=form: _scan_run(layer, batch, form) for form in scan_forms()}
        if "mamba" in forms:
            forms[HALF_MAMBA] = lambda: _scan_run(layer, batch, "mamba", torch.float16)
    times: Dict[str, float] = {}
    for form, make in forms.items():
        if deadline.left() > 0:
            try:
                times[form] = _torch_ms(make())
            except Exception as error:  # pylint: disable=broad-except # the others go on
                failures[" by ".join(filter(None, (layer.describe(), form)))] = reason(error)
    result: Result = {"torch_ms": min((ms for form, ms in times.items() if form != HALF_MAMBA),
                                      default=None)}
    if layer.kind == "scan":
        result["scans"] = times
    return result


def _torch_ms(run: Callable[[], object]) -> float:
    """Milliseconds in PyTorch: in a CUDA graph of several, or on the processor."""
    with torch.no_grad():
        if not torch.cuda.is_available():
            run()
            return timing.median(timing.wall_ms(run, 0.0))
        graph = timing.capture(run, REPEAT)
        return timing.median(timing.gpu_ms(graph.replay, 0.05, 0.03)) / REPEAT


def _layer_run(layer: Layer, batch: int) -> Callable[[], object]:
    """The layer on random numbers, channels last, with a bias where the network has one."""
    options = {"device": "cuda" if torch.cuda.is_available() else "cpu", "dtype": _dtype()}
    source, channels, kernel = layer.channels_in, layer.channels, layer.kernel
    if layer.kind == "linear":
        rows = torch.randn(batch, layer.height * layer.width, source, **options)
        matrix = torch.randn(channels, source, **options) / source ** 0.5
        if not layer.convolved:
            return lambda: F.linear(rows, matrix)
        behind = _layer_run(Layer("depthwise", layer.height, layer.width, layer.convolved,
                                  layer.convolved, 3), batch)
        return lambda: (F.linear(rows, matrix), behind())

    def pictures(count: int) -> torch.Tensor:
        x = torch.randn(batch, count, layer.height, layer.width, **options)
        return x.contiguous(memory_format=torch.channels_last)

    def weights(count: int, size: int) -> torch.Tensor:
        w = torch.randn(channels, count, size, size, **options) / (count * size * size) ** 0.5
        return w.contiguous(memory_format=torch.channels_last)

    groups = source if layer.kind == "depthwise" else 1
    x, w, bias = pictures(source), weights(source // groups, kernel), \
        torch.randn(channels, **options)
    if layer.resized:
        low = torch.randn(batch, layer.resized, layer.height // 2, layer.width // 2, **options) \
            .contiguous(memory_format=torch.channels_last)
        gate = weights(layer.resized, 1)
        return lambda: (F.conv2d(x, w, bias, padding=kernel // 2), F.conv2d(low, gate))
    if not layer.shortcut:
        return lambda: F.conv2d(x, w, bias, padding=kernel // 2, groups=groups)
    side, point = pictures(layer.shortcut), weights(layer.shortcut, 1)
    return lambda: (F.conv2d(x, w, bias, padding=kernel // 2), F.conv2d(side, point))


def _scan_run(layer: Layer, batch: int, form: str,
              dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """The bare scan on random numbers, its inputs in the order that its form takes; ``dtype``: of
    mamba-ssm's u, step sizes, B and C, and of its result."""
    where = "cuda" if torch.cuda.is_available() else "cpu"
    pixels, channels, states = layer.height * layer.width, layer.channels, layer.states
    u = torch.randn(batch, pixels, channels, device=where)
    delta = F.softplus(torch.randn(batch, DIRECTIONS, pixels, channels, device=where) - 2)
    A = -torch.rand(DIRECTIONS, channels, states, device=where) * states - 0.1
    B, C = (torch.randn(batch, DIRECTIONS, pixels, states, device=where) for _ in range(2))
    skip = torch.randn(DIRECTIONS, channels, device=where)
    if form != "mamba":
        return lambda: scan(u, delta, A, B, C, skip, layer.height, layer.width, form)
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    four = u.transpose(1, 2).repeat(1, DIRECTIONS, 1).contiguous().to(dtype)
    steps = delta.transpose(2, 3).flatten(1, 2).contiguous().to(dtype)
    rows = A.flatten(0, 1)
    B, C = (x.transpose(2, 3).contiguous().to(dtype) for x in (B, C))
    return lambda: selective_scan_fn(four, steps, rows, B, C, skip.flatten())


def _total(rows: List[Result]) -> Result:
    """Sums over the layers of the network that have both times."""
    both = [row for row in rows if row["hymn_ms"] and row["torch_ms"] and row["floor_ms"]
            and " at " not in row["names"][0]]
    total: Result = {"count": sum(row["count"] for row in both)}
    for name in ("floor_ms", "hymn_ms", "torch_ms"):
        total[name] = sum(row["count"] * row[name] for row in both) if both else None
    return total
