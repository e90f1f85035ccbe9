# SPDX-License-Identifier: MIT
"""Model files: a network's ``state_dict`` and its configuration as one safetensors file.

Sixteen-bit files keep the matrices (convolutions and projections) in 16 bits and everything
whose range or rounding matters more than its size in 32: BN statistics, which exceed fp16's
range in trained networks, norms, biases, and the scan's A and D.
"""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterator, Mapping, Tuple

import torch
from torch import Tensor

from . import tensorfile
from .config import Config, ConfigError
from .network import HyMUNet

METADATA_KEY = "hymn.config"
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def stored_dtype(name: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which a file of ``dtype`` holds the tensor ``name``."""
    small = tensor.dim() < 2 or name.endswith((".A_logs", ".dt_projs_bias"))
    return torch.float32 if small else dtype


def file_tensors(state: Mapping[str, Tensor], dtype: torch.dtype,
                 uniform: bool = False) -> Dict[str, Tensor]:
    """The tensors of a model file, rounded to what they are stored as.

    ``uniform`` stores every tensor in ``dtype``.  OverflowError names a tensor that does not
    fit its dtype, ValueError one that holds NaN or infinity.
    """
    tensors = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")
        stored = tensor.to(dtype if uniform else stored_dtype(name, tensor, dtype))
        if not torch.isfinite(stored).all():
            raise OverflowError(f"{name} leaves the range of {stored.dtype}")
        tensors[name] = stored
    return tensors


def save_model(path: "os.PathLike[str] | str", state: Mapping[str, Tensor], config: Config,
               dtype: torch.dtype = torch.float32, uniform: bool = False) -> None:
    """Write a model file that the engine runs."""
    tensorfile.save(path, file_tensors(state, dtype, uniform), {METADATA_KEY: config.to_json()})


def load_model(path: "os.PathLike[str] | str",
               dtype: torch.dtype = torch.float32) -> Tuple[HyMUNet, Config]:
    """The network in a model file, in evaluation mode and with its weights in ``dtype``.

    ValueError names a file that holds none."""
    tensors, metadata = tensorfile.load(path)
    if METADATA_KEY not in metadata:
        raise ConfigError(f"{path}: no {METADATA_KEY} in the metadata")
    with naming(path):
        config = Config.from_json(metadata[METADATA_KEY])
        network = HyMUNet(config).to(dtype)
        network.load_state_dict(fit(tensors, network), strict=False)
    return network.eval(), config


def fit(weights: Mapping[str, Tensor], network: HyMUNet) -> Dict[str, Tensor]:
    """``weights`` in the order of the network's, without counters; ValueError says what does not
    fit."""
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - counters - set(weights))
    strangers = sorted(set(weights) - set(expected))
    shapes = sorted(name for name in set(weights) & set(expected) - counters
                    if weights[name].shape != expected[name].shape)
    for what, names in (("lacks", missing), ("has besides", strangers),
                        ("has in another shape", shapes)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise ValueError(f"it {what} {', '.join(names[:5])}{more}")
    return {name: weights[name] for name in expected if name not in counters}


@contextlib.contextmanager
def naming(path: "os.PathLike[str] | str") -> Iterator[None]:
    """A ValueError from within names the file that it is about, in one line."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
