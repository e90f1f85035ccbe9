# SPDX-License-Identifier: MIT
"""The hybrid loss: Dice, boundary-weighted cross-entropy and a boundary-weighted IoU term.

For logits x, p = sigmoid(x) and a mask m in {0, 1}, per image, sums over pixels::

    w    = 1 + 5 * |mean_31x31(m) - m|                       large beside the outline
    BCE  = sum(w * bce(x, m)) / sum(w)
    IoU  = 1 - (sum(w*p*m) + 1) / (sum(w*(p + m - p*m)) + 1)
    Dice = 1 - (2*sum(p*m) + 1) / (sum(p) + sum(m) + 1)
    loss = BCE + IoU + Dice, averaged over the batch

The weight w and the weighted IoU are F3Net's (Wei et al., AAAI 2020, arXiv 1911.11445), here
as the paper's boundary-weighted cross-entropy and its boundary term.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

BOUNDARY_WINDOW = 31
BOUNDARY_GAIN = 5.0
SMOOTH = 1.0


def boundary_weight(mask: Tensor) -> Tensor:
    """w of the formula for masks (N, 1, H, W): 1 far from the outline, up to 6 beside it."""
    window = BOUNDARY_WINDOW
    mean = F.avg_pool2d(mask, window, stride=1, padding=window // 2, count_include_pad=False)
    return 1.0 + BOUNDARY_GAIN * (mean - mask).abs()


def hybrid_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """The loss of logits and float masks, both (N, 1, H, W); computed in 32 bits."""
    logits, mask = logits.float(), mask.float()
    weight = boundary_weight(mask)
    probability = logits.sigmoid()
    overlap = probability * mask
    axes = (1, 2, 3)
    entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    cross_entropy = (weight * entropy).sum(axes) / weight.sum(axes)
    union = (weight * (probability + mask - overlap)).sum(axes)
    iou = 1.0 - ((weight * overlap).sum(axes) + SMOOTH) / (union + SMOOTH)
    total = probability.sum(axes) + mask.sum(axes)
    dice = 1.0 - (2.0 * overlap.sum(axes) + SMOOTH) / (total + SMOOTH)
    return (cross_entropy + iou + dice).mean()
