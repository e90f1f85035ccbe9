# SPDX-License-Identifier: MIT
"""Mean per-image Dice and IoU of a network on a folder of samples."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .data import Samples, normalise
from .network import HyMUNet


class Scores(NamedTuple):
    """Means over the images; an image without lesion that is left empty scores 1."""

    dice: float
    iou: float


def overlap_scores(predicted: Tensor, masks: Tensor) -> Tensor:
    """(N, 2): Dice and IoU of every pair of boolean masks (N, 1, H, W)."""
    axes = (1, 2, 3)
    both = (predicted & masks).sum(axes).double()
    sizes = predicted.sum(axes).double() + masks.sum(axes).double()
    dice = torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), torch.ones_like(both))
    iou = torch.where(sizes > 0, both / (sizes - both).clamp(min=1), torch.ones_like(both))
    return torch.stack([dice, iou], 1)


@torch.no_grad()
def evaluate(network: HyMUNet, samples: Samples, batch: int = 50) -> Scores:
    """The network's scores in float32 at the samples' own size; leaves it in evaluation mode."""
    network.eval()
    threshold = torch.logit(torch.tensor(network.config.threshold)).item()
    results = []
    for first in range(0, len(samples.names), batch):
        images = samples.images[first:first + batch]
        logits = network(normalise(images, network.config))
        results.append(overlap_scores(logits >= threshold,
                                      samples.masks[first:first + batch] > 0))
    dice, iou = torch.cat(results).mean(0).tolist()
    return Scores(dice, iou)
