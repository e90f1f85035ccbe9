# SPDX-License-Identifier: MIT
"""The command line: ``python -m hymn_train train|eval|export|convert``."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import sys
from typing import Any, Tuple

try:
    import numpy  # noqa: F401
    import PIL  # noqa: F401
    import torch
    import torch.distributed
except ImportError as missing:
    sys.exit(f"hymn_train needs PyTorch, NumPy and Pillow (apps/train/README.md): {missing}")

from .arguments import count, limit, share
from .config import PRESETS, Config
from .convert import config_text, read_weights, unwrap
from .data import load_folder, split
from .evaluate import evaluate
from .export import DTYPES, fit, load_model, naming, save_model
from .files import write_output
from .losses import LOSSES
from .network import HyMUNet
from .pictures import draw_curves, draw_samples
from .supervised import require_teacher
from .train import (CHECKPOINT, PRECISIONS, Recipe, Trainer, load_checkpoint, read_log,
                    set_precision)


# What --help says of the recipe's fields.
RECIPE_HELP = {
    "epochs": "passes over the pictures",
    "batch": "pictures a step, over all GPUs",
    "lr": "the highest learning rate: a warm-up to it, then a cosine to zero",
    "weight_decay": "AdamW's, of matrices",
    "warmup": "epochs of the warm-up",
    "average": "decay, a step, of the weights' moving average, which is judged and exported",
    "clip": "what the length of the gradient is cut to",
    "precision": "arithmetic of a step",
    "seed": "of weights, order and augmentation; also of --holdout's choice",
    "every": "epochs between evaluations",
    "loss": "hybrid: Dice, boundary-weighted cross-entropy and IoU, boundary F1; region: without "
            "the last; bce: plain cross-entropy",
    "supervision": "coarser decoder stages with a loss of their own",
    "drop_path": "chance of leaving out the last Mamba block in a step, earlier ones less",
    "distil": "share of the loss that --teacher has",
}
TRAIN_EXAMPLES = """examples:
  python3 -m hymn_train train --train DATA/train --validation DATA/val --output runs/tiny
  python3 -m hymn_train train --train DATA --holdout 0.1 --output runs/base --preset base \\
      --set 'input_size=[128,128]' --epochs 80 --drop-path 0.1
The same command again goes on with a run that was killed."""


def main() -> int:
    """Run the command; 1 with a message on standard error where its input is at fault, 130 where it is interrupted."""
    options = _parser().parse_args()
    try:
        options.command(options)
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        print(f"hymn_train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hymn_train: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def train_command(options: argparse.Namespace) -> None:
    """``train``: a run from scratch, or the rest of one; exports when it is done."""
    initial = None
    config = Config.preset(options.preset or "tiny", **dict(options.set))
    if options.init:
        network, config = load_model(options.init)
        config = dataclasses.replace(config, **dict(options.set))
        with naming(options.init):
            fit(network.state_dict(), HyMUNet(config))
        initial = network.state_dict()
    config.require_pictures()
    if options.compile and not hasattr(torch, "compile"):
        raise ValueError(f"--compile: PyTorch {torch.__version__} has no torch.compile")
    device = _join(use_device(options.device))
    recipe = Recipe(**{field.name: getattr(options, field.name)
                       for field in dataclasses.fields(Recipe)})
    teachers = [_teacher(path, config) for path in options.teacher]
    height, width = config.input_size
    validation = None
    train = load_folder(options.train, (height, width), options.limit, config.num_classes)
    if options.validation:
        validation = load_folder(options.validation, (height, width), classes=config.num_classes)
    elif options.holdout:
        train, validation = split(train, options.holdout, recipe.seed)
    trainer = Trainer(config, recipe, options.output, device, train, validation,
                      initial, teachers, options.compile)
    if trainer.resume():
        with contextlib.suppress(OSError):
            write_output(f"resumed after epoch {trainer.epoch}\n")
    trainer.run()
    if trainer.rank != 0:
        return
    save_model(options.output / "model.safetensors", trainer.averaged.state_dict(), config,
               DTYPES[options.dtype])
    draw_curves(read_log(options.output), options.output / "curves.png")
    if trainer.validation is not None:
        draw_samples(trainer.averaged, trainer.validation, options.output / "samples.png",
                     batch=trainer.judged_at_once)


def _teacher(path: pathlib.Path, student: Config) -> HyMUNet:
    """The network of ``--teacher``; ValueError where it cannot teach a network of ``student``."""
    network, config = load_model(path)
    require_teacher(config, student, str(path))
    return network


def use_device(name: str) -> torch.device:
    """The device of ``--device``, made CUDA's current one, on which Triton runs whatever its
    tensors' device is; ValueError where PyTorch cannot use it here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name}: no such device") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"--device {name}: PyTorch {torch.__version__} finds "
                         f"{torch.cuda.device_count()} CUDA devices here")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def _join(device: torch.device) -> torch.device:
    """Under torchrun, meet the other processes; the device of this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def eval_command(options: argparse.Namespace) -> None:
    """``eval``: mean Dice and IoU of a model file, in float32."""
    set_precision("fp32")
    network, config = load_model(options.model)
    config.require_pictures()
    device = use_device(options.device)
    height, width = config.input_size
    samples = load_folder(options.data, (height, width), options.limit,
                          config.num_classes).to(device)
    scores = evaluate(network.to(device), samples, options.batch)
    write_output(json.dumps({"images": len(samples.names), "dice_mean": round(scores.dice, 5),
                             "iou_mean": round(scores.iou, 5)}) + "\n")
    if options.samples:
        draw_samples(network, samples, options.samples, batch=options.batch)


def export_command(options: argparse.Namespace) -> None:
    """``export``: the averaged weights of a run's checkpoint as a model file."""
    path = options.checkpoint / CHECKPOINT if options.checkpoint.is_dir() else options.checkpoint
    state = load_checkpoint(path)
    weights = unwrap(state["model"], path)
    with naming(path):
        config = Config.from_json(state["config"])
        weights = fit(weights, HyMUNet(config))
    save_model(options.output, weights, config, DTYPES[options.dtype], options.uniform)


