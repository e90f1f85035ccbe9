# SPDX-License-Identifier: MIT
"""Checkpoints of other trainers as the state_dict that a model file holds.

A checkpoint is what ``torch.save`` wrote, or a safetensors file.  The weights may lie under
``state_dict``, ``model`` or ``model_state_dict``, one inside the other, and their names may
start with ``module.`` (DataParallel) or ``_orig_mod.`` (torch.compile).
"""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping, Optional

from torch import Tensor

from . import tensorfile
from .checkpoint import read_checkpoint
from .export import METADATA_KEY

WRAPPERS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")


def read_weights(path: "os.PathLike[str] | str") -> Dict[str, Tensor]:
    """The tensors of a checkpoint by their plain names; ValueError where there are none."""
    if os.fspath(path).endswith(".safetensors"):
        content: Any = tensorfile.load(path)[0]
    else:
        content = read_checkpoint(path)
    return plain_names(unwrap(content, path))


def config_text(path: "os.PathLike[str] | str") -> Optional[str]:
    """What a safetensors file says of its architecture; None for one that does not, or another."""
    if not os.fspath(path).endswith(".safetensors"):
        return None
    return tensorfile.load(path)[1].get(METADATA_KEY)


def unwrap(content: Any, path: Any) -> Mapping[str, Tensor]:
    """The mapping from names to tensors inside ``content``; ``path`` is for the message."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS
                      if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    weights = {name: x for name, x in content.items() if isinstance(name, str)
               and isinstance(x, Tensor)} if isinstance(content, Mapping) else {}
    if not weights:
        raise ValueError(f"{path}: no state_dict in it, nor under {', '.join(WRAPPERS)}")
    return weights


def plain_names(weights: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """The same tensors without the prefixes that wrappers put before every name."""
    names = list(weights)
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if all(name.startswith(prefix) for name in names):
                names = [name[len(prefix):] for name in names]
                stripped = True
    return dict(zip(names, weights.values()))
