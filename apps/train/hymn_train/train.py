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
import hashlib
import io
import json
import math
import pathlib
import sys
import time
from typing import (Any, Callable, ContextManager, Dict, List, Mapping, Optional, Sequence,
                    Tuple)

import torch
import torch.distributed
from torch import Tensor, nn

from .augment import augment
from .checkpoint import read_checkpoint
from .config import Config
from .data import Samples, normalise
from .evaluate import Scores, evaluate
from .files import write_file, write_output
from .losses import LOSSES
from .network import HyMUNet
from .scan import automatic_form
from .supervised import Supervised, Teachers, pyramid_loss, require_teacher

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_KEYS = ("config", "recipe", "epoch", "step", "model", "supervised", "optimizer")
DATA_NAMES = {"training": "training pictures", "validation": "validation pictures",
              "initial": "initial weights", "teachers": "teachers"}
# Pictures that are judged at once, or a process' share of a batch if that is less: what a step of
# training fits into suffices for judging too.
JUDGED = 50
LOG = "log.csv"
LOG_FIELDS = ("epoch", "seconds", "lr", "loss", "dice", "iou")
PRECISIONS = ("fp32", "tf32", "bf16")

# What the recipe's numbers must be, in words and as a condition that NaN does not meet.
_AT_LEAST_1 = ("at least 1", lambda x: 1 <= x < math.inf)
_FROM_0 = ("a number from 0 on", lambda x: 0 <= x < math.inf)
_BELOW_1 = ("from 0 to below 1", lambda x: 0 <= x < 1)
RECIPE_RANGES: Dict[str, Tuple[str, Callable[[float], bool]]] = {
    "epochs": _AT_LEAST_1, "batch": _AT_LEAST_1, "every": _AT_LEAST_1,
    "lr": ("a positive number", lambda x: 0 < x < math.inf),
    "clip": ("above 0", lambda x: x > 0),
    "weight_decay": _FROM_0, "warmup": _FROM_0, "supervision": _FROM_0,
    "drop_path": _BELOW_1, "average": _BELOW_1,
    "distil": ("from 0 to 1", lambda x: 0 <= x <= 1),
    "seed": ("from -10^12 to 10^12", lambda x: abs(x) <= 10 ** 12),  # generators' seeds, a million apart, have 64 bits
}


@dataclasses.dataclass
class Recipe:
    """How to train.  ``precision`` is ``fp32``, ``tf32`` or ``bf16`` (autocast); None stands for
    ``bf16`` on CUDA and ``fp32`` elsewhere (:meth:`on`).

    ``average`` is the decay of the weights' moving average, by which runs are evaluated and
    exported; ``every`` the number of epochs between evaluations; ``loss`` a row of
    :data:`losses.LOSSES`; ``supervision`` the number of coarser decoder stages with heads of
    their own; ``drop_path`` the stochastic depth of the last VSS block; ``distil`` the share of
    the loss that is taken from the teachers, where there are any.
    """

    epochs: int = 60
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 3
    average: float = 0.999
    clip: float = 1.0
    precision: Optional[str] = None
    seed: int = 0
    every: int = 5
    loss: str = "hybrid"
    supervision: int = 2
    drop_path: float = 0.0
    distil: float = 0.5

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"no loss {self.loss!r}; there are {', '.join(LOSSES)}")
        if self.precision not in (None, *PRECISIONS):
            raise ValueError(f"no precision {self.precision!r}; there are {', '.join(PRECISIONS)}")
        for name, (text, is_good) in RECIPE_RANGES.items():
            if not is_good(getattr(self, name)):
                raise ValueError(f"{name} must be {text}, is {getattr(self, name)}")

    def on(self, device: torch.device) -> "Recipe":
        """The same recipe with the precision that it means on ``device``."""
        usual = "bf16" if device.type == "cuda" else "fp32"
        return dataclasses.replace(self, precision=self.precision or usual)


