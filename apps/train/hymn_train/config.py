# SPDX-License-Identifier: MIT
"""The architecture description that travels with every model file.

A model file is a safetensors file whose ``__metadata__`` holds one string,
``hymn.config``: the JSON form of :class:`Config`.  The engine and this package
read the same string, so the defaults below are for training only; a file always
states every field.
"""

from __future__ import annotations

import dataclasses
import json
import math
import struct
from typing import Any, Dict, List, Tuple, Union

ARCHITECTURE = "hymunet"
VERSION = 1

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# What the engine takes (engine/model/config.c).
MAX_STAGES, MAX_DIM, MAX_DEPTH, MAX_STATE, MAX_RANK = 12, 8192, 64, 64, 1024
MAX_INNER, MAX_INPUT_SIZE, MAX_CHANNELS, MAX_CLASSES, MAX_NAME_BYTES = 32768, 32768, 8, 64, 127
FLOAT32_MIN, FLOAT32_MAX = 2.0 ** -126, (2.0 - 2.0 ** -23) * 2.0 ** 127


class ConfigError(ValueError):
    """A configuration that no HyM-UNet can have; the message names the field."""


@dataclasses.dataclass
class Config:
    """HyM-UNet's hyper-parameters and the pre- and post-processing that belong to them.

    ``dims`` has one entry a stage (S of them), ``depths`` S, ``decoder_depths`` S-1.
    ``conv_stages`` stages are convolutional, the rest are Mamba (0 to S).
    ``dt_rank`` is ``"auto"`` (ceil(C / 16)) or an integer.  ``skip`` is ``"mgf"`` or
    ``"concat"``.  ``mean`` and ``std`` have one entry a channel, for pixels from 0 to 1;
    ``classes`` one name a class, class 0 being the background where there are several.
    """

    dims: List[int] = dataclasses.field(default_factory=lambda: [32, 64, 128, 256, 512])
    depths: List[int] = dataclasses.field(default_factory=lambda: [2, 2, 2, 2, 2])
    conv_stages: int = 2
    decoder_depths: List[int] = dataclasses.field(default_factory=lambda: [1, 1, 1, 1])
    in_channels: int = 3
    num_classes: int = 1
    d_state: int = 16
    ssm_ratio: float = 2.0
    dt_rank: Union[str, int] = "auto"
    skip: str = "mgf"
    input_size: List[int] = dataclasses.field(default_factory=lambda: [256, 256])
    mean: List[float] = dataclasses.field(default_factory=lambda: list(IMAGENET_MEAN))
    std: List[float] = dataclasses.field(default_factory=lambda: list(IMAGENET_STD))
    classes: List[str] = dataclasses.field(default_factory=lambda: ["lesion"])
    threshold: float = 0.5

    def __post_init__(self) -> None:
        self.validate()

    @property
    def stages(self) -> int:
        """S, the number of encoder stages."""
        return len(self.dims)

    @property
    def multiple(self) -> int:
        """What the network's input height and width must be multiples of."""
        return 2 ** (self.stages - 1)

    def inner(self, channels: int) -> int:
        """D, the width of the state-space branch in a block of ``channels``."""
        return int(self.ssm_ratio * channels)

    def rank(self, channels: int) -> int:
        """R, the rank of the step size's projection in a block of ``channels``."""
        return math.ceil(channels / 16) if self.dt_rank == "auto" else int(self.dt_rank)

    def validate(self) -> None:
        """Raise :class:`ConfigError` naming the first field that is out of range."""
        _require(isinstance(self.dims, (list, tuple)) and 1 <= len(self.dims) <= MAX_STAGES,
                 f"dims must be a list of 1 to {MAX_STAGES} stages, is {self.dims!r}")
        stages = len(self.dims)
        _require_ints("dims", self.dims, stages, MAX_DIM)
        _require_ints("depths", self.depths, stages, MAX_DEPTH)
        _require_ints("decoder_depths", self.decoder_depths, stages - 1, MAX_DEPTH)
        _require_range("conv_stages", self.conv_stages, 0, stages)
        _require_range("in_channels", self.in_channels, 1, MAX_CHANNELS)
        _require_range("num_classes", self.num_classes, 1, MAX_CLASSES)
        self._validate_scan()
        _require(self.skip in ("mgf", "concat"),
                 f"skip must be \"mgf\" or \"concat\", is {self.skip!r}")
        self._validate_pictures()

    def _validate_scan(self) -> None:
        _require_range("d_state", self.d_state, 1, MAX_STATE)
        _require(_is_number(self.ssm_ratio) and 0 < self.ssm_ratio < MAX_INNER + 1
                 and all(1 <= self.inner(c) <= MAX_INNER for c in self.dims[self.conv_stages:]),
                 f"ssm_ratio must be positive and make 1 to {MAX_INNER} inner channels in each "
                 f"Mamba stage, is {self.ssm_ratio!r}")
        _require(self.dt_rank == "auto"
                 or (_is_int(self.dt_rank) and 1 <= self.dt_rank <= MAX_RANK),
                 f"dt_rank must be \"auto\" or 1 to {MAX_RANK}, is {self.dt_rank!r}")

    def _validate_pictures(self) -> None:
        _require_ints("input_size", self.input_size, 2, MAX_INPUT_SIZE)
        for name, low in (("mean", -FLOAT32_MAX), ("std", FLOAT32_MIN)):
            values = getattr(self, name)
            _require(isinstance(values, (list, tuple)) and len(values) == self.in_channels
                     and all(_is_number(v) and low <= v <= FLOAT32_MAX for v in values),
                     f"{name} must have {self.in_channels} {'positive ' if low > 0 else ''}numbers "
                     f"in the range of float32, is {values!r}")
        _require(isinstance(self.classes, (list, tuple)) and len(self.classes) == self.num_classes
                 and all(_is_name(name) for name in self.classes),
                 f"classes must have {self.num_classes} names of at most {MAX_NAME_BYTES} bytes of UTF-8, "
                 f"is {self.classes!r}")
        _require(_is_number(self.threshold) and 0 < self.threshold < 1
                 and 0 < _float32(self.threshold) < 1,
                 f"threshold must lie between 0 and 1, is {self.threshold!r}")

    def require_pictures(self) -> None:
        """ConfigError where folders of RGB pictures at ``input_size`` are no input of the network."""
        _require(self.in_channels == 3,
                 f"in_channels must be 3, for the pictures of folders are RGB, is {self.in_channels}")
        _require(all(size % self.multiple == 0 for size in self.input_size),
                 f"input_size must be multiples of {self.multiple} with {self.stages} stages, is {self.input_size!r}")

    def to_json(self) -> str:
        """The string that a model file carries as ``hymn.config``."""
        head = {"architecture": ARCHITECTURE, "version": VERSION}
        return json.dumps({**head, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The configuration in ``text``; :class:`ConfigError` says what is wrong with it."""
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"hymn.config is not JSON: {error}") from error
        _require(isinstance(fields, dict), "hymn.config is not a JSON object")
        architecture = fields.pop("architecture", None)
        _require(architecture == ARCHITECTURE,
                 f"architecture must be \"{ARCHITECTURE}\", is {architecture!r}")
        version = fields.pop("version", None)
        _require(version == VERSION, f"version must be {VERSION}, is {version!r}")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        _require(not unknown, f"unknown fields: {', '.join(unknown)}")
        missing = sorted(known - set(fields))
        _require(not missing, f"missing fields: {', '.join(missing)}")
        return cls(**fields)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "Config":
        """One of the sizes in use (``tiny``, ``small``, ``base``), with fields overridden."""
        if name not in PRESETS:
            raise ConfigError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
        dims, depths = PRESETS[name]
        return cls(**{"dims": list(dims), "depths": list(depths), **overrides})


PRESETS: Dict[str, Tuple[Tuple[int, ...], Tuple[int, ...]]] = {
    "tiny": ((16, 32, 64, 128, 256), (1, 1, 1, 1, 1)),
    "small": ((24, 48, 96, 192, 384), (1, 1, 2, 2, 2)),
    "base": ((32, 64, 128, 256, 512), (2, 2, 2, 2, 2)),
}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _is_name(value: Any) -> bool:
    try:
        return isinstance(value, str) and "\0" not in value and len(value.encode()) <= MAX_NAME_BYTES
    except UnicodeEncodeError:  # half a surrogate pair, which is no text
        return False


def _require_ints(name: str, values: Any, count: int, high: int) -> None:
    _require(isinstance(values, (list, tuple)) and len(values) == count
             and all(_is_int(v) and 1 <= v <= high for v in values),
             f"{name} must be {count} integers from 1 to {high}, is {values!r}")


def _require_range(name: str, value: Any, low: int, high: int) -> None:
    _require(_is_int(value) and low <= value <= high,
             f"{name} must be {low} to {high}, is {value!r}")
