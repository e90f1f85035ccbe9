# SPDX-License-Identifier: MIT
"""The shipped weights on real pictures: the engine's masks beside PyTorch's in float32.

HYMN_DATA is a folder of pairs (``images``, ``masks``) at the network's input size, such as ISIC 2017's
validation pairs; without it this is skipped. HYMN is the engine's command (default: ``build/hymn``).
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import numpy
import torch
from PIL import Image
from torch import Tensor

from hymn_train.data import Samples, load_folder, mask_of
from hymn_train.evaluate import overlap_scores, predict
from hymn_train.export import load_model
from hymn_train.train import set_precision

ROOT = pathlib.Path(__file__).resolve().parents[3]
DATA = pathlib.Path(os.environ.get("HYMN_DATA", ""))
HYMN = pathlib.Path(os.environ.get("HYMN", ROOT / "build" / "hymn"))
MODEL = ROOT / "apps" / "demo" / "models" / "tiny.safetensors"
PICTURES = 5
DIFFERENT = {"fp32": 1e-4, "fp16": 1e-3}  # of all pixels, at most
DICE_DIFFERENT = 1e-3


@unittest.skipUnless(os.environ.get("HYMN_DATA"), "no pictures: HYMN_DATA is not set")
@unittest.skipUnless("HYMN" in os.environ or HYMN.exists(), f"no engine: {HYMN} is not built")
class Trained(unittest.TestCase):
    """``hymn segment`` with tiny's weights, as its model card has it."""

    samples: Samples
    expected: Tensor
    masks: Tensor

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.root = pathlib.Path(folder.name)
        for name in ("images", "masks"):
            (cls.root / name).mkdir()
        pictures = sorted((DATA / "images").glob("*.jpg"))
        for i in numpy.linspace(0, len(pictures) - 1, PICTURES).astype(int):
            shutil.copy(pictures[i], cls.root / "images")
            shutil.copy(mask_of(pictures[i]), cls.root / "masks")
        set_precision("fp32")
        network, config = load_model(MODEL)
        cls.samples = load_folder(cls.root, (config.input_size[0], config.input_size[1]))
        pairs = list(predict(network, cls.samples))
        cls.expected = torch.cat([pair[0] for pair in pairs])
        cls.masks = torch.cat([pair[1] for pair in pairs])

    def segment(self, precision: str) -> Tensor:
        """The engine's masks (N, 1, H, W) of the same pictures, boolean."""
        output = self.root / precision
        subprocess.run([str(HYMN), "segment", str(self.root / "images"), "--model", str(MODEL), "--output",
                        str(output), "--precision", precision, "--no-overlay"], check=True, capture_output=True)
        masks = [numpy.array(Image.open(output / f"{name}_mask.png")) for name in self.samples.names]
        return torch.from_numpy(numpy.stack(masks)).unsqueeze(1) >= 128

    def test_same_masks(self) -> None:
        areas = self.expected.sum((1, 2, 3))
        self.assertEqual(len(self.samples.names), PICTURES)
        self.assertTrue(((areas > 100) & (areas < self.expected[0].numel())).all(), areas)
        dice = overlap_scores(self.expected, self.masks)[:, 0].mean().item()
        for precision, most in DIFFERENT.items():
            with self.subTest(precision=precision):
                found = self.segment(precision)
                self.assertEqual(found.shape, self.expected.shape)
                different = (found != self.expected).double().mean().item()
                self.assertLessEqual(different, most)
                ours = overlap_scores(found, self.masks)[:, 0].mean().item()
                self.assertLessEqual(abs(ours - dice), DICE_DIFFERENT)


if __name__ == "__main__":
    unittest.main()
