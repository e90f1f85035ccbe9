# SPDX-License-Identifier: MIT
"""Folders of images and masks, held in memory as 8-bit tensors.

The layout is ISIC's: ``images/NAME.jpg`` (or .jpeg, .png) beside
``masks/NAME_segmentation.png`` (or ``masks/NAME.png``), of the same size.  With one class a mask
is cut at one half, or 1 is inside where nothing is above 1, as in ``hymn eval``; with several, the
grey value of a pixel is its class, 0 being the background.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, NamedTuple, Tuple

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .config import Config

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class Samples(NamedTuple):
    """``images`` (N, 3, H, W) and ``masks`` (N, 1, H, W; the class of every pixel), both uint8."""

    names: List[str]
    images: Tensor
    masks: Tensor

    def to(self, device: torch.device) -> "Samples":
        """The same samples on ``device``."""
        return Samples(self.names, self.images.to(device), self.masks.to(device))

    def select(self, chosen: List[int]) -> "Samples":
        """The samples at those places, in that order."""
        return Samples([self.names[i] for i in chosen], self.images[chosen], self.masks[chosen])


def load_folder(folder: "os.PathLike[str] | str", size: Tuple[int, int], limit: int = 0,
                classes: int = 1) -> Samples:
    """Every pair of ``folder`` at ``size`` (height, width); the first ``limit`` where not 0."""
    root = pathlib.Path(folder)
    paths = sorted(p for p in (root / "images").iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    paths = paths[:limit] if limit else paths
    if not paths:
        raise FileNotFoundError(f"{root / 'images'}: no images")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pairs = list(pool.map(lambda path: _load_pair(path, mask_of(path), size, classes), paths))
    images = torch.from_numpy(numpy.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(numpy.stack([mask for _, mask in pairs])).unsqueeze(1)
    return Samples([path.stem for path in paths], images.contiguous(), masks)


def split(samples: Samples, share: float, seed: int = 0) -> Tuple[Samples, Samples]:
    """The samples but for a held-out ``share`` of them, and that share.

    What is held out are the samples whose names hash lowest with ``seed``, so the split depends
    on neither order nor machine, and samples that are added later move few of the others.
    ValueError where either part would be empty.
    """
    def rank(i: int) -> bytes:
        return hashlib.sha256(f"{seed}/{samples.names[i]}".encode()).digest()

    count = len(samples.names)
    held = round(count * share)
    if not 0 < held < count:
        raise ValueError(f"a share of {share} of {count} samples leaves one part empty")
    order = sorted(range(count), key=rank)
    return samples.select(sorted(order[held:])), samples.select(sorted(order[:held]))


def mask_of(image: pathlib.Path) -> pathlib.Path:
    """The mask that belongs to an image; FileNotFoundError where there is none."""
    folder = image.parent.parent / "masks"
    for name in (f"{image.stem}_segmentation.png", f"{image.stem}.png"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder}: no mask for {image.name}")


def normalise(images: Tensor, config: Config) -> Tensor:
    """8-bit or float images on a scale of 0 to 255, as the network's float32 input."""
    mean = torch.tensor(config.mean, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(config.std, device=images.device).view(1, -1, 1, 1)
    return (images.float() / 255.0 - mean) / std


def _load_pair(image: pathlib.Path, mask: pathlib.Path, size: Tuple[int, int],
               classes: int) -> Tuple[numpy.ndarray, numpy.ndarray]:
    extent = (size[1], size[0])
    picture = _read(image, lambda opened: ImageOps.exif_transpose(opened).convert("RGB"))
    labels = _read(mask, lambda opened: opened.copy() if classes > 1 and opened.mode == "P"
                   else opened.convert("L"))
    if labels.size != picture.size:
        raise ValueError(f"{mask}: is {labels.width} x {labels.height} pixels, but the picture {image} "
                         f"is {picture.width} x {picture.height}")
    pixels = numpy.asarray(picture.resize(extent, Image.BILINEAR))
    if classes == 1:
        return pixels, _cut(labels, extent)
    values = numpy.array(labels.resize(extent, Image.NEAREST), numpy.uint8)
    if values.max() >= classes:
        raise ValueError(f"{mask}: has the class {values.max()}, of {classes}")
    return pixels, values


def _read(path: pathlib.Path, form: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The picture at ``path`` in a form that makes Pillow decode it; OSError names a damaged one."""
    try:
        with Image.open(path) as opened:
            return form(opened)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
            Image.DecompressionBombError) as error:
        raise OSError(f"{path}: cannot be read: {error}") from error


def _cut(mask: Image.Image, extent: Tuple[int, int]) -> numpy.ndarray:
    """0 and 1, cut at one half after resizing; the grey value 1 is inside where nothing is above 1."""
    values = numpy.asarray(mask)
    if values.max() <= 1:
        mask = Image.fromarray(values * 255)
    return (numpy.asarray(mask.resize(extent, Image.BOX)) >= 128).astype(numpy.uint8)
