# SPDX-License-Identifier: MIT
"""Model files and configurations: what is written is what is read, and errors name their cause."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from typing import Dict

import numpy
import torch

from hymn_train import Config, ConfigError, HyMUNet, tensorfile
from hymn_train.checkpoint import read_checkpoint
from hymn_train.convert import read_weights
from hymn_train.export import DTYPES, METADATA_KEY, file_tensors, load_model, save_model
from hymn_train.train import load_checkpoint


def small_config(**fields: object) -> Config:
    """Two stages, one of each kind."""
    return Config(**{"dims": [4, 6], "depths": [1, 1], "decoder_depths": [1],
                     "conv_stages": 1, **fields})


class ModelFiles(unittest.TestCase):
    """Export and its way back."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "model.safetensors"
        torch.manual_seed(0)
        self.network = HyMUNet(small_config()).eval()

    def test_round_trip(self) -> None:
        for name, dtype in DTYPES.items():
            for uniform in (False, True):
                with self.subTest(dtype=name, uniform=uniform):
                    state = self.network.state_dict()
                    save_model(self.path, state, self.network.config, dtype, uniform)
                    loaded, config = load_model(self.path)
                    self.assertEqual(config, self.network.config)
                    expected = file_tensors(state, dtype, uniform)
                    for key, tensor in expected.items():
                        self.assertTrue(torch.equal(loaded.state_dict()[key], tensor.float()), key)

    def test_statistics_stay_32_bit(self) -> None:
        state = self.network.state_dict()
        state["encoder.0.blocks.0.bn1.running_var"].fill_(1e6)
        tensors = file_tensors(state, torch.float16)
        kinds = {name: tensors[name].dtype for name in tensors}
        self.assertEqual(kinds["encoder.0.blocks.0.bn1.running_var"], torch.float32)
        self.assertEqual(kinds["encoder.1.blocks.0.ss2d.A_logs"], torch.float32)
        self.assertEqual(kinds["encoder.1.blocks.0.ss2d.in_proj.weight"], torch.float16)
        with self.assertRaisesRegex(OverflowError, "running_var"):
            file_tensors(state, torch.float16, uniform=True)

    def test_not_finite(self) -> None:
        state = self.network.state_dict()
        state["head.bias"].fill_(float("nan"))
        with self.assertRaisesRegex(ValueError, "head.bias"):
            file_tensors(state, torch.float32)

    def test_counters_and_strangers(self) -> None:
        state = dict(self.network.state_dict())
        metadata = {METADATA_KEY: self.network.config.to_json()}
        tensorfile.save(self.path, state, metadata)
        load_model(self.path)
        tensorfile.save(self.path, {**state, "stranger": torch.zeros(1)}, metadata)
        with self.assertRaisesRegex(ValueError, f"^{self.path}: it has besides stranger$"):
            load_model(self.path)
        del state["head.weight"]
        tensorfile.save(self.path, state, metadata)
        with self.assertRaisesRegex(ValueError, f"^{self.path}: it lacks head.weight$"):
            load_model(self.path)

    def test_foreign_configurations(self) -> None:
        for text, message in (("{", "hymn.config is not JSON: [^\n]*"), ("{}", "architecture must be [^\n]* is None"),
                              (small_config(dims=[4, 7]).to_json(), "it has in another shape [^\n]*")):
            tensorfile.save(self.path, self.network.state_dict(), {METADATA_KEY: text})
            with self.assertRaisesRegex(ValueError, f"^{self.path}: {message}$"):
                load_model(self.path)

    def test_layout(self) -> None:
        tensorfile.save(self.path, {"a": torch.tensor([[1.0, 2.0]])}, {"k": "v"})
        content = self.path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8:8 + length])
        self.assertEqual(header["a"], {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]})
        self.assertEqual(header["__metadata__"], {"k": "v"})
        self.assertEqual(content[8 + length:], b"\0\0\x80\x3f\0\0\0\x40")

    def test_links_and_pipes(self) -> None:
        save_model(self.path, self.network.state_dict(), self.network.config)
        content = self.path.read_bytes()
        self.path.write_bytes(b"old")
        link, pipe = self.path.with_name("link"), self.path.with_name("pipe")
        link.symlink_to(self.path)
        save_model(link, self.network.state_dict(), self.network.config)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.read_bytes(), content)
        os.mkfifo(pipe)
        with ThreadPoolExecutor() as pool:
            reader = pool.submit(pipe.read_bytes)
            save_model(pipe, self.network.state_dict(), self.network.config)
            if not pipe.is_fifo():  # replaced: let the reader go
                pipe.unlink()
                self.fail("the pipe is gone")
            self.assertEqual(reader.result(), content)

    def test_truncated(self) -> None:
        save_model(self.path, self.network.state_dict(), self.network.config)
        content = self.path.read_bytes()
        for length in (4, 100, len(content) - 4):
            self.path.write_bytes(content[:length])
            with self.assertRaises(ValueError):
                load_model(self.path)

    def test_foreign_headers(self) -> None:
        entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
        for header in ([], 3, {"a": 1}, {"a": {**entry, "shape": 2}}, {"a": {**entry, "shape": [-2]}},
                       {"a": {**entry, "shape": [1.5]}}, {"a": {**entry, "data_offsets": [8]}},
                       {"a": {**entry, "data_offsets": [-8, 0]}}, {"a": {**entry, "dtype": ["F32"]}},
                       {"a": {"dtype": "F32"}}, {"__metadata__": []}, {"__metadata__": {"k": 1}}, "{"):
            text = header.encode() if header == "{" else json.dumps(header).encode()
            self.path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
            with self.subTest(header=header), self.assertRaisesRegex(ValueError, str(self.path)):
                tensorfile.load(self.path)