class Trainer:
    """One run, whose checkpoint and log live in ``folder``.

    ``initial`` are weights to start from (a state_dict), ``teachers`` finished networks to learn
    from.  ``compiled`` has torch.compile fuse the network: a minute at the start, faster steps,
    other rounding.  Where torch.distributed is initialised, every process takes its share of each
    batch, and the first evaluates, logs and saves.
    """

    def __init__(self, config: Config, recipe: Recipe, folder: pathlib.Path, device: torch.device,
                 train: Samples, validation: Optional[Samples],
                 initial: Optional[Mapping[str, Tensor]] = None,
                 teachers: Sequence[HyMUNet] = (), compiled: bool = False) -> None:
        recipe = recipe.on(device)
        self.config, self.recipe, self.folder, self.device = config, recipe, folder, device
        self.train, self.validation = train.to(device), validation and validation.to(device)
        torch.manual_seed(recipe.seed)
        self.rank, self.world = process()
        step = min(recipe.batch, len(train.names))
        if step < self.world:
            raise ValueError(f"a step has {step} pictures (batch {recipe.batch}, of "
                             f"{len(train.names)} in all), but each of {self.world} processes "
                             "needs one")
        self.network = HyMUNet(config).use_drop_path(recipe.drop_path).to(device)
        self.data = self._data(initial, teachers)
        if initial is not None:
            self.network.load_state_dict(initial)
        self.supervised = Supervised(self.network, recipe.supervision).to(device)
        if device.type == "cuda":
            self.supervised = self.supervised.to(memory_format=torch.channels_last)
            self.network.use_scan(automatic_form(device, torch.float32, True))
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.teachers = Teachers([self._ready(teacher, f"teacher {i + 1}")
                                  for i, teacher in enumerate(teachers)])
        self.forward: Callable[[Tensor], List[Tensor]] = self.supervised
        if compiled:
            self.forward = torch.compile(self.supervised, dynamic=False)
            self.teachers.networks = [torch.compile(x, dynamic=False)
                                      for x in self.teachers.networks]
        self.optimizer = torch.optim.AdamW(
            _decay_groups(self.supervised, recipe.weight_decay), lr=recipe.lr,
            **({"fused": True} if device.type == "cuda" else {}))
        self.generator = torch.Generator(device)
        self.epoch, self.step = 0, 0
        self.trained: Dict[str, float] = {}  # loss and seconds of the epoch, until it is logged
        self._pair_averages()
        folder.mkdir(parents=True, exist_ok=True)
        set_precision(recipe.precision)

    def run(self, until: Optional[int] = None) -> Optional[Scores]:
        """Train to the last epoch, or for now to ``until``, evaluating on the way; the last scores.

        An epoch is saved before it is judged and logged: what fails there is done first when the
        run is gone on with.  ValueError where an epoch's loss or weights are not finite: it is
        neither logged nor saved.
        """
        scores = self._report()
        while self.epoch < min(self.recipe.epochs, until or self.recipe.epochs):
            start = time.monotonic()
            loss = self._train_epoch()
            self._require_finite(loss)
            self.epoch += 1
            self.trained = {"loss": loss, "seconds": time.monotonic() - start}
            if self.rank == 0:
                self.save()
            scores = self._report() or scores
        return scores

    @property
    def judged_at_once(self) -> int:
        """Pictures of a batch of validation."""
        return min(JUDGED, max(self.recipe.batch // self.world, 1))

    def _report(self) -> Optional[Scores]:
        """Judge the epoch that ended if it is due, and log it, unless that has been done."""
        if self.rank != 0 or not self.trained:
            return None
        start, scores = time.monotonic(), None
        due = self.epoch == self.recipe.epochs or self.epoch % self.recipe.every == 0
        if due and self.validation is not None:
            scores = evaluate(self.averaged, self.validation, self.judged_at_once)
        seconds = self.trained["seconds"] + time.monotonic() - start
        self._log(seconds, self.trained["loss"], scores)
        self.trained = {}
        return scores

    def save(self) -> None:
        """Write the checkpoint, replacing the last one at once."""
        state = {"config": self.config.to_json(), "recipe": self._recipe_json(),
                 "data": json.dumps(self.data), "epoch": self.epoch, "step": self.step,
                 "trained": json.dumps(self.trained),
                 "model": self.averaged.state_dict(),
                 "supervised": self.supervised.state_dict(),
                 "optimizer": self.optimizer.state_dict()["state"]}
        content = io.BytesIO()  # PyTorch's own writing to a file may end the process where the disk is full
        torch.save(state, content)
        write_file(self.folder / CHECKPOINT, [content.getbuffer()])

    def resume(self) -> bool:
        """Take up the folder's checkpoint, if it has one; ValueError where it is another run's."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            if self.rank == 0:
                self._trim_log()
            return False
        state = load_checkpoint(path, self.device)
        differences = self._differences(state)
        if differences:
            raise ValueError(f"{path}: made with {', '.join(differences)}")
        self.averaged.load_state_dict(state["model"])
        self.supervised.load_state_dict(state["supervised"])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(),
                                        "state": state["optimizer"]})
        self.epoch, self.step = state["epoch"], state["step"]
        self.trained = {}
        if self.rank == 0:
            self._trim_log()
            if str(self.epoch) not in [row["epoch"] for row in read_log(self.folder)]:
                self.trained = json.loads(state.get("trained", "{}"))  # older checkpoints have none
        return True

    def _differences(self, state: Mapping[str, Any]) -> List[str]:
        """What a checkpoint was made with and this run has otherwise."""
        found = []
        for key, now in (("config", self.config.to_json()), ("recipe", self._recipe_json())):
            ours, theirs = json.loads(now), json.loads(state[key])
            found += [f"{name} {theirs.get(name)} (now {ours.get(name)})"
                      for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
        data = json.loads(state.get("data", "{}"))  # older checkpoints have none
        found += [f"other {name}" for key, name in DATA_NAMES.items()
                  if data.get(key, self.data[key]) != self.data[key]]
        return found

    def _data(self, initial: Optional[Mapping[str, Tensor]],
              teachers: Sequence[HyMUNet]) -> Dict[str, str]:
        """Digests, by the keys of :data:`DATA_NAMES`: of the pictures' names, of the weights."""
        parts = {"training": self.train, "validation": self.validation}
        found = {key: hashlib.sha256(json.dumps(part.names if part else []).encode()).hexdigest()
                 for key, part in parts.items()}
        found["initial"] = _digest(initial or {})
        found["teachers"] = ",".join(_digest(teacher.state_dict()) for teacher in teachers)
        return found

    def _recipe_json(self) -> str:
        """The recipe as the checkpoint keeps it: only tensors, strings and whole numbers load
        with ``weights_only`` in every PyTorch since 1.13."""
        return json.dumps(dataclasses.asdict(self.recipe))

    def _ready(self, teacher: HyMUNet, name: str) -> HyMUNet:
        require_teacher(teacher.config, self.config, name)
        teacher = teacher.to(self.device)
        if self.device.type == "cuda":
            teacher.use_scan(automatic_form(self.device, torch.float32, True))
            teacher = teacher.to(memory_format=torch.channels_last)
        return teacher

    def _require_finite(self, loss: float) -> None:
        """ValueError where the epoch that just ended has failed; says what is kept."""
        kept = f"{self.folder / CHECKPOINT} keeps epoch {self.epoch}" if self.epoch else "nothing is saved"
        if not math.isfinite(loss):
            raise ValueError(f"the loss of epoch {self.epoch + 1} is {loss}; {kept}")
        if not all(bool(torch.isfinite(target).all()) for target in self._targets):
            raise ValueError(f"the weights after epoch {self.epoch + 1} are not finite; {kept}")

    def _train_epoch(self) -> float:
        """One pass over the training set; its mean loss, the same in every process."""
        self.supervised.train()
        seed = self.recipe.seed * 1_000_003 + self.epoch
        self.generator.manual_seed(seed)
        count = len(self.train.names)
        order = torch.randperm(count, generator=self.generator, device=self.device)
        self.generator.manual_seed(seed + (self.rank + 1) * 1_000_000_007)
        torch.manual_seed(seed + (self.rank + 1) * 1_000_000_007)
        total = torch.zeros((), device=self.device)
        steps = max(count // self.recipe.batch, 1)
        for i in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(self.epoch + i / steps)
            batch = order[i * self.recipe.batch:(i + 1) * self.recipe.batch]
            total += self._train_step(batch[self.rank::self.world])
            self._progress(i + 1, steps)
        if self.world > 1:
            torch.distributed.all_reduce(total)
        return float(total) / (steps * self.world)

    def _train_step(self, chosen: Tensor) -> Tensor:
        images, masks = augment(self.train.images[chosen], self.train.masks[chosen],
                                self.generator, self.config.num_classes)
        x = normalise(images, self.config)
        if self.device.type == "cuda":
            x = x.contiguous(memory_format=torch.channels_last)
        weights = LOSSES[self.recipe.loss]
        with self._autocast():
            pyramid = self.forward(x)
            target = self.teachers(x) if self.teachers.networks else None
        loss = pyramid_loss(pyramid, masks, weights)
        if target is not None:
            taught = pyramid_loss(pyramid, target, weights)
            loss = (1.0 - self.recipe.distil) * loss + self.recipe.distil * taught
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._share_gradients()
        nn.utils.clip_grad_norm_(self.supervised.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        return loss.detach()

    def _share_gradients(self) -> None:
        """The mean of the gradients over the processes, in one exchange."""
        if self.world > 1:
            gradients = [p.grad for p in self.supervised.parameters() if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            torch.distributed.all_reduce(flat)
            flat /= self.world
            parts = flat.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts):
                gradient.copy_(part.view_as(gradient))

    def _pair_averages(self) -> None:
        """Note the tensors that :meth:`_average` works on."""
        pairs = list(zip(self.averaged.state_dict().values(), self.network.state_dict().values()))
        self._targets = [target for target, _ in pairs if target.is_floating_point()]
        self._sources = [source for _, source in pairs if source.is_floating_point()]

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged network, BN statistics included, towards the trained one."""
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        torch._foreach_mul_(self._targets, decay)
        torch._foreach_add_(self._targets, self._sources, alpha=1.0 - decay)

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

    def _progress(self, step: int, steps: int) -> None:
        """On a terminal, how far the epoch is."""
        if self.rank == 0 and sys.stderr.isatty():
            end = "\r" if step < steps else "\r\033[K"
            text = f"epoch {self.epoch + 1}/{self.recipe.epochs} step {step}/{steps}"
            print(text if step < steps else "", end=end, file=sys.stderr, flush=True)

    def _log(self, seconds: float, loss: float, scores: Optional[Scores]) -> None:
        path = self.folder / LOG
        fresh = not path.exists() or path.stat().st_size == 0
        row = [self.epoch, f"{seconds:.2f}", f"{self._rate(self.epoch):.3e}", f"{loss:.5f}"]
        row += [f"{scores.dice:.5f}", f"{scores.iou:.5f}"] if scores else ["", ""]
        with open(path, "a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(LOG_FIELDS)
            writer.writerow(row)
        left = seconds * (self.recipe.epochs - self.epoch)
        told = [f"{name} {value}" for name, value in zip(LOG_FIELDS, row) if value != ""]
        with contextlib.suppress(OSError):  # who reads it may have gone; the log has it
            write_output(" ".join([*told, f"left {left / 60:.1f} min\n"]))

    def _trim_log(self) -> None:
        """Drop the rows of epochs that the checkpoint does not have: they are trained again."""
        if (self.folder / LOG).exists():
            rows = read_log(self.folder)
            kept = io.StringIO(newline="")
            writer = csv.DictWriter(kept, LOG_FIELDS)
            writer.writeheader()
            writer.writerows(row for row in rows if int(row["epoch"]) <= self.epoch)
            write_file(self.folder / LOG, [kept.getvalue().encode()])


def process() -> Tuple[int, int]:
    """This process' number and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def read_log(folder: pathlib.Path) -> List[Dict[str, str]]:
    """The rows of a run's log, whole ones only; none where there is no log, or no header of one."""
    if not (folder / LOG).exists():
        return []
    with open(folder / LOG, newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != LOG_FIELDS:
            return []
        return [row for row in reader if None not in row and None not in row.values()]


def load_checkpoint(path: pathlib.Path, device: torch.device = torch.device("cpu")) -> Dict[str, Any]:
    """The content of a checkpoint: ``config`` and ``recipe`` as JSON, ``model`` (the averaged
    weights), and what a resume needs; ValueError names a file that has none of that."""
    state = read_checkpoint(path, device, CHECKPOINT_KEYS)
    for key in ("config", "recipe"):
        if not _is_object(state[key]):
            raise ValueError(f"{path}: not a checkpoint, or damaged: its {key} is no JSON object")
    return state


def _digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors and their names."""
    total = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        total.update(f"{name} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().double().contiguous().numpy().tobytes())
    return total.hexdigest()


def _is_object(text: Any) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


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
