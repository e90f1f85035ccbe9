# SPDX-License-Identifier: MIT
"""The comparison: its arithmetic with contestants that are made up, and all of it on a small model."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import io
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import unittest
from typing import Any, Dict, List, Optional, Tuple
from unittest import mock

import numpy
import torch
from PIL import Image

import compare
from hymn_train import Config, HyMUNet, scan
from hymn_train.compare import layers, pytorch, report, sizes
from hymn_train.compare.job import Deadline, Job
from hymn_train.compare.rounds import Field
from hymn_train.data import normalise
from hymn_train.export import save_model

ROOT = pathlib.Path(__file__).resolve().parents[3]
HYMN = pathlib.Path(os.environ.get("HYMN", ROOT / "build" / "hymn"))
SMALL: Dict[str, Any] = {"dims": [4, 6], "depths": [1, 1], "decoder_depths": [1],
                         "input_size": [8, 8]}


class Contestant:
    """Takes the given times, one a round, and is off by ``error`` everywhere."""

    device = "none"

    def __init__(self, name: str, times: List[float], order: List[str], job: Job,
                 error: float) -> None:
        self.name, self.times, self.order = name, list(times), order
        self.job, self.error = job, error
        self.details: Dict[str, Any] = {}

    def prepare(self) -> None:
        """Nothing."""

    def measure(self, runs: Optional[int], seconds: float) -> Dict[str, Any]:
        self.order.append(self.name)
        if not self.times:
            raise RuntimeError("it broke")
        time = self.times.pop(0)
        return {"gpu_ms": time, "gpu_transfers_ms": time, "wall_ms": 2 * time, "images_per_second": 1000 / time}

    def output(self) -> numpy.ndarray:
        return self.job.reference + self.error


class WithModel(unittest.TestCase):
    """A small network in a file."""

    conv_stages = 2

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.model = self.path / "m.safetensors"
        torch.manual_seed(0)
        config = Config(conv_stages=self.conv_stages, **SMALL)
        save_model(self.model, HyMUNet(config).state_dict(), config)
        self.options = argparse.Namespace(model=str(self.model), size=12)

    def quietly(self, action: Any, *arguments: Any) -> Any:
        """What an action returns, with its progress kept from the tests' output."""
        with contextlib.redirect_stderr(io.StringIO()):
            return action(*arguments)