def convert_command(options: argparse.Namespace) -> None:
    """``convert``: a checkpoint of another trainer as a model file."""
    config, weights = _described(options), read_weights(options.checkpoint)
    with naming(options.checkpoint):
        weights = fit(weights, HyMUNet(config))
    save_model(options.output, weights, config, DTYPES[options.dtype], options.uniform)


def _described(options: argparse.Namespace) -> Config:
    """What ``convert``'s options, or the checkpoint itself, say that the network is."""
    if options.config and options.preset:
        raise ValueError("--config and --preset both say what the network is; give one of them")
    settings, text = dict(options.set), None
    source = options.config or options.checkpoint
    if options.config:
        with naming(source):
            text = source.read_text(encoding="utf-8")
    elif not (options.preset or settings):
        text = config_text(source)
    if text is None:
        return Config.preset(options.preset or "tiny", **settings)
    with naming(source):
        config = Config.from_json(text)
    return dataclasses.replace(config, **settings)


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
    parser = argparse.ArgumentParser(prog="hymn_train", description="Trains HyM-UNet, judges it, "
                                     "and makes the model files that hymn runs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="train from scratch, or go on with a run",
                                epilog=TRAIN_EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_train(train)
    evaluation = commands.add_parser("eval", help="mean Dice and IoU of a model file")
    evaluation.add_argument("model", type=pathlib.Path)
    evaluation.add_argument("--data", type=pathlib.Path, required=True,
                            help="a folder with images/ and masks/")
    evaluation.add_argument("--batch", type=count, default=10, help="pictures at a time "
                            "(default 10)")
    evaluation.add_argument("--limit", type=limit, default=0, metavar="N",
                            help="use only the first N samples")
    evaluation.add_argument("--samples", type=pathlib.Path, metavar="PNG",
                            help="draw some of the predictions")
    evaluation.set_defaults(command=eval_command)
    export = commands.add_parser("export", help="write a run's weights as a model file")
    export.add_argument("checkpoint", type=pathlib.Path, help="a run's folder, or its checkpoint")
    export.set_defaults(command=export_command)
    convert = commands.add_parser("convert", help="write another trainer's checkpoint as a model "
                                  "file")
    convert.add_argument("checkpoint", type=pathlib.Path, help="a .pt, .pth or .safetensors file")
    convert.add_argument("--config", type=pathlib.Path, help="the architecture, as JSON; --set "
                         "overrides fields of it")
    convert.set_defaults(command=convert_command)
    for command in (export, convert):
        command.add_argument("output", type=pathlib.Path, help="the model file to write")
        command.add_argument("--uniform", action="store_true",
                             help="store statistics and the scan's A in the same dtype too")
    for command in (train, convert):
        command.add_argument("--preset", choices=PRESETS, help="default tiny" if command is train
                             else "default: what a .safetensors file says of itself, else tiny")
        command.add_argument("--set", type=_setting, action="append", default=[],
                             metavar="FIELD=VALUE", help="override a field of the configuration: "
                             + ", ".join(field.name for field in dataclasses.fields(Config)))
    for command in (train, evaluation):
        command.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu",
                             help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    for command in (train, export, convert):
        command.add_argument("--dtype", choices=DTYPES, default="f16", help="how matrices are stored (default f16)")
    return parser


def _add_train(train: argparse.ArgumentParser) -> None:
    train.add_argument("--train", type=pathlib.Path, required=True,
                       help="a folder with images/ and masks/")
    train.add_argument("--validation", type=pathlib.Path, help="another one, to be judged by")
    train.add_argument("--holdout", type=share, default=0.0, metavar="SHARE",
                       help="without --validation, keep this share of the samples for it")
    train.add_argument("--output", type=pathlib.Path, required=True,
                       help="the run's folder: checkpoint, log.csv, model.safetensors, PNGs")
    train.add_argument("--limit", type=limit, default=0, metavar="N",
                       help="use only the first N samples")
    train.add_argument("--init", type=pathlib.Path, metavar="MODEL",
                       help="start from a model file, whose configuration replaces --preset")
    train.add_argument("--teacher", type=pathlib.Path, action="append", default=[],
                       metavar="MODEL", help="a model file to learn from as well; may be repeated")
    train.add_argument("--compile", action="store_true", help="fuse the network by torch.compile")
    choices = {"precision": PRECISIONS, "loss": list(LOSSES)}
    for field in dataclasses.fields(Recipe):
        kind = str if field.default is None else type(field.default)
        usual = "bf16 on CUDA, else fp32" if field.name == "precision" else field.default
        train.add_argument("--" + field.name.replace("_", "-"), type=kind, default=field.default,
                           choices=choices.get(field.name),
                           help=f"{RECIPE_HELP[field.name]} (default {usual})")
    train.set_defaults(command=train_command)


if __name__ == "__main__":
    sys.exit(main())
