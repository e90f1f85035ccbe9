# SPDX-License-Identifier: MIT
"""The command line: ``python -m hymn_train train|eval|export``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import sys
from typing import Any, Tuple

import torch

from .config import PRESETS, Config
from .data import load_folder
from .evaluate import evaluate
from .export import DTYPES, load_model, save_model
from .train import CHECKPOINT, Recipe, Trainer, load_checkpoint, set_precision


def main() -> int:
    """Run the command; 1 with a message on standard error where its input is at fault."""
    options = _parser().parse_args()
    try:
        options.command(options)
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        print(f"hymn_train: {error}", file=sys.stderr)
        return 1
    return 0


def train_command(options: argparse.Namespace) -> None:
    """``train``: a run from scratch, or the rest of one; exports when it is done."""
    config = Config.preset(options.preset, **dict(options.set))
    recipe = Recipe(**{field.name: getattr(options, field.name)
                       for field in dataclasses.fields(Recipe)})
    height, width = config.input_size
    train = load_folder(options.train, (height, width), options.limit)
    validation = load_folder(options.validation, (height, width)) if options.validation else None
    trainer = Trainer(config, recipe, options.output, torch.device(options.device),
                      train, validation)
    if trainer.resume():
        print(f"resumed after epoch {trainer.epoch}")
    trainer.run()
    save_model(options.output / "model.safetensors", trainer.averaged.state_dict(), config,
               DTYPES[options.dtype])


def eval_command(options: argparse.Namespace) -> None:
    """``eval``: mean Dice and IoU of a model file, in float32."""
    set_precision("fp32")
    network, config = load_model(options.model)
    device = torch.device(options.device)
    height, width = config.input_size
    samples = load_folder(options.data, (height, width), options.limit).to(device)
    scores = evaluate(network.to(device), samples, options.batch)
    print(json.dumps({"images": len(samples.names), "dice_mean": round(scores.dice, 5),
                      "iou_mean": round(scores.iou, 5)}))


def export_command(options: argparse.Namespace) -> None:
    """``export``: the averaged weights of a run's checkpoint as a model file."""
    path = options.checkpoint / CHECKPOINT if options.checkpoint.is_dir() else options.checkpoint
    state = load_checkpoint(path)
    save_model(options.output, state["model"], Config.from_json(state["config"]),
               DTYPES[options.dtype], options.uniform)


def _setting(text: str) -> Tuple[str, Any]:
    """FIELD=JSON (or a bare word) of ``--set``."""
    name, _, value = text.partition("=")
    if name not in {field.name for field in dataclasses.fields(Config)}:
        raise argparse.ArgumentTypeError(f"no field {name!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hymn_train", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    default_device = "cuda" if torch.cuda.is_available() else "cpu"

    train = commands.add_parser("train", help="train from scratch, or go on with a run")
    train.add_argument("--train", type=pathlib.Path, required=True, help="images/ and masks/")
    train.add_argument("--validation", type=pathlib.Path, help="images/ and masks/")
    train.add_argument("--output", type=pathlib.Path, required=True, help="the run's folder")
    train.add_argument("--preset", choices=PRESETS, default="tiny")
    train.add_argument("--set", type=_setting, action="append", default=[], metavar="FIELD=VALUE",
                       help="override a field of the configuration")
    train.add_argument("--limit", type=int, default=0, help="use only the first N samples")
    for field in dataclasses.fields(Recipe):
        flag = "--" + field.name.replace("_", "-")
        choices = ("fp32", "tf32", "bf16") if field.name == "precision" else None
        train.add_argument(flag, type=type(field.default), default=field.default,
                           choices=choices, help=f"default {field.default}")
    train.set_defaults(command=train_command)

    evaluation = commands.add_parser("eval", help="mean Dice and IoU of a model file")
    evaluation.add_argument("model", type=pathlib.Path)
    evaluation.add_argument("--data", type=pathlib.Path, required=True, help="images/ and masks/")
    evaluation.add_argument("--batch", type=int, default=10)
    evaluation.add_argument("--limit", type=int, default=0, help="use only the first N samples")
    evaluation.set_defaults(command=eval_command)

    export = commands.add_parser("export", help="write a checkpoint's weights as a model file")
    export.add_argument("checkpoint", type=pathlib.Path, help="a run's folder, or its checkpoint")
    export.add_argument("output", type=pathlib.Path)
    export.add_argument("--uniform", action="store_true",
                        help="store statistics and the scan's A in the same dtype too")
    export.set_defaults(command=export_command)
    for command in (train, evaluation):
        command.add_argument("--device", default=default_device)
    for command in (train, export):
        command.add_argument("--dtype", choices=DTYPES, default="f16", help="the file's")
    return parser


if __name__ == "__main__":
    sys.exit(main())
