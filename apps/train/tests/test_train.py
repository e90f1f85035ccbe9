# SPDX-License-Identifier: MIT
"""The command: a run that is killed, data, splits, pictures, and checkpoints of other trainers."""

from __future__ import annotations

import json
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zlib
from typing import Callable, List, Optional
from unittest import mock

import numpy
import torch
from PIL import Image

from hymn_train import Config, ConfigError, HyMUNet, tensorfile
from hymn_train.__main__ import use_device
from hymn_train.augment import augment
from hymn_train.convert import config_text, read_weights
from hymn_train.data import Samples, load_folder, split
from hymn_train.evaluate import evaluate
from hymn_train.export import fit, load_model, save_model
from hymn_train.train import Recipe, Trainer, load_checkpoint, read_log

SIZE = (16, 16)
PACKAGE = pathlib.Path(__file__).parents[1]
SMALL = {"dims": [4, 6], "depths": [1, 1], "decoder_depths": [1], "conv_stages": 1,
         "input_size": list(SIZE)}


def make_folder(root: pathlib.Path, count: int, classes: int = 1) -> pathlib.Path:
    """A folder of noise with rectangles, which the masks give."""
    random = numpy.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i in range(count):
        picture = random.integers(0, 90, (*SIZE, 3), numpy.uint8)
        mask = numpy.zeros(SIZE, numpy.uint8)
        label = 1 + i % max(classes - 1, 1)
        mask[3:11, 2 + i % 4:12] = 255 if classes == 1 else label
        picture[mask > 0] += 60 * label
        Image.fromarray(picture).save(root / "images" / f"p{i:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"p{i:02}_segmentation.png")
    return root


def write_png(path: pathlib.Path, values: numpy.ndarray, depth: int) -> None:
    """A PNG file that holds those values (H, W), grey, or (H, W, 2), grey and alpha, of ``depth`` bits a sample: of
    grey Pillow writes 1 or 8."""
    height, width = values.shape[:2]
    rows = values.astype(">u2").view(numpy.uint8).reshape(height, -1, 2)
    bits = numpy.unpackbits(rows, axis=2)[..., 16 - depth:].reshape(height, -1)
    pixels = b"".join(b"\0" + row.tobytes() for row in numpy.packbits(bits, axis=1))
    header = struct.pack(">IIBBBBB", width, height, depth, 4 if values.ndim == 3 else 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


def command(*words: object) -> List[str]:
    """The words of ``python -m hymn_train``."""
    return [sys.executable, "-m", "hymn_train", *map(str, words)]


class Folder(unittest.TestCase):
    """A temporary folder, and the package on the command's path."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}

    def run_command(self, *words: object) -> str:
        """Standard output of a command that succeeds."""
        done = subprocess.run(command(*words), env=self.environment, capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def fail_command(self, *words: object, code: int = 1, prepare: Optional[Callable[[], None]] = None) -> str:
        """The line on standard error of a command that is refused; ``prepare`` runs in its process before it."""
        done = subprocess.run(command(*words), env=self.environment, capture_output=True,
                              text=True, check=False, preexec_fn=prepare)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        last = done.stderr.splitlines()[-1]
        self.assertRegex(last, "^hymn_train[a-z ]*: ")
        if code == 1:  # argparse, whose code is 2, shows the usage ahead of it
            self.assertEqual(done.stderr, last + "\n")
        return last


class Killed(Folder):
    """Signals in the middle of a run, and disks that are full."""

    def train_words(self, data: pathlib.Path, output: str, epochs: int) -> List[object]:
        settings = [f"--set={name}={json.dumps(value)}" for name, value in SMALL.items()]
        return ["train", "--train", data, "--holdout", "0.25", "--output", self.root / output,
                "--epochs", epochs, "--batch", 2, "--every", 1, "--precision", "fp32",
                "--drop-path", "0.2", *settings]

    def test_loses_at_most_one_epoch(self) -> None:
        data, epochs = make_folder(self.root / "data", 16), 12
        self.run_command(*self.train_words(data, "whole", epochs))
        words = self.train_words(data, "killed", epochs)
        process = subprocess.Popen(command(*words), env=self.environment,
                                   stdout=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 120
        while len(read_log(self.root / "killed")) < 2 and time.monotonic() < deadline:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        self.assertEqual(process.wait(), -signal.SIGKILL, "the run ended before it was killed")
        logged = len(read_log(self.root / "killed"))
        self.assertGreaterEqual(logged, 2)
        resumed = self.run_command(*words).splitlines()[0]
        self.assertRegex(resumed, "^resumed after epoch [0-9]+$")
        self.assertGreaterEqual(int(resumed.split()[-1]), logged)
        rows = [[{**row, "seconds": ""} for row in read_log(self.root / run)]
                for run in ("whole", "killed")]
        self.assertEqual(rows[0], rows[1])
        self.assertEqual([row["epoch"] for row in rows[1]], [str(i + 1) for i in range(epochs)])
        files = [(self.root / run / "model.safetensors").read_bytes() for run in ("whole", "killed")]
        self.assertEqual(files[0], files[1])
        for name in ("curves.png", "samples.png"):
            with Image.open(self.root / "killed" / name) as picture:
                self.assertGreater(len(picture.convert("RGB").getcolors(1 << 24)), 2)

    def test_interrupted(self) -> None:
        words = self.train_words(make_folder(self.root / "data", 16), "run", 100000)
        process = subprocess.Popen(command(*words), env=self.environment, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        deadline = time.monotonic() + 120
        while len(read_log(self.root / "run")) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (130, "hymn_train: interrupted\n"))

    def test_nobody_reads(self) -> None:
        words = self.train_words(make_folder(self.root / "data", 4), "run", 3)
        closed = os.pipe()
        os.close(closed[0])
        for output in (closed[1], os.open("/dev/full", os.O_WRONLY)):
            done = subprocess.run(command(*words), env=self.environment, stdout=output, stderr=subprocess.PIPE, text=True,
                                  check=False)
            os.close(output)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(len(read_log(self.root / "run")), 3)
            (self.root / "run" / "model.safetensors").rename(self.root / "model.safetensors")
            (self.root / "run" / "checkpoint.pt").unlink()

    def test_full_disk(self) -> None:
        words = self.train_words(make_folder(self.root / "data", 4), "run", 1)
        message = self.fail_command(
            *words, prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)))
        self.assertRegex(message, f"File too large: '{self.root}/run/checkpoint.pt'$")
        self.assertEqual(list((self.root / "run").iterdir()), [])
        self.run_command(*words)
        (self.root / "run" / "model.safetensors").write_text("old")
        message = self.fail_command(
            "export", self.root / "run", self.root / "run" / "model.safetensors", "--dtype", "f32",
            prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000)))
        self.assertRegex(message, f"File too large: '{self.root}/run/model.safetensors'$")
        self.assertEqual((self.root / "run" / "model.safetensors").read_text(), "old")
        self.assertEqual(list((self.root / "run").glob("*.partial")), [])

    def test_failure_of_validation(self) -> None:
        train, validation = split(load_folder(make_folder(self.root / "data", 12), SIZE), 0.34)

        def trainer(name: str) -> Trainer:
            return Trainer(Config(**SMALL), Recipe(epochs=3, batch=2, every=2, precision="fp32"),
                           self.root / name, torch.device("cpu"), train, validation)

        trainer("whole").run()
        with mock.patch("hymn_train.train.evaluate", side_effect=RuntimeError("out of memory")), \
                self.assertRaises(RuntimeError):
            trainer("failed").run()
        self.assertEqual([row["epoch"] for row in read_log(self.root / "failed")], ["1"])
        again = trainer("failed")
        again.resume()
        self.assertEqual(again.epoch, 2)
        with mock.patch("hymn_train.train.evaluate", side_effect=evaluate) as judge:
            again.run()
        self.assertEqual([call.args[2] for call in judge.call_args_list], [2, 2])
        whole, failed = ([{**row, "seconds": ""} for row in read_log(self.root / name)]
                         for name in ("whole", "failed"))
        self.assertEqual([bool(row["dice"]) for row in failed], [False, True, True])
        self.assertEqual(whole, failed)
        again = trainer("failed")
        again.resume()
        self.assertIsNone(again.run())
        self.assertEqual(len(read_log(self.root / "failed")), 3)

    def test_loss_that_is_not_finite(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 4), SIZE)
        trainer = Trainer(Config(**SMALL), Recipe(epochs=3, batch=2, precision="fp32"), self.root / "run",
                          torch.device("cpu"), samples, None)
        trainer.run(until=1)
        saved = [(self.root / "run" / name).read_bytes() for name in ("checkpoint.pt", "log.csv")]
        steps = []
        hook = trainer.network.head.bias.register_hook(
            lambda gradient: steps.append(1) or (gradient * float("nan") if len(steps) == 2 else gradient))
        with self.assertRaisesRegex(ValueError, "weights after epoch 2 are not finite.*checkpoint.pt keeps epoch 1"):
            trainer.run()
        hook.remove()
        with self.assertRaisesRegex(ValueError, "loss of epoch 2 is nan.*checkpoint.pt keeps epoch 1"):
            trainer.run()
        self.assertEqual(saved, [(self.root / "run" / name).read_bytes() for name in ("checkpoint.pt", "log.csv")])
        self.assertTrue(trainer.resume())
        trainer.run()
        self.assertEqual([row["epoch"] for row in read_log(self.root / "run")], ["1", "2", "3"])

    def test_other_data_or_options(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 6), SIZE)
        config, recipe = Config(**SMALL), Recipe(epochs=1, batch=2)
        train, validation = split(samples, 0.34)

        def trainer(config: Config, recipe: Recipe, train: Samples, validation: Optional[Samples]) -> Trainer:
            return Trainer(config, recipe, self.root / "run", torch.device("cpu"), train, validation)

        trainer(config, recipe, train, validation).run()
        self.assertTrue(trainer(config, recipe, train, validation).resume())
        for changed, message in (
                ((config, Recipe(epochs=4, batch=2, lr=0.5), train, validation),
                 r"checkpoint.pt: made with epochs 1 \(now 4\), lr 0.001 \(now 0.5\)$"),
                ((Config(**SMALL, skip="concat"), recipe, train, validation), r"made with skip mgf \(now concat\)$"),
                ((config, recipe, samples, validation), "made with other training pictures$"),
                ((config, recipe, train, None), "made with other validation pictures$"),
                ((config, recipe, validation, train), "other training pictures, other validation pictures$")):
            with self.assertRaisesRegex(ValueError, message):
                trainer(*changed).resume()
        path = self.root / "run" / "checkpoint.pt"
        state = load_checkpoint(path)
        del state["data"]
        torch.save(state, path)
        self.assertTrue(trainer(config, recipe, samples, None).resume())
        for recipe_text in ("{", "[]", 3):
            torch.save({**state, "recipe": recipe_text}, path)
            with self.assertRaisesRegex(ValueError, "its recipe is no JSON object"):
                load_checkpoint(path)

    def test_other_weights(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 4), SIZE)
        torch.manual_seed(0)
        config, recipe = Config(**SMALL), Recipe(epochs=1, batch=4)
        one, other = HyMUNet(config), HyMUNet(config)

        def trainer(initial: Optional[HyMUNet], teachers: List[HyMUNet]) -> Trainer:
            return Trainer(config, recipe, self.root / "run", torch.device("cpu"), samples, None,
                           initial and initial.state_dict(), teachers)

        trainer(one, [other]).run()
        self.assertTrue(trainer(one, [other]).resume())
        for initial, teachers, what in ((other, [other], "initial weights"), (None, [other], "initial weights"),
                                        (one, [one], "teachers"), (one, [], "teachers"),
                                        (one, [other, other], "teachers"),
                                        (None, [one], "initial weights, other teachers")):
            with self.assertRaisesRegex(ValueError, f"checkpoint.pt: made with other {what}$"):
                trainer(initial, teachers).resume()
        path = self.root / "run" / "checkpoint.pt"
        state = load_checkpoint(path)
        old = {key: value for key, value in json.loads(state["data"]).items() if key in ("training", "validation")}
        torch.save({**state, "data": json.dumps(old)}, path)
        self.assertTrue(trainer(None, []).resume())

    def test_unfinished_row(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 4), SIZE)
        recipe = Recipe(epochs=2, batch=2, precision="fp32")
        trainer = Trainer(Config(**SMALL), recipe, self.root / "run", torch.device("cpu"),
                          samples, None)
        trainer.run(until=1)
        with open(self.root / "run" / "log.csv", "a", encoding="ascii") as log:
            log.write("2,0.1,1e-3,0.5,,\n3,0.")
        self.assertTrue(trainer.resume())
        self.assertEqual([row["epoch"] for row in read_log(self.root / "run")], ["1"])

    def test_log_without_checkpoint(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 4), SIZE)
        recipe, header = Recipe(epochs=1, batch=2, precision="fp32"), "epoch,seconds,lr,loss,dice,iou\n"
        for i, left in enumerate((None, "", "epo", header, header + "1,0.1,1e-3,0.5,,\n",
                                  header + "1,0.1,1e-3,0.5,,\n2,0", "epoch,loss\n1,0.5\n", header + "1,0.1,1e-3")):
            folder = self.root / f"run{i}"
            folder.mkdir()
            if left is not None:
                (folder / "log.csv").write_text(left)
            trainer = Trainer(Config(**SMALL), recipe, folder, torch.device("cpu"), samples, None)
            self.assertFalse(trainer.resume())
            trainer.run()
            self.assertEqual([row["epoch"] for row in read_log(folder)], ["1"], repr(left))
            self.assertEqual((folder / "log.csv").read_text().count("epoch"), 1)
            (folder / "log.csv").write_text("")
            self.assertTrue(trainer.resume())
            self.assertEqual(read_log(folder), [])
        (folder / "log.csv").write_text("")
        (folder / "checkpoint.pt").unlink()
        trainer = Trainer(Config(**SMALL), recipe, folder, torch.device("cpu"), samples, None)
        trainer.run()
        self.assertEqual([row["epoch"] for row in read_log(folder)], ["1"])


class Data(Folder):
    """Folders, splits, several classes."""

    def test_split(self) -> None:
        names = [f"s{i}" for i in range(40)]
        pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
        samples = Samples(names, pixels.expand(-1, 3, 1, 1), pixels)
        kept, held = split(samples, 0.2, 1)
        self.assertEqual((len(kept.names), len(held.names)), (32, 8))
        self.assertEqual(sorted(kept.names + held.names), sorted(names))
        for part in (kept, held):
            self.assertEqual([f"s{int(x)}" for x in part.masks.flatten()], part.names)
        backwards = samples.select(list(range(39, -1, -1)))
        self.assertEqual(set(split(backwards, 0.2, 1)[1].names), set(held.names))
        self.assertNotEqual(set(split(samples, 0.2, 2)[1].names), set(held.names))
        for share in (0.0, 1.0):
            with self.assertRaises(ValueError):
                split(samples, share)

    def test_several_classes(self) -> None:
        config = Config(**SMALL, num_classes=3, classes=["background", "a", "b"])
        samples = load_folder(make_folder(self.root / "data", 12, 3), SIZE, classes=3)
        self.assertEqual(samples.masks.unique().tolist(), [0, 1, 2])
        with self.assertRaisesRegex(ValueError, "class 2"):
            load_folder(self.root / "data", SIZE, classes=2)
        generator = torch.Generator().manual_seed(0)
        _, masks = augment(samples.images, samples.masks, generator, 3)
        self.assertEqual(masks.unique().tolist(), [0.0, 1.0, 2.0])
        recipe = Recipe(epochs=90, batch=4, lr=1e-2, precision="fp32", average=0.9, every=90)
        trainer = Trainer(config, recipe, self.root / "run", torch.device("cpu"), samples, samples)
        before = evaluate(trainer.network, samples).dice
        scores = trainer.run()
        self.assertLess(before, 0.6)
        self.assertGreater(scores.dice, 0.9)

    def test_masks_of_0_and_1(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 3), SIZE)
        for path in (self.root / "data" / "masks").iterdir():
            mask = numpy.asarray(Image.open(path))
            Image.fromarray((mask > 0).astype(numpy.uint8)).save(path)
        again = load_folder(self.root / "data", (8, 8))
        small = torch.nn.functional.avg_pool2d(samples.masks.float(), 2) >= 0.5
        self.assertGreater(int(again.masks.sum()), 0)
        self.assertTrue(torch.equal(again.masks, small.to(torch.uint8)))
        Image.fromarray(numpy.uint8([[0, 1], [2, 127]]).repeat(8, 0).repeat(8, 1)).save(path)
        noise = load_folder(self.root / "data", SIZE).masks[samples.names.index(path.stem.split("_")[0])]
        self.assertEqual(int(noise.sum()), 0)

    def test_grey_depths(self) -> None:
        folder = make_folder(self.root / "data", 1)
        mask = folder / "masks" / "p00_segmentation.png"
        columns = numpy.arange(SIZE[1])
        for depth in (1, 2, 4, 8, 16):
            top, half = 2 ** depth - 1, 2 ** (depth - 1)
            for inside, outside in ((1, 0), (top, 0), (half, half - 1), (top, top // 2)):
                with self.subTest(depth=depth, inside=inside, outside=outside):
                    write_png(mask, numpy.tile(numpy.where(columns < 6, inside, outside), (16, 1)), depth)
                    got = load_folder(folder, SIZE).masks[0, 0].numpy()
                    self.assertTrue((got == (columns < 6)).all(), got[0])
            write_png(mask, numpy.zeros(SIZE, int), depth)
            self.assertEqual(int(load_folder(folder, SIZE).masks.sum()), 0)
            write_png(mask, numpy.tile(numpy.minimum(columns, min(top, 5)), (16, 1)), depth)
            got = load_folder(folder, SIZE, classes=6).masks[0, 0, 0].numpy()
            self.assertEqual(got.tolist(), numpy.minimum(columns, min(top, 5)).tolist())
            write_png(mask, numpy.full(SIZE, top), depth)
            if depth > 1:
                with self.assertRaisesRegex(ValueError, f"has the class {top}, of 2"):
                    load_folder(folder, SIZE, classes=2)
            picture = numpy.round(numpy.linspace(0, top, 16)).astype(int)
            write_png(folder / "images" / "p00.png", numpy.tile(picture, (16, 1)), depth)
            got = load_folder(folder, SIZE).images[0, :, 0].numpy()
            self.assertTrue((got == numpy.round(picture * 255 / top)).all(), got)

    def test_masks_without_class_numbers(self) -> None:
        folder = make_folder(self.root / "data", 1, 3)
        mask = folder / "masks" / "p00_segmentation.png"
        values = numpy.asarray(Image.open(mask)).copy()
        values[0, 0] = 2
        whole = load_folder(folder, SIZE, classes=3).masks
        whole[0, 0, 0, 0] = 2
        colours = numpy.dstack([values] * 3)
        for kept in (colours, numpy.dstack([values] * 4)):
            Image.fromarray(kept).save(mask)
            self.assertTrue(torch.equal(load_folder(folder, SIZE, classes=3).masks, whole))
        Image.fromarray(colours * numpy.uint8([1, 0, 0])).save(mask)  # of 0 and 1, as grey
        with self.assertRaisesRegex(OSError, f"{mask}: .* colour picture"):
            load_folder(folder, SIZE, classes=3)
        load_folder(folder, SIZE)
        write_png(mask, numpy.dstack([values, values]), 16)  # Pillow keeps the upper half of the bits
        with self.assertRaisesRegex(OSError, f"{mask}: .* 16 bits"):
            load_folder(folder, SIZE, classes=3)
        Image.fromarray(values).save(mask, format="JPEG")
        with self.assertRaisesRegex(OSError, f"{mask}: .* JPEG"):
            load_folder(folder, SIZE, classes=3)

    def test_mask_of_another_size(self) -> None:
        folder = make_folder(self.root / "data", 1)
        picture, mask = folder / "images" / "p00.png", folder / "masks" / "p00_segmentation.png"
        turned = Image.Exif()
        turned[0x0112] = 6
        Image.new("RGB", (12, 16)).save(picture, exif=turned)
        for classes in (1, 2):
            Image.new("L", (16, 12)).save(mask)
            load_folder(folder, SIZE, classes=classes)
            Image.new("L", (12, 16)).save(mask)
            with self.assertRaisesRegex(ValueError, "p00_segmentation.png: is 12 x 16 pixels, but the "
                                        "picture .*p00.png is 16 x 12"):
                load_folder(folder, SIZE, classes=classes)

    def test_damaged_pictures(self) -> None:
        folder = make_folder(self.root / "data", 2)
        picture = folder / "images" / "p00.png"
        Image.open(picture).convert("RGB").save(folder / "images" / "p01.jpg")
        (folder / "images" / "p01.png").unlink()
        for name in ("images/p00.png", "images/p01.jpg", "masks/p01_segmentation.png"):
            path = folder / name
            content = path.read_bytes()
            for length in (0, 20, len(content) * 2 // 3):
                path.write_bytes(content[:length])
                with self.assertRaisesRegex(OSError, path.name):
                    load_folder(folder, SIZE)
            path.write_bytes(content)
        self.assertEqual(load_folder(folder, SIZE).names, ["p00", "p01"])

    def test_names(self) -> None:
        folder = make_folder(self.root / "data", 3)
        for name, other in (("p00", "日本"), ("p01", "naïve"), ("p02", os.fsdecode(b"\xff"))):
            (folder / "images" / f"{name}.png").rename(folder / "images" / f"{other}.png")
            (folder / "masks" / f"{name}_segmentation.png").rename(folder / "masks" / f"{other}.png")
        network = HyMUNet(Config(**SMALL))
        save_model(self.root / "m.safetensors", network.state_dict(), network.config)
        output = self.run_command("eval", self.root / "m.safetensors", "--data", folder,
                                  "--samples", self.root / "samples.png")
        self.assertEqual(json.loads(output)["images"], 3)
        self.assertGreater((self.root / "samples.png").stat().st_size, 0)
        done = subprocess.run(command("eval", self.root / "m.safetensors", "--data", folder, "--samples",
                                      self.root / "none" / "samples.png"), env=self.environment,
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, output))
        kept, held = split(load_folder(folder, SIZE), 0.34)
        self.assertEqual((len(kept.names), len(held.names)), (2, 1))

    def test_recipe(self) -> None:
        nan, inf = float("nan"), float("inf")
        for field, value in (("epochs", 0), ("batch", 0), ("batch", -4), ("every", 0), ("lr", 0.0), ("lr", -1.0),
                             ("lr", nan), ("lr", inf), ("clip", 0.0), ("clip", -1.0), ("clip", nan),
                             ("drop_path", -0.1), ("drop_path", 1.0), ("drop_path", nan), ("distil", -0.1),
                             ("distil", 1.1), ("distil", nan), ("average", -0.1), ("average", 1.0), ("average", nan),
                             ("warmup", -1), ("supervision", -1), ("weight_decay", -0.1), ("weight_decay", nan),
                             ("weight_decay", inf), ("seed", 10 ** 12 + 1), ("seed", -10 ** 12 - 1)):
            with self.subTest(field=field, value=value), self.assertRaisesRegex(ValueError, f"^{field} must"):
                Recipe(**{field: value})
        Recipe(clip=inf, drop_path=0.0, distil=0.0, average=0.0, warmup=0, supervision=0, weight_decay=0.0)
        Recipe(distil=1.0)
        samples = load_folder(make_folder(self.root / "data", 2), SIZE)
        for seed in (10 ** 12, -10 ** 12):
            Trainer(Config(**SMALL), Recipe(epochs=1, batch=2, seed=seed), self.root / str(seed), torch.device("cpu"),
                    samples, None).run()

    def test_options(self) -> None:
        for words in (("train", "--train", "d", "--output", "o", "--limit", "-1"), ("eval", "m", "--data", "d",
                      "--limit", "-1"), ("train", "--train", "d", "--output", "o", "--holdout", "nan"),
                      ("train", "--train", "d", "--output", "o", "--holdout", "x"),
                      ("train", "--train", "d", "--output", "o", "--holdout", "1")):
            with self.subTest(words=words):
                self.assertRegex(self.fail_command(*words, code=2),
                                 f"argument {words[-2]}: must be .* is {words[-1]!r}$")

    def test_precision(self) -> None:
        self.assertEqual(Recipe().on(torch.device("cpu")).precision, "fp32")
        self.assertEqual(Recipe().on(torch.device("cuda")).precision, "bf16")
        self.assertEqual(Recipe(precision="tf32").on(torch.device("cuda")).precision, "tf32")
        samples = load_folder(make_folder(self.root / "data", 2), SIZE)
        trainer = Trainer(Config(**SMALL), Recipe(epochs=1, batch=2), self.root / "run", torch.device("cpu"),
                          samples, None)
        trainer.run()
        state = load_checkpoint(self.root / "run" / "checkpoint.pt")
        self.assertEqual(json.loads(state["recipe"])["precision"], "fp32")

    def test_input_of_the_network(self) -> None:
        fields = {**SMALL, "input_size": [16, 15]}
        with self.assertRaisesRegex(ConfigError, r"input_size must be multiples of 2 with 2 stages, is \[16, 15\]"):
            Config(**fields).require_pictures()
        with self.assertRaisesRegex(ConfigError, "in_channels must be 3.* RGB"):
            Config(**SMALL, in_channels=1, mean=[0.5], std=[0.2]).require_pictures()
        Config(**SMALL).require_pictures()
        settings = [f"--set={name}={json.dumps(value)}" for name, value in fields.items()]
        done = subprocess.run(command("train", "--train", make_folder(self.root / "data", 1), "--output",
                                      self.root / "run", *settings), env=self.environment,
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, "^hymn_train: input_size must be multiples of 2 [^\n]*\n$")

    def test_too_many_processes(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 6), SIZE)

        def trainer(batch: int, world: int) -> Trainer:
            with mock.patch("hymn_train.train.process", return_value=(0, world)):
                return Trainer(Config(**SMALL), Recipe(epochs=1, batch=batch), self.root / "run",
                               torch.device("cpu"), samples, None)

        trainer(4, 4)
        trainer(32, 6)
        for batch, world, message in ((3, 4, r"3 pictures \(batch 3, of 6 in all\), but each of 4"),
                                      (32, 8, r"6 pictures \(batch 32, of 6 in all\), but each of 8")):
            with self.assertRaisesRegex(ValueError, message):
                trainer(batch, world)

    def test_without_pytorch(self) -> None:
        for name in ("torch", "numpy", "PIL"):
            blocked = f"import sys, runpy; sys.modules[{name!r}] = None; runpy.run_module('hymn_train', run_name='__main__')"
            done = subprocess.run([sys.executable, "-c", blocked], env=self.environment, capture_output=True, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertRegex(done.stderr, rf"^hymn_train needs PyTorch, NumPy and Pillow [^\n]*{name}[^\n]*\n$")

    def test_device(self) -> None:
        for name in ("cuda:99", "nonsense"):
            with self.assertRaisesRegex(ValueError, f"^--device {name}: "):
                use_device(name)
        self.assertEqual(use_device("cpu"), torch.device("cpu"))

    @unittest.skipIf(hasattr(torch, "compile"), "PyTorch has torch.compile")
    def test_compile(self) -> None:
        self.assertRegex(self.fail_command("train", "--train", "d", "--output", "o", "--compile"),
                         "^hymn_train: --compile: PyTorch .* has no torch.compile$")

    def test_current_device(self) -> None:
        with mock.patch("torch.cuda.device_count", return_value=2), \
                mock.patch("torch.cuda.set_device") as set_device:
            for name in ("cuda", "cuda:1", "cpu"):
                self.assertEqual(use_device(name), torch.device(name))
        set_device.assert_called_once_with(torch.device("cuda:1"))

    def test_teachers(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 4), SIZE)
        torch.manual_seed(0)
        config, recipe = Config(**SMALL), Recipe(epochs=1, batch=4, precision="fp32", distil=1.0)
        teacher = HyMUNet(config)
        torch.nn.init.zeros_(teacher.head.weight)
        losses = []
        for level in (-20.0, 20.0):
            torch.nn.init.constant_(teacher.head.bias, level)
            trainer = Trainer(config, recipe, self.root / f"run{level}", torch.device("cpu"),
                              samples, None, teachers=[teacher])
            torch.nn.init.constant_(trainer.network.head.bias, -20.0)
            trainer.run()
            losses.append(float(read_log(self.root / f"run{level}")[0]["loss"]))
        self.assertLess(losses[0], losses[1] - 1.0)

    def test_teacher_of_other_input(self) -> None:
        data = make_folder(self.root / "data", 4)
        config, recipe = Config(**{**SMALL, "input_size": [16, 10]}), Recipe(epochs=1, batch=4)
        samples = load_folder(data, (16, 10))
        deeper = {"dims": [4, 4, 4], "depths": [1, 1, 1], "decoder_depths": [1, 1]}
        for fields, message in (({"mean": [0.5, 0.5, 0.5]}, r"mean must be the student's, \[0.485, .* is \[0.5, 0.5"),
                                ({"std": [1.0, 1.0, 1.0]}, r"std must be the student's, \[0.229, .* is \[1.0, 1.0"),
                                ({"in_channels": 1, "mean": [0.5], "std": [1.0]}, "in_channels must .* 3, is 1"),
                                ({"num_classes": 2, "classes": ["a", "b"]}, "num_classes must .* 1, is 2"),
                                (deeper, r"takes sizes that are multiples of 4.* input_size is \[16, 10\]")):
            good, bad = HyMUNet(Config(**SMALL)), HyMUNet(Config(**{**SMALL, **fields}))
            with self.assertRaisesRegex(ValueError, f"^teacher 2: {message}"):
                Trainer(config, recipe, self.root / "run", torch.device("cpu"), samples, None,
                        teachers=[good, bad])
        save_model(self.root / "bad.safetensors", bad.state_dict(), bad.config)
        settings = [f"--set={name}={json.dumps(value)}" for name, value in {**SMALL, "input_size": [16, 10]}.items()]
        message = self.fail_command("train", "--train", data, "--output", self.root / "run",
                                    "--teacher", self.root / "bad.safetensors", *settings)
        self.assertRegex(message, "bad.safetensors: takes sizes that are multiples of 4")


class Export(Folder):
    """A run's checkpoint as a model file."""

    def test_misfits(self) -> None:
        samples = load_folder(make_folder(self.root / "data", 4), SIZE)
        Trainer(Config(**SMALL), Recipe(epochs=1, batch=4), self.root / "run", torch.device("cpu"), samples, None).run()
        path, output = self.root / "run" / "checkpoint.pt", self.root / "o.safetensors"
        state = load_checkpoint(path)
        lacking = {name: x for name, x in state["model"].items() if name != "head.bias"}
        other = Config(**{**SMALL, "dims": [4, 7]}).to_json()
        for change, message in (({"config": other}, "it has in another shape "), ({"model": lacking}, "it lacks head.bias$"),
                                ({"model": {**lacking, "head.bias": 3}}, "it lacks head.bias$"),
                                ({"model": 3}, "no state_dict in it")):
            torch.save({**state, **change}, path)
            self.assertRegex(self.fail_command("export", self.root / "run", output), f"^hymn_train: {path}: {message}")
            self.assertFalse(output.exists())


class Convert(Folder):
    """Checkpoints as other trainers write them."""

    def test_wrappers(self) -> None:
        torch.manual_seed(0)
        config = Config(**SMALL)
        network = HyMUNet(config)
        state = network.state_dict()
        (self.root / "config.json").write_text(config.to_json())
        renamed = {f"module.{name}": x for name, x in state.items()}
        for i, content in enumerate((
                state, {"state_dict": state, "epoch": 3}, {"model": state},
                {"model_state_dict": renamed, "optimizer": {}}, {"model": {"state_dict": renamed}},
                {f"module._orig_mod.{name}": x for name, x in state.items()})):
            torch.save(content, self.root / f"{i}.pt")
            self.run_command("convert", self.root / f"{i}.pt", self.root / f"{i}.safetensors",
                             "--config", self.root / "config.json", "--dtype", "f32")
            loaded, found = load_model(self.root / f"{i}.safetensors")
            self.assertEqual(found, config)
            for name, x in state.items():
                if not name.endswith("num_batches_tracked"):
                    self.assertTrue(torch.equal(loaded.state_dict()[name], x), name)

    def test_own_configuration(self) -> None:
        config = Config(**SMALL, skip="concat", threshold=0.25)
        source, output = self.root / "source.safetensors", self.root / "output.safetensors"
        save_model(source, HyMUNet(config).state_dict(), config)
        self.run_command("convert", source, output)
        self.assertEqual(load_model(output)[1], config)
        settings = [f"--set={name}={json.dumps(value)}" for name, value in {**SMALL, "skip": "concat"}.items()]
        self.run_command("convert", source, output, *settings)
        self.assertEqual(load_model(output)[1], Config(**SMALL, skip="concat"))
        tensorfile.save(source, HyMUNet(config).state_dict(), {})
        self.assertIsNone(config_text(source))
        self.assertIsNone(config_text(self.root / "none.pt"))

    def test_settings_beside_configuration(self) -> None:
        config = Config(**SMALL)
        weights, text, output = (self.root / name for name in ("w.pt", "c.json", "o.safetensors"))
        torch.save(HyMUNet(config).state_dict(), weights)
        text.write_text(config.to_json())
        self.run_command("convert", weights, output, "--config", text, "--set", "threshold=0.25")
        self.assertEqual(load_model(output)[1], Config(**SMALL, threshold=0.25))
        message = self.fail_command("convert", weights, output, "--config", text, "--preset", "tiny")
        self.assertRegex(message, "--config and --preset")

    def test_misfits(self) -> None:
        config = Config(**SMALL)
        state = HyMUNet(config).state_dict()
        for change, message in (({"head.bias": None}, "lacks head.bias"),
                                ({"stranger": torch.zeros(1)}, "besides stranger"),
                                ({"head.bias": torch.zeros(2)}, "another shape head.bias")):
            changed = {k: x for k, x in {**state, **change}.items() if x is not None}
            with self.assertRaisesRegex(ValueError, message):
                fit(changed, HyMUNet(config))
        weights, output = self.root / "w.pt", self.root / "o.safetensors"
        torch.save(state, weights)
        message = self.fail_command("convert", weights, output)
        self.assertRegex(message, f"^hymn_train: {weights}: it lacks .* more$")
        text = self.root / "config.json"
        for content, cause in ((b"\xff", ".*utf-8.*"), (b"{}", "architecture must be .* is None"),
                               (b"[1,\n", "hymn.config is not JSON: .*")):
            text.write_bytes(content)
            message = self.fail_command("convert", weights, output, "--config", text)
            self.assertRegex(message, f"^hymn_train: {text}: {cause}$")
        settings = [f"--set={name}={json.dumps(value)}" for name, value in {**SMALL, "dims": [4, 7]}.items()]
        save_model(output, state, config)
        message = self.fail_command("train", "--train", "d", "--output", "o", "--init", output, *settings)
        self.assertRegex(message, f"^hymn_train: {output}: it has in another shape ")
        torch.save({"epoch": 1}, self.root / "none.pt")
        with self.assertRaisesRegex(ValueError, "no state_dict"):
            read_weights(self.root / "none.pt")


if __name__ == "__main__":
    unittest.main()
