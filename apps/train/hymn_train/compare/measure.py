# SPDX-License-Identifier: MIT
"""All that apps/train/compare.py measures, as the JSON file holds it."""

from __future__ import annotations

import argparse
import gc
import pathlib
from typing import Any, Callable, Dict, List, Mapping, Optional

import torch

from ..export import load_model
from . import layers, pytorch, report
from .engine import Hymn, version
from .job import Deadline, Job, Result, describe_machine, file_hash, note, reason
from .ncnn_backend import Ncnn, ncnn_name
from .rounds import COMPILE_SECONDS, Field

LAYER_SECONDS = 45.0
PATHS = ("hymn", "json", "chart", "table")  # options that say where files are, not what is measured


def makers(job: Job) -> Dict[str, Callable[[], Any]]:
    """Who takes part, by name; hymn first, whom the others are compared with."""
    options = job.options
    found: Dict[str, Callable[[], Any]] = {}
    for pictures in (False, True):
        if options.input in ("both", "image" if pictures else "tensor"):
            contestant = Hymn(job, pictures)
            found[contestant.name] = lambda contestant=contestant: contestant
    if options.ncnn:
        for vulkan, half in ((True, True), (True, False), (False, True)):
            found[ncnn_name(vulkan, half)] = \
                lambda vulkan=vulkan, half=half: Ncnn(job, vulkan, half)
    found.update({name: make for name, make in pytorch.contestants(job).items()
                  if name not in options.without})
    return found


def measure(job: Job, deadline: Deadline, prepared: Mapping[str, float]) -> Result:
    """One size and batch: everybody's times, ratios and errors.

    ``prepared`` has the seconds that contestants took to prepare before, by name.
    """
    options = job.options
    found = makers(job)
    slow = {name: prepared.get(name, COMPILE_SECONDS) for name in found
            if name.startswith(pytorch.Compiled.name)}
    field = Field(found, deadline, slow)
    measured = field.measure(options.rounds, options.runs, options.round_seconds, deadline)
    return field.summarise(job, measured)


def failed_case(options: argparse.Namespace, batch: int, text: str) -> Result:
    """What the JSON file holds of a batch that could not be prepared."""
    note(f"batch {batch} failed: {text}")
    size = [options.size] * 2 if options.size else list(load_model(options.model)[1].input_size)
    return {"size": size, "batch": batch, "results": {}, "failures": {"all": text}, "preparation_s": {}}


def measure_all(options: argparse.Namespace, folder: pathlib.Path) -> Result:
    """Everything that the options ask for, as the JSON file holds it."""
    deadline = Deadline(options.seconds)
    reserve = LAYER_SECONDS if options.layers else 0.0
    model = pathlib.Path(options.model).name
    summary: Result = {"format": report.FORMAT, "model": model,
                       "sha256": file_hash(options.model),
                       "machine": {**describe_machine(), "hymn": version(options.hymn)},
                       "options": {**{name: value for name, value in vars(options).items()
                                      if name not in PATHS}, "model": model}, "cases": []}
    prepared: Dict[str, float] = {}
    for batch in options.batch:
        note(f"batch {batch}, {deadline.spent():.0f} s after the start")
        before = Deadline(None if options.seconds is None else
                          max(deadline.left() - reserve, 1.0))
        try:
            case = measure(Job(options, folder, batch), before, prepared)
        except (OSError, MemoryError, RuntimeError) as error:  # its input fits neither memory nor disk
            case = failed_case(options, batch, reason(error))
        prepared.update(case["preparation_s"])
        summary["cases"].append(case)
        save(summary, options.json)
        release()
    if options.layers:
        summary["layer_failures"] = {}
        summary["layers"] = layer_part(options, folder, deadline, summary["layer_failures"])
    summary["seconds"] = round(deadline.spent(), 1)
    return summary


def layer_part(options: argparse.Namespace, folder: pathlib.Path,
               deadline: Deadline, failures: Dict[str, str]) -> List[Result]:
    """The layers at every batch asked for, and the scan of a long sequence."""
    found = []
    for batch in options.layer_batch:
        note(f"layers, batch {batch}, {deadline.spent():.0f} s after the start")
        try:
            found.append(layers.measure(options, folder, batch, deadline))
        except Exception as error:  # pylint: disable=broad-except # what is measured is kept
            failures[f"batch {batch}"] = reason(error)
            note(f"layers failed: {reason(error)}")
        release()
    return found


def release() -> None:
    """Give back what a case held on the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def save(summary: Result, path: Optional[str]) -> None:
    """Write the JSON file so far, where one is asked for; that it fails is told at the end, too."""
    try:
        if path:
            report.save(summary, pathlib.Path(path))
    except OSError as error:
        note(f"--json {path}: {error}")
