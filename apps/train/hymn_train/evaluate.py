# SPDX-License-Identifier: MIT
"""Mean per-image Dice and IoU of a network on a folder of samples."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Tuple

import torch
from torch import Tensor

from .data import Samples, normalise
from .network import HyMUNet


class Scores(NamedTuple):
    """Means over images and, where there are several classes, over all but the background.

    An image without a class that is left without it scores 1.
    """

    dice: float
    iou: float


def overlap_scores(predicted: Tensor, masks: Tensor) -> Tensor:
    """(N, 2): Dice and IoU of every pair of boolean masks (N, K, H, W), means over K."""
    axes = (2, 3)
    both = (predicted & masks).sum(axes).double()
    sizes = predicted.sum(axes).double() + masks.sum(axes).double()
    dice = torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), torch.ones_like(both))
    iou = torch.where(sizes > 0, both / (sizes - both).clamp(min=1), torch.ones_like(both))
    return torch.stack([dice.mean(1), iou.mean(1)], 1)


@torch.no_grad()
def predict(network: HyMUNet, samples: Samples, batch: int = 50) -> Iterator[Tuple[Tensor, Tensor]]:
    """Boolean masks, predicted and true, (N, K, H, W) a batch: K = 1, or every class but the
    background.  In float32 at the samples' own size; leaves the network in evaluation mode."""
    network.eval()
    threshold = torch.logit(torch.tensor(network.config.threshold)).item()
    classes = torch.arange(1, network.config.num_classes, device=samples.images.device)
    for first in range(0, len(samples.names), batch):
        logits = network(normalise(samples.images[first:first + batch], network.config))
        masks = samples.masks[first:first + batch]
        if network.config.num_classes == 1:
            yield logits >= threshold, masks > 0
        else:
            classes = classes.view(1, -1, 1, 1)
            yield logits.argmax(1, keepdim=True) == classes, masks == classes


def evaluate(network: HyMUNet, samples: Samples, batch: int = 50) -> Scores:
    """The network's scores (see :func:`predict`)."""
    results = [overlap_scores(*pair) for pair in predict(network, samples, batch)]
    dice, iou = torch.cat(results).mean(0).tolist()
    return Scores(dice, iou)
