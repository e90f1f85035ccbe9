# SPDX-License-Identifier: MIT
"""Safetensors files in plain Python, for systems whose packages have no ``safetensors``.

The format: an 8-byte little-endian header length, a JSON header that gives every tensor's
dtype, shape and byte range, and the tensors' bytes, little-endian and without gaps.
"""

from __future__ import annotations

import json
import math
import os
import struct
from typing import Any, Dict, Mapping, Tuple

import numpy
import torch
from torch import Tensor

from .files import write_file

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ALIGNMENT = 8


def save(path: "os.PathLike[str] | str", tensors: Mapping[str, Tensor],
         metadata: Mapping[str, str]) -> None:
    """Write ``tensors``, in their order, and ``metadata`` to ``path``, replacing it at once."""
    header: Dict[str, Any] = {"__metadata__": dict(metadata)}
    payload = []
    offset = 0
    for name, tensor in tensors.items():
        data = _to_bytes(tensor)
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + len(data)]}
        payload.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    write_file(path, [struct.pack("<Q", len(text)) + text, *payload])


def load(path: "os.PathLike[str] | str") -> Tuple[Dict[str, Tensor], Dict[str, str]]:
    """The tensors and the metadata of the file at ``path``; ValueError where it is none."""
    with open(path, "rb") as file:
        content = file.read()
    if len(content) < 8:
        raise ValueError(f"{path}: too short for a safetensors file")
    length = struct.unpack_from("<Q", content)[0]
    if length > len(content) - 8:
        raise ValueError(f"{path}: the header runs past the end of the file")
    try:
        header = json.loads(content[8:8 + length])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise ValueError(f"{path}: the header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
        raise ValueError(f"{path}: the metadata are not strings by name")
    data = memoryview(content)[8 + length:]
    return {name: _from_bytes(path, name, entry, data) for name, entry in header.items()}, metadata


def _to_bytes(tensor: Tensor) -> bytes:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    array = tensor.numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _from_bytes(path: Any, name: str, entry: Any, data: memoryview) -> Tensor:
    if not isinstance(entry, dict) or not _are_sizes(entry.get("shape")) \
            or not _are_sizes(entry.get("data_offsets")) or len(entry["data_offsets"]) != 2:
        raise ValueError(f"{path}: {name} has no shape and range of bytes")
    dtype = _DTYPES.get(str(entry.get("dtype")))
    if dtype is None:
        raise ValueError(f"{path}: {name} has the dtype {entry.get('dtype')}")
    begin, end = entry["data_offsets"]
    stored = torch.int16 if dtype == torch.bfloat16 else dtype
    code = torch.empty(0, dtype=stored).numpy().dtype.newbyteorder("<")
    count = math.prod(entry["shape"])
    if not begin <= end <= len(data) or end - begin != count * code.itemsize:
        raise ValueError(f"{path}: {name} does not fit the file")
    array = numpy.frombuffer(data[begin:end], code).astype(code.newbyteorder("="))
    return torch.from_numpy(array).view(dtype).reshape(entry["shape"])


def _are_sizes(values: Any) -> bool:
    """Whether that is a list of whole numbers from 0 on that a tensor's sizes can be."""
    return isinstance(values, list) and all(
        isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2 ** 48 for x in values)
