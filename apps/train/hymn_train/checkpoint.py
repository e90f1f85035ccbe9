# SPDX-License-Identifier: MIT
"""What ``torch.save`` wrote, read without running code from the file."""

from __future__ import annotations

import os
import pickle
import re
import struct
from collections.abc import Mapping
from typing import Any, Sequence

import torch

# What torch.load raises for files that are cut short, changed or of another kind.
_DAMAGE = (pickle.UnpicklingError, EOFError, RuntimeError, LookupError, ValueError, AssertionError,
           TypeError, AttributeError, OverflowError, MemoryError, struct.error)
# How torch.load names a class that it does not make: PyTorch 1.13, and 2.11.
_STRANGER = re.compile(r"Unsupported (?:class|global: GLOBAL) ([\w.]+\.\w+)")
_ADVICE = ("{path}: holds {kind} besides tensors, which is not loaded, for it could run code; where you trust the "
           "file, save its weights alone, by the name that they have in it: "
           "torch.save(torch.load(FILE, map_location='cpu', weights_only=False)['state_dict'], NEW)")


def read_checkpoint(path: "os.PathLike[str] | str", device: torch.device = torch.device("cpu"),
                    keys: Sequence[str] = ()) -> Any:
    """The content of the file at ``path``, its tensors on ``device``.

    With ``keys``, that must be a mapping that has them.  ValueError names a file that is no
    checkpoint, lacks some of them, or holds other objects than tensors, numbers and text, and
    then says how to save the weights alone.
    """
    with open(path, "rb") as file:
        try:
            content = torch.load(file, map_location=device, weights_only=True)
        except _DAMAGE as error:
            stranger = _STRANGER.search(str(error))
            if stranger and isinstance(error, pickle.UnpicklingError):
                raise ValueError(_ADVICE.format(path=path, kind=stranger[1])) from error
            raise ValueError(f"{path}: not a checkpoint, or damaged: {_brief(error)}") from error
    missing = [key for key in keys if not isinstance(content, Mapping) or key not in content]
    if missing:
        raise ValueError(f"{path}: not a checkpoint, or damaged: it lacks {', '.join(missing)}")
    return content


def _brief(error: BaseException) -> str:
    """The first line of what torch.load says, or what kind of error it is."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines and isinstance(error, RuntimeError) else type(error).__name__