class Checkpoints(unittest.TestCase):
    """Files of torch.save, whole and otherwise."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "checkpoint.pt"

    def test_damaged(self) -> None:
        random = numpy.random.default_rng(0)
        for zipped in (True, False):
            torch.save({"config": "{}", "model": {"w": torch.zeros(8)}}, self.path,
                       _use_new_zipfile_serialization=zipped)
            self.assertEqual(read_checkpoint(self.path, keys=["config"])["config"], "{}")
            content = self.path.read_bytes()
            refused = 0
            for _ in range(100):
                changed = bytearray(content[:random.integers(1, len(content))])
                for place in random.integers(0, len(changed), 2):
                    changed[place] = random.integers(0, 256)
                self.path.write_bytes(changed)
                try:
                    read_checkpoint(self.path)
                except ValueError as error:
                    self.assertRegex(str(error), f"^{self.path}: (not a checkpoint, or damaged: |holds .* besides)")
                    refused += 1
            self.assertGreater(refused, 80)

    def test_other_objects(self) -> None:
        weights = {"w": torch.zeros(1)}
        for name, stranger in (("argparse.Namespace", argparse.Namespace(lr=1)), ("numpy.*scalar", numpy.float64(1)),
                               ("torch.nn.modules.linear.Linear", torch.nn.Linear(1, 1))):
            for zipped in (True, False):
                torch.save({"state_dict": weights, "stranger": stranger}, self.path,
                           _use_new_zipfile_serialization=zipped)
                with self.assertRaisesRegex(ValueError, f"{self.path}: holds {name} .*torch.save") as caught:
                    read_weights(self.path)
                self.assertNotIn("\n", str(caught.exception))
        content = torch.load(self.path, map_location="cpu", weights_only=False)
        torch.save(content["state_dict"], self.path)
        self.assertEqual(read_weights(self.path), weights)

    def test_foreign(self) -> None:
        for content in (b"", b"hello, this is text\n", b"\x89PNG\r\n" + bytes(99), b"PK\3\4" + bytes(50)):
            self.path.write_bytes(content)
            for read in (read_checkpoint, load_checkpoint, read_weights):
                with self.assertRaisesRegex(ValueError, f"{self.path}: not a checkpoint, or damaged"):
                    read(self.path)
        for state in ({"model": {}}, [], torch.zeros(1)):
            torch.save(state, self.path)
            with self.assertRaisesRegex(ValueError, f"{self.path}: not a checkpoint, or damaged: it lacks config"):
                load_checkpoint(self.path)
        torch.save({1: torch.zeros(1)}, self.path)
        with self.assertRaisesRegex(ValueError, "no state_dict"):
            read_weights(self.path)


class Configurations(unittest.TestCase):
    """Validation, and the JSON form."""

    def test_round_trip(self) -> None:
        config = small_config(dt_rank=3, skip="concat", ssm_ratio=1.5)
        self.assertEqual(Config.from_json(config.to_json()), config)

    def test_derived(self) -> None:
        config = small_config(dims=[7, 40], ssm_ratio=1.5)
        self.assertEqual((config.inner(7), config.rank(7), config.rank(40)), (10, 1, 3))
        self.assertEqual(Config(dims=[8], depths=[1], decoder_depths=[], conv_stages=0).multiple, 1)

    def test_out_of_range(self) -> None:
        for field, value in [("dims", []), ("dims", [4, 0]), ("depths", [1]),
                             ("decoder_depths", []), ("conv_stages", 3), ("conv_stages", -1),
                             ("in_channels", 9), ("num_classes", 65), ("d_state", 0),
                             ("d_state", 65), ("ssm_ratio", 0), ("ssm_ratio", 0.1),
                             ("dt_rank", 0), ("dt_rank", "full"), ("skip", "add"),
                             ("input_size", [256]), ("mean", [0.5]), ("std", [0.2, 0.2, 0]),
                             ("mean", 0.5), ("mean", None), ("std", 1), ("classes", 1), ("classes", "x"),
                             ("classes", [1]), ("dims", 4), ("classes", []), ("threshold", 1.0)]:
            with self.subTest(field=field, value=value), self.assertRaisesRegex(ConfigError, field):
                small_config(**{field: value})

    def test_limits_of_the_engine(self) -> None:
        def deep(stages: int) -> Dict[str, object]:
            return {"dims": [4] * stages, "depths": [1] * stages, "decoder_depths": [1] * (stages - 1)}

        for field, good, bad in (
                ("dims", deep(12), deep(13)), ("dims", {"dims": [4, 8192]}, {"dims": [4, 8193]}),
                ("depths", {"depths": [64, 1]}, {"depths": [65, 1]}),
                ("decoder_depths", {"decoder_depths": [64]}, {"decoder_depths": [65]}),
                ("dt_rank", {"dt_rank": 1024}, {"dt_rank": 1025}),
                ("ssm_ratio", {"dims": [4, 8192], "ssm_ratio": 4}, {"dims": [4, 8192], "ssm_ratio": 4.001}),
                ("ssm_ratio", {"ssm_ratio": 0.2}, {"ssm_ratio": 0.1}),
                ("ssm_ratio", {"conv_stages": 2, "ssm_ratio": 32768}, {"conv_stages": 2, "ssm_ratio": 32769}),
                ("input_size", {"input_size": [32768, 1]}, {"input_size": [1, 32769]}),
                ("mean", {"mean": [-3.4e38, 0, 0]}, {"mean": [-3.5e38, 0, 0]}),
                ("std", {"std": [1.2e-38, 1, 1]}, {"std": [1.1e-38, 1, 1]}),
                ("classes", {"classes": ["\u00e9" * 63]}, {"classes": ["\u00e9" * 64]}),
                ("classes", {"classes": ["\n"]}, {"classes": ["\0"]}),
                ("classes", {"classes": ["\u00e4"]}, {"classes": ["\udce4"]}),  # as of an argument that is not UTF-8
                ("threshold", {"threshold": 0.9999999}, {"threshold": 0.99999999}),
                ("threshold", {"threshold": 1e-45}, {"threshold": 1e-46})):
            with self.subTest(field=field, bad=bad):
                small_config(**good)
                with self.assertRaisesRegex(ConfigError, f"^{field} must"):
                    small_config(**bad)

    def test_wrong_text(self) -> None:
        good = json.loads(small_config().to_json())
        for change, message in [({"architecture": "unet"}, "architecture"),
                                ({"version": 2}, "version"), ({"colour": 1}, "colour")]:
            with self.assertRaisesRegex(ConfigError, message):
                Config.from_json(json.dumps({**good, **change}))
        del good["skip"]
        with self.assertRaisesRegex(ConfigError, "skip"):
            Config.from_json(json.dumps(good))
        with self.assertRaisesRegex(ConfigError, "JSON"):
            Config.from_json("{")


if __name__ == "__main__":
    unittest.main()