class Rounds(WithModel):
    """Rounds, medians, ratios, errors, failures."""

    def field(self, order: List[str], **times: List[float]) -> Field:
        makers = {name: (lambda name=name: Contestant(name, times[name], order, self.job,
                                                      0.5 if name == "b" else 0.0))
                  for name in times}
        return self.quietly(Field, makers, Deadline())

    def setUp(self) -> None:
        super().setUp()
        self.job = Job(self.options, self.path)

    def test_input(self) -> None:
        saved = numpy.load(self.job.input)
        self.assertEqual((saved.shape, saved.dtype), ((1, 3, 12, 12), numpy.float32))
        self.assertEqual(self.job.reference.shape, (1, 1, 12, 12))
        self.assertEqual(self.job.reference.dtype, numpy.float64)
        self.assertEqual(Job(self.options, self.path, 3).x.shape, (3, 3, 12, 12))

    def test_rounds(self) -> None:
        order: List[str] = []
        field = self.field(order, a=[2.0, 9.0, 3.0], b=[6.0, 5.0, 7.0])
        measured = self.quietly(field.measure, 3, 7, 0.1, Deadline())
        self.assertEqual(order, ["a", "b", "b", "a", "a", "b"])
        summary = field.summarise(self.job, measured)
        self.assertEqual((summary["size"], summary["batch"]), ([12, 12], 1))
        a, b = summary["results"]["a"], summary["results"]["b"]
        self.assertEqual((a["gpu_ms"], a["wall_ms"], a["ratio"], a["nmse"], a["max_abs_error"]),
                         (3.0, 6.0, 1.0, 0.0, 0.0))
        self.assertEqual((b["gpu_ms"], b["ratio"], b["best_gpu_ms"], b["ratio_of"]),
                         (6.0, 2.0, 5.0, "gpu_ms"))
        self.assertAlmostEqual(b["max_abs_error"], 0.5)
        power = float((self.job.reference ** 2).mean())
        self.assertAlmostEqual(b["nmse"], 0.25 / power, places=6)

    def test_failures(self) -> None:
        order: List[str] = []
        field = self.field(order, a=[2.0, 4.0, 3.0], b=[6.0])
        measured = self.quietly(field.measure, 3, 7, 0.1, Deadline())
        summary = field.summarise(self.job, measured)
        self.assertEqual(list(summary["results"]), ["a"])
        self.assertEqual(summary["failures"], {"b": "RuntimeError: it broke"})
        self.assertEqual(order.count("b"), 2)

    def test_scans(self) -> None:
        """With two forms of the scan, the networks in graphs take part with both."""
        plain = ["PyTorch eager", "PyTorch, CUDA graph", "torch.compile, CUDA graph"]
        both = ["PyTorch, CUDA graph, Triton scan", "torch.compile, CUDA graph, Triton scan"]
        for forms, more in ((("triton",), []), (("mamba", "triton"), both)):
            with mock.patch.object(pytorch, "scan_forms", lambda forms=forms: forms), \
                    mock.patch.object(torch.cuda, "is_available", lambda: True):
                self.assertEqual(list(pytorch.contestants(self.job)), plain + more)
        order: List[str] = []
        field = self.field(order, a=[2.0], b=[6.0])
        field.contestants["b"].details["scan"] = "mamba"
        case = field.summarise(self.job, self.quietly(field.measure, 1, 7, 0.1, Deadline()))
        machine = {"processor": "any", "cores": 2, "torch": "2", "mamba_ssm": "2.3",
                   "date": "today"}
        summary = {"options": {"rounds": 1}, "model": "m", "machine": machine, "cases": [case]}
        self.assertIn("PyTorch has the mamba-ssm scan (2.3), but", report.markdown(summary))
        case["results"]["b"]["details"]["scan"] = "triton"
        self.assertIn("PyTorch has the Triton scan, but", report.markdown(summary))
        self.assertIn("medians of 1 alternating rounds", report.markdown(summary))
        case["results"]["b"]["rounds"] *= 2
        self.assertIn("medians of 1 to 2 alternating rounds", report.markdown(summary))

    def test_scan_forms(self) -> None:
        """mamba-ssm's scan first where it works, whatever a broken one raises."""
        def forms(cuda: bool, mamba: bool, works: bool, triton: bool) -> Tuple[str, ...]:
            with mock.patch.object(torch.cuda, "is_available", lambda: cuda), \
                    mock.patch.object(pytorch, "mamba_available", lambda: mamba), \
                    mock.patch.object(pytorch, "_mamba_works", lambda: works), \
                    mock.patch.object(pytorch, "triton_available", lambda: triton):
                return pytorch.scan_forms.__wrapped__()
        self.assertEqual(forms(False, True, True, True), ("auto",))
        self.assertEqual(forms(True, True, True, True), ("mamba", "triton"))
        self.assertEqual(forms(True, True, False, True), ("triton",))
        self.assertEqual(forms(True, False, True, False), ("chunked",))
        package = self.path / "mamba_ssm"
        package.mkdir()
        (package / "__init__.py").write_text("raise RuntimeError('made for another PyTorch')")
        with mock.patch.object(sys, "path", [str(self.path)] + sys.path), \
                mock.patch.dict(sys.modules):
            sys.modules.pop("mamba_ssm", None)
            self.assertFalse(scan.mamba_available.__wrapped__())

    def test_not_finite(self) -> None:
        order: List[str] = []
        field = self.field(order, a=[2.0], b=[6.0])
        field.contestants["b"].error = float("nan")
        case = field.summarise(self.job, self.quietly(field.measure, 1, 7, 0.1, Deadline()))
        self.assertEqual([case["results"][name]["finite"] for name in "ab"], [True, False])
        machine = {"processor": "any", "cores": 2, "torch": "2", "date": "today"}
        summary = {"options": {"rounds": 1}, "model": "m", "machine": machine, "cases": [case]}
        self.assertIn("| not finite |", report.markdown(summary))
        summary["layer_failures"] = {"batch 8": "out of memory"}
        self.assertIn("\nLayers, batch 8: out of memory\n", report.markdown(summary))

    def test_no_time(self) -> None:
        order: List[str] = []
        makers = {name: (lambda name=name: Contestant(name, [1.0, 1.0], order, self.job, 0.0))
                  for name in ("a", "slow")}
        field = self.quietly(Field, makers, Deadline(30), {"slow": 60.0})
        self.assertEqual(list(field.contestants), ["a"])
        self.assertIn("left out", field.failures["slow"])
        self.assertEqual(len(self.quietly(field.measure, 2, 1, 0.1, Deadline(0))["a"]), 1)


