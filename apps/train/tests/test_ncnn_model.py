# SPDX-License-Identifier: MIT
"""The ncnn model says what the network does: a small interpreter runs it layer by layer."""

from __future__ import annotations

import struct
import unittest
from typing import Dict, List

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from hymn_train import Config, HyMUNet
from hymn_train.ncnn_model import MAGIC, to_ncnn


class Interpreter:
    """Runs the layers that a model may have, by ncnn's documentation of them."""

    def __init__(self, param: str, weights: bytes) -> None:
        lines = param.splitlines()
        assert lines[0] == MAGIC
        self.layers, self.blobs = (int(word) for word in lines[1].split())
        self.lines = [line.split() for line in lines[2:]]
        self.weights, self.at = weights, 0

    def run(self, x: Tensor) -> Dict[str, Tensor]:
        """All blobs."""
        values: Dict[str, Tensor] = {}
        for kind, _, inputs, outputs, *rest in self.lines:
            names = rest[:int(inputs)]
            made = rest[int(inputs):int(inputs) + int(outputs)]
            options = {int(key): float(value) for key, value in
                       (word.split("=") for word in rest[int(inputs) + int(outputs):])}
            given = [values.pop(name) for name in names]  # each blob is read once
            result = x if kind == "Input" else self.layer(kind, given, options)
            values.update({name: result for name in made})
        return values

    def floats(self, count: int) -> Tensor:
        """The next floats of the weights."""
        array = numpy.frombuffer(self.weights, "<f4", count, self.at)
        self.at += 4 * count
        return torch.from_numpy(array.copy())

    def layer(self, kind: str, given: List[Tensor], options: Dict[int, float]) -> Tensor:
        """One layer's output."""
        x = given[0]
        if kind == "Convolution":
            flag, = struct.unpack_from("<I", self.weights, self.at)
            assert flag == 0
            self.at += 4
            kernel = int(options[1])
            weight = self.floats(int(options[6])).view(int(options[0]), -1, kernel, kernel)
            y = F.conv2d(x, weight, self.floats(int(options[0])), padding=int(options[4]))
            return F.relu(y) if options[9] == 1 else y
        if kind == "BinaryOp":
            return given[0] * given[1] if options[0] == 2 else given[0] + given[1]
        if kind == "Interp":
            return F.interpolate(x, scale_factor=options[1], mode="bilinear", align_corners=False)
        return {"Pooling": lambda: F.max_pool2d(x, 2), "Sigmoid": lambda: torch.sigmoid(x),
                "ReLU": lambda: F.relu(x), "Split": lambda: x,
                "Concat": lambda: torch.cat(given, 1)}[kind]()


class NcnnModel(unittest.TestCase):
    """Models against the network."""

    def check(self, **fields: object) -> None:
        torch.manual_seed(1)
        config = Config(**{"dims": [4, 6, 8], "depths": [1, 2, 1], "decoder_depths": [2, 1],
                           "conv_stages": 3, **fields})
        network = HyMUNet(config)
        x = torch.randn(1, config.in_channels, 16, 24)
        with torch.no_grad():
            network(x)  # statistics other than 0 and 1
            network.eval()
            expected = network(x)
            interpreter = Interpreter(*to_ncnn(network))
            values = interpreter.run(x)
        self.assertEqual(list(values), ["out0"])
        self.assertEqual(interpreter.at, len(interpreter.weights))
        self.assertEqual(interpreter.layers, len(interpreter.lines))
        self.assertEqual(interpreter.blobs, sum(int(line[3]) for line in interpreter.lines))
        torch.testing.assert_close(values["out0"], expected, rtol=1e-4, atol=1e-5)

    def test_gates(self) -> None:
        self.check()

    def test_concat(self) -> None:
        self.check(skip="concat", num_classes=3, in_channels=2, mean=[0.0] * 2, std=[1.0] * 2,
                   classes=["a", "b", "c"])

    def test_scans_are_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "selective scan"):
            to_ncnn(HyMUNet(Config(dims=[4, 6], depths=[1, 1], decoder_depths=[1], conv_stages=1)))


if __name__ == "__main__":
    unittest.main()
