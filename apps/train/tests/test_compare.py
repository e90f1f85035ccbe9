# SPDX-License-Identifier: MIT
"""The comparison's arithmetic, with contestants that are made up."""

from __future__ import annotations

import argparse
import contextlib
import io
import pathlib
import tempfile
import unittest
from typing import List

import numpy
import torch

import compare
from hymn_train import Config, HyMUNet
from hymn_train.export import save_model


class Contestant:
    """Takes the given times, one a round, and is off by `error` everywhere."""

    device = "none"

    def __init__(self, name: str, times: List[float], order: List[str], job: compare.Job,
                 error: float) -> None:
        self.name, self.times, self.order = name, list(times), order
        self.job, self.error = job, error

    def measure(self, runs: int) -> float:
        self.order.append(self.name)
        return self.times.pop(0)

    def output(self) -> numpy.ndarray:
        return self.job.reference + self.error


class Comparison(unittest.TestCase):
    """Rounds, medians, ratios and errors."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name)
        torch.manual_seed(0)
        config = Config(dims=[4, 6], depths=[1, 1], decoder_depths=[1], conv_stages=2,
                        input_size=[8, 8])
        save_model(path / "m.safetensors", HyMUNet(config).state_dict(), config)
        options = argparse.Namespace(model=str(path / "m.safetensors"), size=12, rounds=3, runs=7)
        self.job = compare.Job(options, path)

    def test_input(self) -> None:
        saved = numpy.load(self.job.input)
        self.assertEqual((saved.shape, saved.dtype), ((1, 3, 12, 12), numpy.float32))
        self.assertEqual(self.job.reference.shape, (1, 1, 12, 12))
        self.assertEqual(self.job.reference.dtype, numpy.float64)

    def test_rounds(self) -> None:
        order: List[str] = []
        contestants = [Contestant("a", [2.0, 9.0, 3.0], order, self.job, 0.0),
                       Contestant("b", [6.0, 5.0, 7.0], order, self.job, 0.5)]
        with contextlib.redirect_stderr(io.StringIO()):
            times = compare.measure(contestants, 3, 7)
        self.assertEqual(order, ["a", "b", "b", "a", "a", "b"])
        summary = compare.summarise(self.job, contestants, times)
        self.assertEqual((summary["size"], summary["rounds"], summary["runs"]), ([12, 12], 3, 7))
        a, b = summary["results"]["a"], summary["results"]["b"]
        self.assertEqual((a["ms"], a["ratio"], a["nmse"], a["max_abs_error"]), (3.0, 1.0, 0.0, 0.0))
        self.assertEqual((b["ms"], b["ratio"], b["best_ms"]), (6.0, 2.0, 5.0))
        self.assertAlmostEqual(b["max_abs_error"], 0.5)
        power = float((self.job.reference ** 2).mean())
        self.assertAlmostEqual(b["nmse"], 0.25 / power, places=6)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            compare.print_table(summary)
        self.assertIn("| b | 6.0 | 2.00 | 5.0 |", out.getvalue())


if __name__ == "__main__":
    unittest.main()