class Inference(unittest.TestCase):
    """The network made fast for inference computes what the network does."""

    def test_same(self) -> None:
        for more in ({"conv_stages": 1}, {"conv_stages": 0, "skip": "concat"},
                     {"conv_stages": 2, "depths": [2, 1]}):
            with self.subTest(**more):
                torch.manual_seed(1)
                network = HyMUNet(Config(**{**SMALL, **more})).eval()
                for module in network.modules():
                    if isinstance(module, torch.nn.BatchNorm2d):
                        module.running_mean.normal_()
                        module.running_var.uniform_(0.5, 2)
                fast = pytorch.inference_network(network, "cpu", torch.float64)
                x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
                with torch.no_grad():
                    expected, found = network.double()(x), fast(x)
                self.assertLess(float((found - expected).pow(2).sum() / expected.pow(2).sum()),
                                1e-24)


    def test_pictures(self) -> None:
        config = Config(in_channels=2, mean=[0.1, 0.7], std=[0.5, 0.25])
        x = torch.zeros(3, 2, 8, 12).to(memory_format=torch.channels_last)
        pictures = pytorch.Pictures(config, x)
        pictures.bring()
        for tensor, dtype in ((pictures.host, torch.uint8), (x, torch.float32)):
            self.assertEqual((tensor.dtype, tensor.shape), (dtype, (3, 2, 8, 12)))
            self.assertTrue(tensor.is_contiguous(memory_format=torch.channels_last))
        self.assertLess(float((x - normalise(pictures.host, config)).abs().max()), 1e-5)


