# SPDX-License-Identifier: MIT
"""The losses against the formulas of losses.py, written out with NumPy loops, and their limits."""

from __future__ import annotations

import unittest
from typing import Tuple

import numpy
import torch

from hymn_train.losses import LOSSES, Weights, boundary_weight, segmentation_loss
from hymn_train.supervised import pyramid_loss

TERMS = ("dice", "entropy", "iou", "boundary")


def window(x: numpy.ndarray, size: int, kind: str) -> numpy.ndarray:
    """The mean or maximum of the window of every pixel, of what lies inside the picture."""
    half, out = size // 2, numpy.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            part = x[max(i - half, 0):i + half + 1, max(j - half, 0):j + half + 1]
            out[i, j] = part.mean() if kind == "mean" else part.max()
    return out


def class_terms(p: numpy.ndarray, m: numpy.ndarray) -> Tuple[float, float, float, numpy.ndarray]:
    """Dice, IoU and boundary of one class of one image, and its w."""
    w = 1 + 5 * abs(window(m, 31, "mean") - m)
    dice = 1 - (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1)
    iou = 1 - ((w * p * m).sum() + 1) / ((w * (p + m - p * m)).sum() + 1)

    def edge(x: numpy.ndarray) -> numpy.ndarray:
        return window(1 - x, 3, "max") - (1 - x)

    ours, theirs = edge(p), edge(m)
    precision = ((ours * window(theirs, 7, "max")).sum() + 1) / (ours.sum() + 1)
    recall = ((theirs * window(ours, 7, "max")).sum() + 1) / (theirs.sum() + 1)
    return dice, iou, 1 - 2 * precision * recall / (precision + recall), w


class Losses(unittest.TestCase):
    """Every term by itself, for one class and several."""

    def setUp(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.logits = torch.randn(2, 4, 40, 36, generator=generator, dtype=torch.float64)
        self.labels = torch.zeros(2, 1, 40, 36)
        self.labels[0, 0, 5:30, 8:20] = 1
        self.labels[0, 0, 20:38, 15:33] = 2
        self.labels[1, 0, :12, :] = 2

    def terms(self, logits: torch.Tensor, target: torch.Tensor) -> dict:
        """Each term of the loss alone."""
        off = {name: 0.0 for name in TERMS}
        return {name: float(segmentation_loss(logits, target, Weights(**{**off, name: 1.0})))
                for name in TERMS}

    def expected(self, p: numpy.ndarray, m: numpy.ndarray, ce: numpy.ndarray) -> dict:
        """The same from probabilities and masks (N, K, H, W) and entropies (N, H, W)."""
        rows = []
        for i in range(p.shape[0]):
            classes = [class_terms(p[i, k], m[i, k]) for k in range(p.shape[1])]
            w = numpy.max([x[3] for x in classes], 0)
            overlap = numpy.mean([x[:3] for x in classes], 0)
            rows.append((overlap[0], (w * ce[i]).sum() / w.sum(), overlap[1], overlap[2]))
        return dict(zip(TERMS, numpy.mean(rows, 0)))

    def check(self, found: dict, expected: dict) -> None:
        for name in TERMS:
            self.assertAlmostEqual(found[name], expected[name], 5, name)

    def test_one_class(self) -> None:
        logits, mask = self.logits[:, :1], (self.labels > 0).float()
        p, m = torch.sigmoid(logits).numpy(), mask.double().numpy()
        ce = -(m * numpy.log(p) + (1 - m) * numpy.log(1 - p))[:, 0]
        self.check(self.terms(logits, mask), self.expected(p, m, ce))

    def test_several_classes(self) -> None:
        p = torch.softmax(self.logits, 1).numpy()
        labels = self.labels[:, 0].long().numpy()
        m = numpy.eye(4)[labels].transpose(0, 3, 1, 2)
        ce = -numpy.log(numpy.take_along_axis(p, labels[:, None], 1))[:, 0]
        expected = self.expected(p[:, 1:], m[:, 1:], ce)
        self.check(self.terms(self.logits, self.labels), expected)
        self.check(self.terms(self.logits, torch.from_numpy(m)), expected)

    def test_sum(self) -> None:
        mask = (self.labels > 0).float()
        terms = self.terms(self.logits[:, :1], mask)
        weights = LOSSES["hybrid"]
        total = sum(getattr(weights, name) * terms[name] for name in TERMS)
        self.assertAlmostEqual(float(segmentation_loss(self.logits[:, :1], mask)), total, 5)
        plain = torch.nn.functional.binary_cross_entropy_with_logits(
            self.logits[:, :1].float(), mask)
        bce = segmentation_loss(self.logits[:, :1], mask, LOSSES["bce"])
        self.assertAlmostEqual(float(bce), float(plain), 6)

    def test_limits(self) -> None:
        mask = torch.zeros(2, 1, 48, 48)
        mask[:, :, 10:30, 12:40] = 1
        for name in LOSSES:
            self.assertLess(float(segmentation_loss(40 * mask - 20, mask, LOSSES[name])), 1e-3)
        self.assertGreater(float(segmentation_loss(20 - 40 * mask, mask)), 3.5)
        empty = torch.zeros_like(mask)
        self.assertLess(float(segmentation_loss(empty - 20, empty)), 1e-3)

    def test_boundary_weight(self) -> None:
        mask = torch.zeros(1, 1, 100, 100)
        mask[:, :, :, 50:] = 1
        weight = boundary_weight(mask)[0, 0, 50]
        self.assertAlmostEqual(float(weight[10]), 1.0, 5)
        self.assertAlmostEqual(float(weight[50]), 1 + 5 * 15 / 31, 5)

    def test_pyramid(self) -> None:
        mask = torch.zeros(1, 1, 32, 32)
        mask[:, :, 8:24, 8:24] = 1
        right = [40 * mask[:, :, ::step, ::step] - 20 for step in (1, 2, 4)]
        self.assertLess(float(pyramid_loss(right, mask, Weights())), 1e-3)
        fine = float(segmentation_loss(-right[0], mask))
        wrong = float(pyramid_loss([-right[0], *right[1:]], mask, Weights()))
        self.assertAlmostEqual(wrong, fine / 1.75, 3)


if __name__ == "__main__":
    unittest.main()
