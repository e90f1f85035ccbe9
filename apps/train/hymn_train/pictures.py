# SPDX-License-Identifier: MIT
"""A run's curves and sample predictions as PNG files, drawn with Pillow alone."""

from __future__ import annotations

import pathlib
from typing import Dict, List, Optional, Sequence, Tuple

import numpy
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .data import Samples
from .evaluate import overlap_scores, predict
from .network import HyMUNet

Point = Tuple[float, float]
PANEL = (560, 300)
MARGIN = (56, 24, 16, 32)
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189))
TITLE_WIDTH = 200  # of a sample, whose name and Dice stand below it
TRUE, PREDICTED = (255, 255, 255), (255, 64, 32)


def draw_curves(rows: Sequence[Dict[str, str]], path: pathlib.Path) -> None:
    """Loss, scores and learning rate over the epochs of a log (train.read_log)."""
    def curve(name: str) -> List[Point]:
        return [(float(row["epoch"]), float(row[name])) for row in rows if row[name]]

    panels = [{"loss": curve("loss")}, {"dice": curve("dice"), "iou": curve("iou")},
              {"lr": curve("lr")}]
    sheet = Image.new("RGB", (PANEL[0], PANEL[1] * len(panels)), "white")
    for i, panel in enumerate(panels):
        sheet.paste(_panel(panel), (0, i * PANEL[1]))
    sheet.save(path)


def draw_samples(network: HyMUNet, samples: Samples, path: pathlib.Path, count: int = 12,
                 batch: int = 50) -> None:
    """``count`` pictures spread over the samples, with true outlines in white, predicted ones in
    red, and the Dice of each; a line at the bottom says so.  ``batch`` are computed at once."""
    chosen = numpy.unique(numpy.linspace(0, len(samples.names) - 1, count).astype(int)).tolist()
    samples = samples.select(chosen)
    pairs = list(predict(network, samples, batch))
    predicted = torch.cat([pair[0] for pair in pairs])
    masks = torch.cat([pair[1] for pair in pairs])
    dice = overlap_scores(predicted, masks)[:, 0].tolist()
    height, width = samples.images.shape[2:]
    across = min(4, len(chosen))
    down = -(-len(chosen) // across)
    wide = max(width, TITLE_WIDTH)
    sheet = Image.new("RGB", (across * wide, down * (height + 14) + 14), "white")
    draw = ImageDraw.Draw(sheet)
    for i, name in enumerate(samples.names):
        x, y = i % across * wide, i // across * (height + 14)
        picture = samples.images[i].permute(1, 2, 0).cpu().numpy().copy()
        for outlines, colour in ((masks[i], TRUE), (predicted[i], PREDICTED)):
            picture[_outline(outlines)] = colour
        sheet.paste(Image.fromarray(picture), (x, y))
        shown = name.encode("latin-1", "replace").decode("latin-1")  # all that Pillow's font has
        draw.text((x + 2, y + height + 1), f"{shown}  Dice {dice[i]:.3f}", fill="black")
    draw.text((2, down * (height + 14) + 1), "white: the mask  red: the network", fill="black")
    sheet.save(path)


def _outline(masks: Tensor) -> numpy.ndarray:
    """(H, W): the pixels of masks (K, H, W) with a neighbour outside of them."""
    inside = masks.cpu().numpy()
    padded = numpy.pad(inside, ((0, 0), (1, 1), (1, 1)), mode="edge")
    surrounded = (padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1]
                  & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:])
    return (inside & ~surrounded).any(0)


def _panel(curves: Dict[str, List[Point]]) -> Image.Image:
    """One diagram: axes with the extremes written beside them, and a legend."""
    panel = Image.new("RGB", PANEL, "white")
    draw = ImageDraw.Draw(panel)
    left, top = MARGIN[0], MARGIN[1]
    right, bottom = PANEL[0] - MARGIN[2], PANEL[1] - MARGIN[3]
    draw.rectangle((left, top, right, bottom), outline=(160, 160, 160))
    points = [point for curve in curves.values() for point in curve]
    ys, xs = _extent([y for _, y in points]), _extent([x for x, _ in points])
    for text, place in ((f"{ys[1]:.4g}", (4, top)), (f"{ys[0]:.4g}", (4, bottom - 10)),
                        (f"epoch {xs[0]:.0f}", (left, bottom + 6)),
                        (f"{xs[1]:.0f}", (right - 20, bottom + 6))):
        draw.text(place, text, fill="black")
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        draw.text((left + 80 * i, 6), name, fill=colour)
        drawn = [(left + (x - xs[0]) / (xs[1] - xs[0]) * (right - left),
                  bottom - (y - ys[0]) / (ys[1] - ys[0]) * (bottom - top)) for x, y in curve]
        if len(drawn) > 1:
            draw.line(drawn, fill=colour, width=2)
        for x, y in drawn if len(drawn) <= 40 else []:
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
    return panel


def _extent(values: List[float]) -> Tuple[float, float]:
    """The smallest and the largest value, never the same."""
    low: Optional[float] = min(values, default=None)
    if low is None:
        return 0.0, 1.0
    high = max(values)
    return (low, high) if high > low else (low, low + 1.0)
