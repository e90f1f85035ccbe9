# SPDX-License-Identifier: MIT
"""What training adds around the network and export leaves out: coarser heads and teachers."""

from __future__ import annotations

from typing import List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config
from .losses import Weights, segmentation_loss
from .network import HyMUNet


class Supervised(nn.Module):
    """A network with 1x1 heads of their own on its coarser decoder stages 1 to ``levels``, from
    which the loss is taken too (deep supervision, Lee et al., AISTATS 2015)."""

    def __init__(self, network: HyMUNet, levels: int) -> None:
        super().__init__()
        self.network = network
        config = network.config
        levels = min(levels, max(config.stages - 2, 0))
        self.heads = nn.ModuleList(nn.Conv2d(config.dims[i + 1], config.num_classes, 1)
                                   for i in range(levels))

    def forward(self, x: Tensor) -> List[Tensor]:
        """Logits at full, half, quarter ... resolution."""
        features = self.network.features(x)[::-1]
        coarser = zip(self.heads, features[1:])
        return [self.network.head(features[0]), *(head(feature) for head, feature in coarser)]


def pyramid_loss(pyramid: Sequence[Tensor], target: Tensor, weights: Weights) -> Tensor:
    """The mean loss of logits at several resolutions, each counting half of the one above it.

    A coarser level's target is ``target`` at the pixel nearest to each of its centres.
    """
    total, share = torch.zeros((), device=target.device), 0.0
    for level, logits in enumerate(pyramid):
        here = target
        if logits.shape[2:] != target.shape[2:]:
            here = F.interpolate(target, logits.shape[2:], mode="nearest-exact")
        total = total + 0.5 ** level * segmentation_loss(logits, here, weights)
        share += 0.5 ** level
    return total / share


def require_teacher(teacher: Config, student: Config, name: str) -> None:
    """ValueError where a teacher, called ``name``, cannot take the student's input, normalised for
    the student as it is, or has other classes."""
    for field in ("num_classes", "in_channels", "mean", "std"):
        theirs, ours = getattr(teacher, field), getattr(student, field)
        if field in ("mean", "std"):
            theirs, ours = list(theirs), list(ours)
        if theirs != ours:
            raise ValueError(f"{name}: {field} must be the student's, {ours}, is {theirs}")
    if any(size % teacher.multiple for size in student.input_size):
        raise ValueError(f"{name}: takes sizes that are multiples of {teacher.multiple}, but the "
                         f"student's input_size is {list(student.input_size)}")


class Teachers:
    """Finished networks whose mean probabilities a student learns from (Hinton et al., arXiv
    1503.02531): they smooth over what annotators drew differently from one picture to the next."""

    def __init__(self, networks: Sequence[HyMUNet]) -> None:
        self.networks = [network.eval().requires_grad_(False) for network in networks]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Probabilities (N, classes, H, W) of the network's input ``x``, as a soft target."""
        total: Optional[Tensor] = None
        for network in self.networks:
            logits = network(x).float()
            here = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
            total = here if total is None else total + here
        if total is None:
            raise ValueError("no teachers")
        return total / len(self.networks)
