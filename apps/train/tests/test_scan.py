# SPDX-License-Identifier: MIT
"""The forms of the selective scan agree, forward and backward."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import unittest
from typing import Any, Callable, List, Tuple
from unittest import mock

import torch
from torch import Tensor

from hymn_train import scan


def random_inputs(batch: int, height: int, width: int, channels: int, states: int,
                  dtype: torch.dtype, device: str = "cpu") -> List[Tensor]:
    """u, delta, A, B, C and skip, as a network would have them."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    pixels = height * width

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs = [normal(batch, pixels, channels),
              torch.nn.functional.softplus(normal(batch, scan.DIRECTIONS, pixels, channels) - 1),
              -normal(scan.DIRECTIONS, channels, states).exp(),
              normal(batch, scan.DIRECTIONS, pixels, states),
              normal(batch, scan.DIRECTIONS, pixels, states),
              normal(scan.DIRECTIONS, channels)]
    return [x.to(device, dtype).requires_grad_() for x in inputs]


def outputs_and_gradients(form: str, inputs: List[Tensor], height: int,
                          width: int) -> List[Tensor]:
    """y, and the gradient of a fixed random projection of it in every input."""
    y = scan.scan(*inputs, height, width, form=form)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad((y * weight.to(y)).sum(), inputs)
    return [y.detach(), *gradients]


def worst_error(values: List[Tensor], references: List[Tensor]) -> float:
    """The largest relative error, in the Euclidean norm, of any tensor.

    Some gradients are exactly zero (A's where a sequence has one position): the error of what
    is smaller than one is taken as it is.
    """
    return max(float((v.double().cpu() - r.double()).norm() / r.double().norm().clamp(min=1.0))
               for v, r in zip(values, references))


class ScanForms(unittest.TestCase):
    """Every form against the sequential one in float64."""

    SIZES: List[Tuple[int, int, int, int, int]] = [
        (2, 5, 7, 3, 4), (1, 1, 1, 2, 1), (1, 9, 8, 5, 16), (1, 3, 50, 33, 5)]

    def check(self, form: str, dtype: torch.dtype, bound: float, device: str = "cpu") -> None:
        for batch, height, width, channels, states in self.SIZES:
            with self.subTest(form=form, height=height, width=width, states=states):
                exact = random_inputs(batch, height, width, channels, states, torch.float64)
                inputs = random_inputs(batch, height, width, channels, states, dtype, device)
                reference = outputs_and_gradients("sequential", exact, height, width)
                values = outputs_and_gradients(form, inputs, height, width)
                self.assertLess(worst_error(values, reference), bound)

    def test_chunked_float64(self) -> None:
        self.check("chunked", torch.float64, 1e-13)

    def test_chunked_float32(self) -> None:
        self.check("chunked", torch.float32, 1e-5)

    def test_triton(self) -> None:
        self.check("triton", torch.float32, 1e-5, self.triton_device())

    def test_triton_keeps_nothing_without_gradients(self) -> None:
        device = self.triton_device()
        from hymn_train import scan_triton

        def run(inputs: List[Tensor], size: Tuple[int, int]) -> Tensor:
            with mock.patch.object(scan_triton, "_scan", None):  # the one that keeps states
                return scan.scan(*inputs, *size, form="triton")

        for batch, height, width, channels, states in self.SIZES:
            with self.subTest(height=height, width=width, states=states):
                exact = random_inputs(batch, height, width, channels, states, torch.float64)
                inputs = random_inputs(batch, height, width, channels, states, torch.float32, device)
                with torch.no_grad():
                    reference = [scan.sequential(*exact, height, width)]
                    values = [run(inputs, (height, width))]
                with torch.inference_mode():
                    values.append(run(inputs, (height, width)))
                values.append(run([x.detach() for x in inputs], (height, width)))
                self.assertLess(worst_error(values, 3 * reference), 1e-5)

    def test_triton_compiled_without_gradients(self) -> None:
        inputs = random_inputs(1, 2, 3, 4, 4, torch.float32, self.triton_device())
        graphs: List[str] = []

        def backend(module: torch.fx.GraphModule, _: List[Tensor]) -> Callable[..., Any]:
            graphs.append(" ".join(str(node.target) for node in module.graph.nodes))
            return module.forward

        compiled = torch.compile(lambda *x: scan.scan(*x, 2, 3, form="triton"), backend=backend,
                                 fullgraph=True)
        with torch.no_grad():
            compiled(*inputs)
        compiled(*inputs)
        self.assertIn("hymn_train.scan_inference", graphs[0])
        self.assertNotIn("hymn_train.scan_inference", graphs[1])
        self.assertIn("hymn_train.scan", graphs[1])

    def triton_device(self) -> str:
        """Where the Triton form runs; skips the test where it does not."""
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        if not scan.triton_available() or not (interpreted or torch.cuda.is_available()):
            self.skipTest("no Triton, or nothing to run it on")
        return "cpu" if interpreted else "cuda"

    def test_triton_without_custom_operators(self) -> None:
        script = """if True:
            import sys
            from unittest import mock
            import torch
            vars(torch.library).pop("custom_op", None)
            sys.modules["triton"] = sys.modules["triton.language"] = mock.MagicMock()
            from hymn_train import scan
            print(scan.triton_available())"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                              cwd=pathlib.Path(__file__).parents[1], check=False)
        self.assertEqual((done.stdout, done.returncode), ("False\n", 0), done.stderr)

    def test_mamba(self) -> None:
        if not (torch.cuda.is_available() and scan.mamba_available()):
            self.skipTest("no mamba-ssm, or no CUDA device")
        self.check("mamba", torch.float32, 1e-5, "cuda")

    def test_order(self) -> None:
        order = scan.pixel_order(2, 3).tolist()
        self.assertEqual(order, [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5],
                                 [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]])


if __name__ == "__main__":
    unittest.main()