class Layers(unittest.TestCase):
    """The list of layers is that of the network."""

    def test_scans(self) -> None:
        """Every form of a scan is timed, and told of; one that fails is, too."""
        layer, failures = layers.Layer("scan", 4, 4, 8, 8, states=4, rank=2), {}
        forms = ("auto", "sequential", "none such")
        with mock.patch.object(layers, "scan_forms", lambda: forms):
            row = layers._torch_times(layer, 2, Deadline(None), failures)
        self.assertEqual(list(row["scans"]), ["auto", "sequential"])
        self.assertEqual(row["torch_ms"], min(row["scans"].values()))
        self.assertEqual(list(failures), [f"{layer.describe()} by none such"])
        row.update(what=layer.describe(), count=1, bytes=1, flops=1, hymn_ms=None, floor_ms=1.0)
        row["scans"].update(sequential=0.5, auto=0.25)
        result = {"size": [4, 4], "batch": 2, "ceilings": {}, "rows": [row], "failures": {},
                  "total": layers._total([row])}
        self.assertIn(f"\n{layer.describe()}: auto 250.0 us, sequential 500.0 us",
                      report._layer_table(result))
        with mock.patch.object(layers, "scan_forms", lambda: ("mamba",)), \
                mock.patch.object(layers, "_scan_run", lambda *_: lambda: None), \
                mock.patch.object(layers, "_torch_ms", mock.Mock(side_effect=(3.0, 2.0))):
            row = layers._torch_times(layer, 2, Deadline(None), failures)
        self.assertEqual((row["torch_ms"], row["scans"]),
                         (3.0, {"mamba": 3.0, layers.HALF_MAMBA: 2.0}))
        self.assertEqual(layers._torch_times(layer, 2, Deadline(0.0), failures),
                         {"torch_ms": None, "scans": {}})

    def test_work(self) -> None:
        config = Config.preset("base")
        found = layers.list_layers(config, 256, 256)
        flops = sum(layer.flops(1) * len(names) for layer, names in found.items()
                    if layer.kind != "scan")
        # 17.75 G multiply-adds in all, as hymn inspect counts them; the scans' are not in here.
        self.assertLess(abs(flops / 2 - 17.75e9), 0.1 * 17.75e9)
        kinds = [layer.kind for layer in found]
        self.assertEqual(kinds.count("scan"), 3)
        scan = next(layer for layer in found if layer.kind == "scan")
        self.assertEqual((scan.height * scan.width, scan.channels, scan.states, scan.rank),
                         (4096, 256, 16, 8))
        self.assertEqual(scan.exponentials(2), 2 * 4 * 4096 * 256 * 16)

    def test_floor(self) -> None:
        layer = layers.Layer("conv", 10, 10, 8, 16, 3, shortcut=4)
        self.assertEqual(layer.bytes(2), 2 * (200 * (8 + 4 + 16) + 16 * (72 + 4)))
        self.assertEqual(layer.flops(2), 2 * 200 * 16 * (72 + 4))
        rates: Dict[str, Optional[float]] = {"bytes": 1e6, "flops": None, "exponentials": None}
        self.assertAlmostEqual(layers.floor_ms(layer, 2, rates) or 0, layer.bytes(2) / 1e3)
        rates["flops"] = 1e6
        self.assertAlmostEqual(layers.floor_ms(layer, 2, rates) or 0, layer.flops(2) / 1e3)

    def test_joined(self) -> None:
        found = layers.list_layers(Config.preset("base"), 256, 256)
        engine = {name: 0.01 for names in found.values() for name in names}
        self.assertEqual(layers.join_depthwise(found, engine), found)
        self.assertEqual(layers.join_depthwise(found, {}), found)
        gone = [f"encoder.4.blocks.{i}.ss2d" for i in range(2)]
        for name in gone:
            del engine[f"{name}.conv2d"]
        both = layers.join_depthwise(found, engine)
        self.assertEqual(len(both), len(found) - 1)
        layer = next(layer for layer in both if layer.convolved)
        self.assertEqual(both[layer], [f"{name}.in_proj" for name in gone])
        apart = [dataclasses.replace(layer, convolved=0),
                 layers.Layer("depthwise", 16, 16, layer.convolved, layer.convolved, 3)]
        self.assertEqual([found[part] for part in apart],
                         [both[layer], [f"{name}.conv2d" for name in gone]])
        self.assertEqual(layer.flops(2), sum(part.flops(2) for part in apart))
        self.assertEqual(sum(part.bytes(2) for part in apart) - layer.bytes(2),
                         2 * 2 * 2 * 256 * layer.convolved)  # written, and read again


    def test_taps(self) -> None:
        found = layers.list_layers(Config.preset("base"), 256, 256)
        engine = {name: 0.01 for names in found.values() for name in names}
        self.assertEqual(layers.join_taps(found, engine), found)
        first, gate = "decoder.2.blocks.0.conv1", "decoder.2.skip.gate"
        engine[f"{first}.up"] = 0.005
        joined = layers.join_taps(found, engine)
        names = {name for names in joined.values() for name in names}
        self.assertEqual(names, {name for names in found.values() for name in names} - {gate})
        layer = next(layer for layer in joined if layer.resized)
        self.assertEqual((joined[layer], layer.channels_in, layer.resized), ([first], 384, 256))
        apart = dataclasses.replace(layer, resized=0)
        low = layers.Layer("conv", 32, 32, 256, 128)
        self.assertEqual(found[apart], [first])
        self.assertEqual(found[low], [gate])
        # A quarter of the products of what is resized, and that at a quarter of the pixels.
        self.assertEqual(layer.flops(2), apart.flops(2) * 128 // 384 +
                         (apart.flops(2) * 256 // 384) // 4 + low.flops(2))
        self.assertEqual(layer.bytes(2), apart.bytes(2) - 2 * 2 * 64 * 64 * 256 + low.bytes(2))


class Command(WithModel):
    """All of it, where there is a hymn with a device."""

    conv_stages = 1

    @unittest.skipUnless(HYMN.exists(), "hymn is not built")
    def test_everything(self) -> None:
        result, picture = self.path / "r.json", self.path / "r.png"
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = self.quietly(compare.main, [
                "--model", str(self.model), "--hymn", str(HYMN), "--batch", "2", "--size", "16",
                "--rounds", "2", "--runs", "2", "--layers", "--layer-batch", "2",
                "--json", str(result), "--chart", str(picture)])
        self.assertEqual(code, 0)
        summary = json.loads(result.read_text())
        self.assertEqual([case["batch"] for case in summary["cases"]], [2])
        for case in summary["cases"]:
            self.assertEqual(case["failures"], {})
            self.assertEqual(list(case["results"]), ["hymn", "PyTorch eager"])
            self.assertLess(case["results"]["hymn"]["nmse"], 1e-4)
            self.assertLess(case["results"]["PyTorch eager"]["nmse"], 1e-9)
            self.assertEqual(len(case["results"]["hymn"]["rounds"]), 2)
        rows = summary["layers"][0]["rows"]
        self.assertEqual([row["what"] for row in rows if not row["torch_ms"]], [])
        scans = [row["scans"] for row in rows if "scans" in row]
        self.assertEqual([list(times) for times in scans], [["auto"]] * len(scans))
        self.assertEqual(len(scans), sum(row["what"].startswith("scan") for row in rows))
        # Every layer has an operator of its name in the engine's profile.
        self.assertEqual([row["names"] for row in rows if not row["hymn_ms"]], [])
        with Image.open(picture) as image:
            self.assertGreater(image.height, 100)
        # Nothing of the file tells where others lie on the machine.
        self.assertFalse({"hymn", "json", "chart", "table"} & set(summary["options"]))
        self.assertNotIn(str(self.path), result.read_text())
        self.assertEqual((summary["model"], summary["options"]["model"]), (self.model.name, self.model.name))
        self.assertEqual(summary["machine"]["system"].split(",")[0], platform.system())
        with contextlib.redirect_stdout(io.StringIO()) as again:
            self.assertEqual(compare.main(["--table", str(result)]), 0)
        self.assertEqual(again.getvalue(), out.getvalue())
        self.assertIn("| PyTorch eager | - |", out.getvalue())

    def test_broken_command(self) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = self.quietly(compare.main, ["--model", str(self.model), "--hymn", "/none",
                                               "--rounds", "1", "--runs", "1"])
        self.assertEqual(code, 0)
        self.assertIn("| hymn | - | - | - | - | - | FileNotFoundError", out.getvalue())
        self.assertIn("| PyTorch eager |", out.getvalue())

    def test_json_that_fails(self) -> None:
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as caught:
            compare.main(["--model", str(self.model), "--hymn", "/none", "--rounds", "1", "--runs", "1",
                          "--json", "/dev/full"])
        self.assertIn("| PyTorch eager |", out.getvalue())
        self.assertEqual(caught.exception.code, "compare.py: --json /dev/full: [Errno 28] No space left on device")

    def test_output_that_fails(self) -> None:
        out, result = mock.Mock(), self.path / "r.json"
        out.write.side_effect = OSError(errno.ENOSPC, "No space left on device")
        out.fileno.return_value = os.open(os.devnull, os.O_WRONLY)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), \
                self.assertRaisesRegex(SystemExit, "^compare.py: standard output: .*No space left on device$"):
            compare.main(["--model", str(self.model), "--hymn", "/none", "--rounds", "1", "--runs", "1", "--json", str(result)])
        os.close(out.fileno())
        self.assertIn("seconds", json.loads(result.read_text()))

    def test_batch_beyond_memory(self) -> None:
        result, out = self.path / "r.json", io.StringIO()
        with contextlib.redirect_stdout(out):
            code = self.quietly(compare.main, ["--model", str(self.model), "--hymn", "/none", "--rounds", "1", "--runs", "1",
                                               "--batch", f"1,{10 ** 12},2", "--json", str(result)])
        self.assertEqual(code, 0)
        summary = json.loads(result.read_text())
        self.assertEqual([case["batch"] for case in summary["cases"]], [1, 10 ** 12, 2])
        self.assertEqual(list(summary["cases"][1]["failures"]), ["all"])
        self.assertRegex(out.getvalue(), r"\| 8 x 8, batch 1000000000000 \|.*\n.*\n\| all \| - .*Error")

    def test_interrupted(self) -> None:
        with mock.patch("hymn_train.compare.measure.measure_all", side_effect=KeyboardInterrupt), \
                contextlib.redirect_stderr(io.StringIO()) as errors:
            self.assertEqual(compare.main(["--model", str(self.model)]), 130)
        self.assertEqual(errors.getvalue(), "compare.py: interrupted\n")

    def test_files(self) -> None:
        none = self.path / "none"
        for words, message in ((["--model", str(none)], f"compare.py: --model: .*{none}'$"),
                               (["--model", __file__], f"compare.py: --model: {__file__}: .*"),
                               (["--model", str(self.model), "--size", "13"],
                                "compare.py: --size: .* multiples of 2, not 13 x 13"),
                               (["--model", str(self.model), "--size", "0"], "compare.py: --size: .*"),
                               (["--table", str(none)], f"compare.py: --table {none}: .*"),
                               (["--table", __file__], f"compare.py: --table {__file__}: .*"),
                               (["--model", str(self.model), "--json", f"{none}/x.json"], None),
                               (["--model", str(self.model), "--json", str(self.path)], None),
                               (["--model", str(self.model), "--chart", f"{none}/x.png"], None)):
            with self.subTest(words=words), contextlib.redirect_stderr(io.StringIO()) as errors, \
                    mock.patch("hymn_train.compare.measure.measure_all") as measured, \
                    self.assertRaises(SystemExit) as caught:
                compare.main(words)
            measured.assert_not_called()
            if message:
                self.assertRegex(str(caught.exception), f"^{message}$")
            else:
                self.assertRegex(errors.getvalue(), f"{words[-2]} {words[-1]}: (is a folder|"
                                 "its folder does not exist)\n$")


class Tables(unittest.TestCase):
    """Numbers in tables."""

    def test_number(self) -> None:
        self.assertEqual([report.number(x) for x in (None, 0.3456, 12.345, 123.45, 4321.0)],
                         ["-", "0.346", "12.35", "123.5", "4321"])

    def refused(self, *words: str) -> Tuple[str, str]:
        """Standard output and the message of a command that ends with one."""
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), \
                self.assertRaises(SystemExit) as caught:
            compare.main(words)
        text = caught.exception.code if isinstance(caught.exception.code, str) else errors.getvalue().splitlines()[-1]
        return out.getvalue(), text

    def test_foreign(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.json"
            for text in ("[]", "{}", "3", '{"format": 2}', '{"format": [1]}', '{"cases": [], "options": {}}'):
                path.write_text(text)
                self.assertEqual(self.refused("--table", str(path)),
                                 ("", f"compare.py: --table {path}: is no file of compare.py --json"))
            path.write_text("[" * 100000)
            self.assertRegex(self.refused("--table", str(path))[1], f"^compare.py: --table {path}: ")

    def test_chart_that_fails(self) -> None:
        table = str(ROOT / "apps" / "train" / "results" / "h200.json")
        out, message = self.refused("--table", table, "--chart", "x.nonsense")
        self.assertIn("| PyTorch eager |", out)
        self.assertEqual(message, "compare.py: --chart x.nonsense: unknown file extension: .nonsense")

    def test_numbers(self) -> None:
        for option, text in (("--batch", "0"), ("--batch", "1,x"), ("--layer-batch", "-1"), ("--rounds", "0"),
                             ("--runs", "0"), ("--runs", "1.5"), ("--seconds", "nan"),
                             ("--seconds", "-1"), ("--round-seconds", "inf"), ("--tuning", "x")):
            self.assertRegex(self.refused("--model", "x", f"{option}={text}")[1],
                             f": error: argument {option}: must be .*, is '{text}'$")

    def test_without_pytorch(self) -> None:
        train = ROOT / "apps" / "train"
        blocked = "import sys, runpy; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'PIL')));" \
                  "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
        for name, code, text in (("--table", 0, "linear 512 to 256"), ("--model", 1, "needs PyTorch")):
            done = subprocess.run([sys.executable, "-c", blocked, str(train / "compare.py"), name,
                                   str(train / "results" / "h200-layers.json")],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(text, done.stdout + done.stderr)


class Sizes(unittest.TestCase):
    """Time and memory over the pixels, as a chart."""

    def test_results(self) -> None:
        result = {"device": "d", "driver": "1", "batch": 1, "size": [100, 100], "gpu_ms": {"p50": 1.0},
                  "device_bytes": 2**20}
        with tempfile.TemporaryDirectory() as folder:
            path, picture = pathlib.Path(folder) / "x.json", pathlib.Path(folder) / "x.png"
            for content in (result, [result], [result, {**result, "size": [200, 100]}]):  # one size is no list
                path.write_text(json.dumps(content))
                self.assertEqual(sizes.main([str(path), str(picture)]), 0)
                with Image.open(picture) as image:
                    self.assertGreater(len(image.getcolors(1 << 24)), 3)
            with self.assertRaisesRegex(SystemExit, "sizes: .*x.foo: unknown file extension: .foo$"):
                sizes.main([str(path), str(picture.with_suffix(".foo"))])
            for content in ("[]", "{}", "3", "x", json.dumps({**result, "gpu_ms": None})):
                path.write_text(content)
                with self.assertRaisesRegex(SystemExit, f"^sizes: {path}: [^\n]*$"):
                    sizes.main([str(path), str(picture)])
            with self.assertRaisesRegex(SystemExit, "^sizes: .*none.json"):
                sizes.main([str(path.with_name("none.json")), str(picture)])


if __name__ == "__main__":
    unittest.main()
