# SPDX-License-Identifier: MIT
"""Folders of images and masks, held in memory as 8-bit tensors.

The layout is ISIC's: ``images/NAME.jpg`` (or .jpeg, .png) beside
``masks/NAME_segmentation.png`` (or ``masks/NAME.png``), of the same size.  With one class a mask
is cut at one half of its range, or 1 is inside where nothing is above 1, as in ``hymn eval``; with
several, the grey value of a pixel is its class, 0 being the background.  Grey values are those
that the file holds, in 1, 2, 4, 8 or 16 bits.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List, NamedTuple, Tuple, TypeVar

import numpy
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .config import Config

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
Form = TypeVar("Form")


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
        name = f"{seed}/{samples.names[i]}".encode(errors="surrogateescape")
        return hashlib.sha256(name).digest()

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
    picture = _read(image, _colours)
    values, top = _read(mask, lambda opened: _stored(opened, _depth(mask), classes > 1))
    if values.shape != (picture.height, picture.width):
        raise ValueError(f"{mask}: is {values.shape[1]} x {values.shape[0]} pixels, but the "
                         f"picture {image} is {picture.width} x {picture.height}")
    pixels = numpy.asarray(picture.resize(extent, Image.BILINEAR))
    if classes == 1:
        return pixels, _cut(values, top, extent)
    values = numpy.asarray(Image.fromarray(values).resize(extent, Image.NEAREST))
    if values.max() >= classes:
        raise ValueError(f"{mask}: has the class {values.max()}, of {classes}")
    return pixels, values.astype(numpy.uint8)


def _read(path: pathlib.Path, form: Callable[[Image.Image], Form]) -> Form:
    """The picture at ``path`` in a form that makes Pillow decode it; OSError names a damaged one."""
    try:
        with Image.open(path) as opened:
            return form(opened)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
            Image.DecompressionBombError) as error:
        raise OSError(f"{path}: cannot be read: {error}") from error


def _colours(opened: Image.Image) -> Image.Image:
    """A picture in 8-bit RGB, the way up that EXIF tells."""
    turned = ImageOps.exif_transpose(opened)
    if turned.mode.startswith("I"):  # grey of 16 bits, which convert would clip
        turned = Image.fromarray(_to_8_bits(numpy.asarray(turned, numpy.int32), 65535))
    return turned.convert("RGB")


def _depth(path: pathlib.Path) -> int:
    """The bits of a sample in a PNG file: Pillow makes 8 of fewer."""
    with open(path, "rb") as file:
        header = file.read(25)
    return header[24] if header[12:16] == b"IHDR" else 8


def _stored(opened: Image.Image, depth: int, labels: bool) -> Tuple[numpy.ndarray, int]:
    """A mask's values (H, W) as the file holds them, int32, and the largest that could be.

    Of a palette they are the indices where ``labels`` are wanted, else the colours' grey.  ValueError where labels
    are wanted that the file does not hold, or Pillow does not tell.
    """
    if opened.mode.startswith("I"):
        return numpy.array(opened, numpy.int32), 65535
    if opened.mode == "1":
        return numpy.array(opened, numpy.int32), 1
    if opened.mode == "L" and depth < 8:
        top = 2 ** depth - 1
        return numpy.array(opened, numpy.int32) // (255 // top), top
    if labels:
        _require_labels(opened, depth)
    grey = opened if labels and opened.mode == "P" else opened.convert("L")
    return numpy.array(grey, numpy.int32), 255


def _require_labels(opened: Image.Image, depth: int) -> None:
    """ValueError where a picture is no mask of class numbers in 8 bits."""
    if opened.format == "JPEG":
        raise ValueError("it is a JPEG file, which cannot hold exact class numbers")
    if depth == 16:
        raise ValueError("it has 16 bits a sample and colours or transparency, of which Pillow reads 8")
    bands = numpy.asarray(opened.convert("RGB")) if opened.mode != "P" else None
    if bands is not None and (bands != bands[..., :1]).any():
        raise ValueError("it is a colour picture, not a mask of class numbers")


def _to_8_bits(values: numpy.ndarray, top: int) -> numpy.ndarray:
    """0 to ``top`` as 0 to 255, rounded to the nearest."""
    return ((values * 255 + top // 2) // top).astype(numpy.uint8)


def _cut(values: numpy.ndarray, top: int, extent: Tuple[int, int]) -> numpy.ndarray:
    """0 and 1, cut at one half after resizing; the value 1 is inside where nothing is above 1."""
    mask = Image.fromarray(_to_8_bits(values, top if values.max() > 1 else 1))
    return (numpy.asarray(mask.resize(extent, Image.BOX)) >= 128).astype(numpy.uint8)
