# SPDX-License-Identifier: MIT
"""Alternating rounds over contestants, and what comes out of them."""

from __future__ import annotations

import math
import statistics
from typing import Any, Callable, Dict, List, Mapping, Optional

import numpy

from .job import Deadline, Job, Result, note, reason

COMPILE_SECONDS = 60.0


class Field:
    """The contestants of one job. One that fails is left out from there on, with its reason in
    ``failures``; the others go on."""

    def __init__(self, makers: Mapping[str, Callable[[], Any]], deadline: Deadline,
                 slow: Optional[Mapping[str, float]] = None) -> None:
        """``makers`` make the contestants, by name; ``slow`` has seconds that the preparation of
        some takes, who are left out where less remains."""
        self.contestants: Dict[str, Any] = {}
        self.failures: Dict[str, str] = {}
        self.seconds: Dict[str, float] = {}
        for name, make in makers.items():
            needed = (slow or {}).get(name, 0.0)
            if deadline.left() < needed:
                self.failures[name] = f"left out: {deadline.left():.0f} s remained"
                continue
            began = deadline.spent()
            contestant = self.attempt(name, make)
            if contestant is not None:
                self.contestants[name] = contestant
                self.attempt(name, contestant.prepare)
            self.seconds[name] = deadline.spent() - began
            note(f"{name}: ready after {self.seconds[name]:.1f} s")

    def attempt(self, name: str, action: Callable[[], Any]) -> Any:
        """What the action returns, or None after a failure, with which the contestant leaves."""
        try:
            return action()
        except Exception as error:  # pylint: disable=broad-except # others' code fails in any way
            self.failures[name] = reason(error)
            self.contestants.pop(name, None)
            note(f"{name} failed: {self.failures[name]}")
            return None

    def measure(self, rounds: int, runs: Optional[int], seconds: float,
                deadline: Deadline) -> Dict[str, List[Result]]:
        """Measurements by name, one a round; whoever is first in a round is last in the next."""
        measured: Dict[str, List[Result]] = {name: [] for name in self.contestants}
        for i in range(rounds):
            if i > 0 and deadline.left() <= 0:
                note(f"{i} rounds instead of {rounds}: the time is up")
                break
            for name in list(self.contestants)[::1 if i % 2 == 0 else -1]:
                contestant = self.contestants[name]
                result = self.attempt(name, lambda: contestant.measure(runs, seconds))
                if result is not None:
                    measured[name].append(result)
                    note(f"round {i + 1}: {name} {_ms(result['gpu_ms'])} GPU, "
                         f"{_ms(result['wall_ms'])} wall")
        return {name: measured[name] for name in self.contestants if measured[name]}

    def summarise(self, job: Job, measured: Dict[str, List[Result]]) -> Result:
        """What the JSON file holds of this job. ``ratio`` is how many times as long as the first
        contestant another takes: on the GPU, or by wall time (``ratio_of``) where one of the two
        has no GPU time."""
        results: Dict[str, Result] = {}
        for name, rounds in measured.items():
            contestant = self.contestants[name]
            results[name] = {
                "device": contestant.device, "rounds": rounds, **_medians(rounds),
                **(self.attempt(name, lambda: compare(contestant.output(), job.reference)) or {}),
                "details": contestant.details,
            }
        if results:
            first = next(iter(results.values()))
            for result in results.values():
                of = "gpu_ms" if result["gpu_ms"] and first["gpu_ms"] else "wall_ms"
                result["ratio"], result["ratio_of"] = result[of] / first[of], of
        return {"size": list(job.x.shape[2:]), "batch": job.batch, "results": results,
                "failures": self.failures, "preparation_s": self.seconds}


def nmse(values: numpy.ndarray, reference: numpy.ndarray) -> float:
    """The mean squared error in units of the reference's mean square."""
    return float(((values - reference) ** 2).sum() / (reference ** 2).sum())


def compare(values: Optional[numpy.ndarray], reference: numpy.ndarray) -> Result:
    """How far logits are off; None for each where there are none, or they are not finite, which
    ``finite`` says."""
    if values is None:
        return {"nmse": None, "max_abs_error": None}
    errors = {"nmse": nmse(values, reference),
              "max_abs_error": float(abs(values - reference).max())}
    told: Result = {name: value if math.isfinite(value) else None for name, value in errors.items()}
    return {**told, "finite": all(math.isfinite(value) for value in errors.values())}


def _medians(rounds: List[Result]) -> Result:
    summary: Result = {}
    for name in rounds[0]:
        values = [result[name] for result in rounds if result[name] is not None]
        summary[name] = statistics.median(values) if values else None
    for name in ("gpu_ms", "wall_ms"):
        values = [result[name] for result in rounds if result[name] is not None]
        summary[f"best_{name}"] = min(values) if values else None
    return summary


def _ms(value: Optional[float]) -> str:
    return "-" if value is None else f"{value:.3f} ms"
