# SPDX-License-Identifier: MIT
"""Augmentation of whole batches on the device that holds them.

Every picture gets its own affine map (flips, quarter turns, and often a small rotation,
zoom, stretch and shift), sometimes a smooth elastic field, all in one resampling; then
brightness, contrast, saturation, gamma and a tint.
"""

from __future__ import annotations

import functools
import math
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

FREE_MOTION = 0.7
ROTATION = math.radians(30)
ZOOM = math.log(1.35)
STRETCH = math.log(1.15)
SHIFT = 0.15
ELASTIC = 0.3
ELASTIC_REACH = 0.08
ELASTIC_KNOTS = 6
LIGHT = 0.3
SATURATION = 0.4
TINT = 0.12
GAMMA = 0.35
NOISE = 6.0


def augment(images: Tensor, masks: Tensor, generator: torch.Generator,
            classes: int = 1) -> Tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) and masks (N, 1, H, W), uint8 -> the same as float32, augmented.

    Images stay on the scale of 0 to 255.  Masks stay whole numbers: with one class they are
    resampled like the pictures and cut at one half, with several each pixel takes the nearest.
    """
    grid = _grid(images.shape, generator)

    def move(x: Tensor, mode: str) -> Tensor:
        return F.grid_sample(x, grid, mode=mode, padding_mode="border", align_corners=False)

    if classes == 1:
        moved = move(torch.cat([images.float(), masks.float()], 1), "bilinear")
        colours, outline = moved[:, :3], (moved[:, 3:] >= 0.5).float()
    else:
        colours, outline = move(images.float(), "bilinear"), move(masks.float(), "nearest")
    return _recolour(colours, generator), outline


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers in [-1, 1) on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device) * 2.0 - 1.0


def _grid(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """(N, H, W, 2): where in the source every output pixel of every picture lies."""
    count = shape[0]
    device = generator.device
    free = (torch.rand(count, generator=generator, device=device) < FREE_MOTION).float()
    turns = torch.randint(4, (count,), generator=generator, device=device)
    angle = turns * (math.pi / 2) + _uniform(generator, count) * ROTATION * free
    zoom = _uniform(generator, count) * ZOOM * free
    stretch = _uniform(generator, count) * STRETCH * free
    mirror = torch.where(_uniform(generator, count) < 0, -1.0, 1.0)
    shift = _uniform(generator, count, 2) * SHIFT * free.unsqueeze(1)
    wide, tall = torch.exp(zoom + stretch), torch.exp(zoom - stretch)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    rows = [torch.stack([cosine * wide * mirror, -sine * tall, shift[:, 0]], 1),
            torch.stack([sine * wide * mirror, cosine * tall, shift[:, 1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(shape), align_corners=False)
    bends = (torch.rand(count, 1, 1, 1, generator=generator, device=device) < ELASTIC).float()
    field = _uniform(generator, count, 2, ELASTIC_KNOTS, ELASTIC_KNOTS) * ELASTIC_REACH * bends
    rows, columns = (_smooth(extent, device) for extent in shape[2:])
    return grid + torch.einsum("hi,ncij,wj->nhwc", rows, field, columns)


@functools.lru_cache(maxsize=8)
def _smooth(extent: int, device: torch.device) -> Tensor:
    """(extent, ELASTIC_KNOTS): the matrix that interpolates bicubically between knots."""
    knots = torch.eye(ELASTIC_KNOTS).view(1, ELASTIC_KNOTS, ELASTIC_KNOTS, 1)
    knots = knots.expand(-1, -1, -1, ELASTIC_KNOTS)
    smooth = F.interpolate(knots, (extent, ELASTIC_KNOTS), mode="bicubic", align_corners=True)
    return smooth[0, :, :, 0].t().contiguous().to(device)


def _recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    count = images.shape[0]

    def factor(reach: float, channels: int = 1) -> Tensor:
        return 1.0 + reach * _uniform(generator, count, channels, 1, 1)

    images = (images * factor(LIGHT) * factor(TINT, 3)).clamp(0.0, 255.0)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * factor(LIGHT)
    grey = images.mean(1, keepdim=True)
    images = (grey + (images - grey) * factor(SATURATION)).clamp(0.0, 255.0)
    gamma = torch.exp(GAMMA * _uniform(generator, count, 1, 1, 1))
    images = 255.0 * torch.pow(images / 255.0 + 1e-4, gamma)
    level = NOISE * torch.rand(count, 1, 1, 1, generator=generator, device=images.device)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return (images + level * noise).clamp(0.0, 255.0)
