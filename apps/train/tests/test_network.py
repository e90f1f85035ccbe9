# SPDX-License-Identifier: MIT
"""The network against what the format says of it, and one training step after a resume."""

from __future__ import annotations

import pathlib
import tempfile
import unittest

import torch
import torch.nn.functional as F

from hymn_train import Config, HyMUNet
from hymn_train.data import Samples
from hymn_train.evaluate import overlap_scores
from hymn_train.train import Recipe, Trainer


class Network(unittest.TestCase):
    """Names, sizes, padding."""

    def test_parameters(self) -> None:
        for preset, count in (("tiny", 1_878_289), ("small", 5_720_665), ("base", 10_005_153)):
            network = HyMUNet(Config.preset(preset))
            self.assertEqual(sum(p.numel() for p in network.parameters()), count)

    def test_names(self) -> None:
        config = Config(dims=[4, 6], depths=[1, 1], decoder_depths=[1], conv_stages=1)
        names = {n for n in HyMUNet(config).state_dict() if "num_batches" not in n}
        norm = ("weight", "bias", "running_mean", "running_var")
        expected = {f"{block}.{layer}" for block in ("encoder.0.blocks.0", "decoder.0.blocks.0")
                    for layer in ("conv1.weight", "conv2.weight", "shortcut.0.weight",
                                  *(f"{bn}.{p}" for bn in ("bn1", "bn2", "shortcut.1")
                                    for p in norm))}
        expected |= {f"encoder.1.{n}" for n in ("down.norm.weight", "down.norm.bias",
                                                "down.reduction.weight")}
        expected |= {f"encoder.1.blocks.0.{n}" for n in (
            "norm.weight", "norm.bias", "ss2d.in_proj.weight", "ss2d.conv2d.weight",
            "ss2d.conv2d.bias", "ss2d.x_proj_weight", "ss2d.dt_projs_weight",
            "ss2d.dt_projs_bias", "ss2d.A_logs", "ss2d.Ds", "ss2d.out_norm.weight",
            "ss2d.out_norm.bias", "ss2d.out_proj.weight")}
        expected |= {"decoder.0.skip.gate.weight", *(f"decoder.0.skip.bn.{p}" for p in norm)}
        expected |= {"head.weight", "head.bias"}
        self.assertEqual(names, expected)

    def test_patch_order(self) -> None:
        config = Config(dims=[1, 2], depths=[1, 1], decoder_depths=[1], conv_stages=0)
        down = HyMUNet(config).encoder[1].down
        down.norm = torch.nn.Identity()
        down.reduction = torch.nn.Identity()
        cell = torch.tensor([[[[0.0, 2.0], [1.0, 3.0]]]])
        self.assertEqual(down(cell).flatten().tolist(), [0.0, 1.0, 2.0, 3.0])

    def test_padding(self) -> None:
        config = Config(dims=[4, 6, 8], depths=[1, 1, 1], decoder_depths=[1, 1], conv_stages=1)
        torch.manual_seed(0)
        network = HyMUNet(config).eval()
        x = torch.randn(1, 3, 5, 10)
        with torch.no_grad():
            expected = network(F.pad(x, (0, 2, 0, 3), mode="replicate"))[:, :, :5, :10]
            self.assertTrue(torch.equal(network.forward_padded(x), expected))


class Training(unittest.TestCase):
    """The scores, and a run that was interrupted."""

    def test_scores(self) -> None:
        masks = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
        masks[0, 0, :2] = True
        predicted = torch.zeros_like(masks)
        predicted[0, 0, 0] = True
        scores = overlap_scores(predicted, masks)
        self.assertTrue(torch.allclose(scores, torch.tensor([[2 / 3, 0.5], [1, 1]]).double()))

    def test_resume(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(256, (4, 3, 16, 16), generator=generator, dtype=torch.uint8)
        samples = Samples(list("abcd"), images, (images[:, :1] > 128).byte())
        config = Config(dims=[4, 6], depths=[1, 1], decoder_depths=[1], conv_stages=1,
                        input_size=[16, 16])
        recipe = Recipe(epochs=3, batch=2, precision="fp32")
        with tempfile.TemporaryDirectory() as folder:
            whole = self._trainer(config, recipe, folder + "/whole", samples)
            whole.run()
            broken = self._trainer(config, recipe, folder + "/broken", samples)
            broken.run(until=1)
            rest = self._trainer(config, recipe, folder + "/broken", samples)
            self.assertTrue(rest.resume())
            rest.run()
            log = (pathlib.Path(folder) / "broken" / "log.csv").read_text().splitlines()
            self.assertEqual([line.split(",")[0] for line in log], ["epoch", "1", "2", "3"])
        for name, tensor in whole.averaged.state_dict().items():
            self.assertTrue(torch.equal(tensor, rest.averaged.state_dict()[name]), name)

    @staticmethod
    def _trainer(config: Config, recipe: Recipe, folder: str, samples: Samples) -> Trainer:
        return Trainer(config, recipe, pathlib.Path(folder), torch.device("cpu"), samples, samples)


if __name__ == "__main__":
    unittest.main()
