# SPDX-License-Identifier: MIT
"""Training: AdamW with a warm-up and a cosine, averaged weights, one checkpoint an epoch.

Everything lives on the device: the whole training set as 8-bit pixels, the augmentation and
the network.  A run that was stopped goes on from its last finished epoch; the order of the
samples and the augmentation depend on the seed and the epoch alone.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import dataclasses
import json
import math
import pathlib
import time
from typing import Any, ContextManager, Dict, List, Optional

import torch
from torch import Tensor, nn

from .augment import augment
from .config import Config
from .data import Samples, normalise
from .evaluate import Scores, evaluate
from .losses import hybrid_loss
from .network import HyMUNet

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
LOG_FIELDS = ("epoch", "seconds", "lr", "loss", "dice", "iou")


@dataclasses.dataclass
class Recipe:
    """How to train.  ``precision`` is ``fp32``, ``tf32`` or ``bf16`` (autocast).

    ``average`` is the decay of the weights' moving average, by which runs are evaluated and
    exported; ``every`` is the number of epochs between evaluations.
    """

    epochs: int = 60
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 3
    average: float = 0.999
    clip: float = 1.0
    precision: str = "tf32"
    seed: int = 0
    every: int = 5


class Trainer:
    """One run, whose checkpoint and log live in ``folder``."""

    def __init__(self, config: Config, recipe: Recipe, folder: pathlib.Path, device: torch.device,
                 train: Samples, validation: Optional[Samples]) -> None:
        self.config, self.recipe, self.folder, self.device = config, recipe, folder, device
        self.train, self.validation = train.to(device), validation and validation.to(device)
        torch.manual_seed(recipe.seed)
        self.network = HyMUNet(config).to(device)
        if device.type == "cuda":
            self.network = self.network.to(memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(_decay_groups(self.network, recipe.weight_decay),
                                           lr=recipe.lr)
        self.generator = torch.Generator(device)
        self.epoch, self.step = 0, 0
        folder.mkdir(parents=True, exist_ok=True)
        set_precision(recipe.precision)

    def run(self, until: Optional[int] = None) -> Optional[Scores]:
        """Train to the last epoch, or for now to ``until``, evaluating on the way; the last scores."""
        scores = None
        while self.epoch < min(self.recipe.epochs, until or self.recipe.epochs):
            start = time.monotonic()
            loss = self._train_epoch()
            self.epoch += 1
            last = self.epoch == self.recipe.epochs
            due = last or self.epoch % self.recipe.every == 0
            if due and self.validation is not None:
                scores = evaluate(self.averaged, self.validation)
            self._log(time.monotonic() - start, loss, scores if due else None)
            self.save()
        return scores

    def save(self) -> None:
        """Write the checkpoint, replacing the last one at once."""
        state = {"config": self.config.to_json(), "recipe": self._recipe_json(),
                 "epoch": self.epoch, "step": self.step, "model": self.averaged.state_dict(),
                 "network": self.network.state_dict(),
                 "optimizer": self.optimizer.state_dict()["state"]}
        partial = self.folder / f"{CHECKPOINT}.partial"
        torch.save(state, partial)
        partial.replace(self.folder / CHECKPOINT)

    def resume(self) -> bool:
        """Take up the folder's checkpoint, if it has one; ValueError where it is another run's."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return False
        state = load_checkpoint(path, self.device)
        if (state["config"], state["recipe"]) != (self.config.to_json(), self._recipe_json()):
            raise ValueError(f"{path}: made with another configuration or recipe")
        self.averaged.load_state_dict(state["model"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(),
                                        "state": state["optimizer"]})
        self.epoch, self.step = state["epoch"], state["step"]
        return True

    def _recipe_json(self) -> str:
        """The recipe as the checkpoint keeps it: only tensors, strings and whole numbers load
        with ``weights_only`` in every PyTorch since 1.13."""
        return json.dumps(dataclasses.asdict(self.recipe))

    def _train_epoch(self) -> float:
        """One pass over the training set; its mean loss."""
        self.network.train()
        self.generator.manual_seed(self.recipe.seed * 1_000_003 + self.epoch)
        count = len(self.train.names)
        order = torch.randperm(count, generator=self.generator, device=self.device)
        total = torch.zeros((), device=self.device)
        steps = max(count // self.recipe.batch, 1)
        for i in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(self.epoch + i / steps)
            total += self._train_step(order[i * self.recipe.batch:(i + 1) * self.recipe.batch])
        return float(total) / steps

    def _train_step(self, chosen: Tensor) -> Tensor:
        images, masks = augment(self.train.images[chosen], self.train.masks[chosen],
                                self.generator)
        x = normalise(images, self.config)
        if self.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        with self._autocast():
            logits = self.network(x)
        loss = hybrid_loss(logits, masks)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        return loss.detach()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged network, BN statistics included, towards the trained one."""
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        targets: List[Tensor] = []
        sources: List[Tensor] = []
        for target, source in zip(self.averaged.state_dict().values(),
                                  self.network.state_dict().values()):
            if target.is_floating_point():
                targets.append(target)
                sources.append(source)
            else:
                target.copy_(source)
        torch._foreach_mul_(targets, decay)
        torch._foreach_add_(targets, sources, alpha=1.0 - decay)

    def _rate(self, epoch: float) -> float:
        """The learning rate at a fractional epoch: linear warm-up, then half a cosine to zero."""
        recipe = self.recipe
        if epoch < recipe.warmup:
            return recipe.lr * (epoch + 0.02) / (recipe.warmup + 0.02)
        progress = (epoch - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1)
        return recipe.lr * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

    def _autocast(self) -> ContextManager[Any]:
        if self.recipe.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def _log(self, seconds: float, loss: float, scores: Optional[Scores]) -> None:
        path = self.folder / LOG
        fresh = not path.exists()
        row = [self.epoch, f"{seconds:.2f}", f"{self._rate(self.epoch):.3e}", f"{loss:.5f}"]
        row += [f"{scores.dice:.5f}", f"{scores.iou:.5f}"] if scores else ["", ""]
        with open(path, "a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(LOG_FIELDS)
            writer.writerow(row)
        print(" ".join(f"{name} {value}" for name, value in zip(LOG_FIELDS, row) if value != ""),
              flush=True)


def load_checkpoint(path: pathlib.Path, device: torch.device = torch.device("cpu")) -> Dict[str, Any]:
    """The content of a checkpoint: ``config`` and ``recipe`` as JSON, ``model`` (the averaged
    weights), and what a resume needs."""
    return torch.load(path, map_location=device, weights_only=True)


def set_precision(precision: str) -> None:
    """Allow TF32 for float32 products on CUDA unless ``precision`` is ``fp32``."""
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.benchmark = True


def _decay_groups(network: nn.Module, weight_decay: float) -> List[Dict[str, Any]]:
    """Weight decay for the matrices only: not for norms, biases or the scan's A, D and steps."""
    free_names = ("A_logs", "dt_projs_bias")
    decayed: List[nn.Parameter] = []
    free: List[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_free = parameter.dim() < 2 or name.endswith(free_names)
        (free if is_free else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay},
            {"params": free, "weight_decay": 0.0}]
