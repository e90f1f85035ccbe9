# SPDX-License-Identifier: MIT
"""The hybrid loss: Dice, boundary-weighted cross-entropy, boundary-weighted IoU and a boundary term.

With one class, p = sigmoid(logits) and m is the mask, 0 or 1.  With several, p = softmax(logits)
and m is one-hot, and the overlap terms take every class but the background.  Per image and class,
sums over pixels::

    w        = 1 + 5 * |mean_31x31(m) - m|                          1 far from the outline, to 6
    entropy  = sum(w * ce(logits, m)) / sum(w)                      w of the class where it is largest
    iou      = 1 - (sum(w*p*m) + 1) / (sum(w*(p + m - p*m)) + 1)
    dice     = 1 - (2*sum(p*m) + 1) / (sum(p) + sum(m) + 1)
    edge(x)  = max_3x3(1 - x) - (1 - x)                             the shape's own outermost pixels
    near(x)  = max_7x7(edge(x))                                     three pixels to either side
    P        = (sum(edge(p) * near(m)) + 1) / (sum(edge(p)) + 1)
    R        = (sum(edge(m) * near(p)) + 1) / (sum(edge(m)) + 1)
    boundary = 1 - 2*P*R / (P + R)
    loss     = the terms by their weights, averaged over classes and images

Sources: ``dice`` is V-Net's (Milletari et al., 3DV 2016, arXiv 1606.04797) with plain sums below;
``w``, the weighted ``entropy`` and the weighted ``iou`` are F3Net's (Wei et al., AAAI 2020, arXiv
1911.11445); ``boundary`` is the boundary F1 of Bokhovkin and Burnaev (ISNN 2019, arXiv 1905.07852),
with a tolerance of three pixels, as annotators disagree by that much.  The mixture of overlap,
boundary-weighted entropy and a boundary term is HyM-UNet's (arXiv 2511.17988), which leaves the
boundary term's form and the weights open: they are :data:`LOSSES`.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

BOUNDARY_WINDOW = 31
BOUNDARY_GAIN = 5.0
BOUNDARY_TOLERANCE = 7
SMOOTH = 1.0


class Weights(NamedTuple):
    """What each term counts; ``gain`` 0 makes the cross-entropy and the IoU plain."""

    dice: float = 1.0
    entropy: float = 1.0
    iou: float = 1.0
    boundary: float = 0.5
    gain: float = BOUNDARY_GAIN


LOSSES: Dict[str, Weights] = {
    "hybrid": Weights(),
    "region": Weights(boundary=0.0),
    "bce": Weights(dice=0.0, iou=0.0, boundary=0.0, gain=0.0),
}


def boundary_weight(mask: Tensor, gain: float = BOUNDARY_GAIN) -> Tensor:
    """w of the formula for masks (N, K, H, W)."""
    window = BOUNDARY_WINDOW
    mean = mask
    for kernel in ((window, 1), (1, window)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        mean = F.avg_pool2d(mean, kernel, stride=1, padding=padding, count_include_pad=False)
    return 1.0 + gain * (mean - mask).abs()


def edge(shape: Tensor) -> Tensor:
    """The outermost pixels of a soft shape (N, K, H, W) in [0, 1]."""
    outside = 1.0 - shape
    return _maximum(outside, 3) - outside


def segmentation_loss(logits: Tensor, target: Tensor, weights: Weights = Weights()) -> Tensor:
    """The loss of logits (N, classes, H, W), computed in 32 bits.

    ``target`` is, with one class, the mask (N, 1, H, W; 0 to 1), and with several, the class of
    every pixel (N, 1, H, W; 0 being the background) or a probability of each (N, classes, H, W).
    """
    logits = logits.float()
    probability, mask, entropy = _compare(logits, target)
    weight = boundary_weight(mask, weights.gain) if weights.gain else torch.ones_like(mask)
    pixel_weight = weight.amax(1, keepdim=True)
    axes = (2, 3)
    loss = weights.entropy * (pixel_weight * entropy).sum(axes) / pixel_weight.sum(axes)
    overlap = probability * mask
    if weights.iou:
        union = (weight * (probability + mask - overlap)).sum(axes)
        loss = loss + weights.iou * (1.0 - ((weight * overlap).sum(axes) + SMOOTH)
                                     / (union + SMOOTH))
    if weights.dice:
        total = probability.sum(axes) + mask.sum(axes)
        loss = loss + weights.dice * (1.0 - (2.0 * overlap.sum(axes) + SMOOTH) / (total + SMOOTH))
    if weights.boundary:
        loss = loss + weights.boundary * _boundary_term(probability, mask)
    return loss.mean()


def _compare(logits: Tensor, target: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Probabilities and masks (N, K, H, W), and the cross-entropy of every pixel (N, 1, H, W)."""
    classes = logits.shape[1]
    if classes == 1:
        mask = target.float()
        entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
        return logits.sigmoid(), mask, entropy
    if target.shape[1] == 1:
        target = F.one_hot(target.squeeze(1).long(), classes).permute(0, 3, 1, 2)
    mask = target.float()
    entropy = F.cross_entropy(logits, mask, reduction="none").unsqueeze(1)
    return logits.softmax(1)[:, 1:], mask[:, 1:], entropy


def _boundary_term(probability: Tensor, mask: Tensor) -> Tensor:
    axes = (2, 3)
    ours, theirs = edge(probability), edge(mask)
    near_ours, near_theirs = (_maximum(x, BOUNDARY_TOLERANCE) for x in (ours, theirs))
    precision = ((ours * near_theirs).sum(axes) + SMOOTH) / (ours.sum(axes) + SMOOTH)
    recall = ((theirs * near_ours).sum(axes) + SMOOTH) / (theirs.sum(axes) + SMOOTH)
    return 1.0 - 2.0 * precision * recall / (precision + recall)


def _maximum(x: Tensor, window: int) -> Tensor:
    for kernel in ((window, 1), (1, window)):
        x = F.max_pool2d(x, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
    return x
