# SPDX-License-Identifier: MIT
"""Timing of what PyTorch runs, on a GPU by events and on a processor by its clock."""

from __future__ import annotations

import statistics
import time
from typing import Callable, List, Optional, Sequence

import torch

Run = Callable[[], object]

WARM_SECONDS = 0.35
GROUP_SECONDS = 0.02
MOST_IN_GROUP = 200


def warm_up(run: Run, seconds: float = WARM_SECONDS) -> float:
    """Runs until the GPU's clocks are up; seconds of a run."""
    began = time.perf_counter()
    count = 0
    while count < 3 or time.perf_counter() - began < seconds:
        for _ in range(3):
            run()
        torch.cuda.synchronize()
        count += 3
    began = time.perf_counter()
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    return max((time.perf_counter() - began) / 3, 1e-6)


def gpu_ms(run: Run, seconds: float, warm: float = WARM_SECONDS) -> List[float]:
    """Milliseconds of a run on the GPU, one number a group of runs that follow one another
    without a gap, so that what it costs to launch them is not in it unless the GPU waits for it."""
    once = warm_up(run, warm)
    group = min(max(int(GROUP_SECONDS / once), 1), MOST_IN_GROUP)
    count = min(max(int(seconds / (group * once)), 5), 500)
    times = []
    for _ in range(count):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(group):
            run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / group)
    return times


def wall_ms(run: Run, seconds: float, runs: Optional[int] = None) -> List[float]:
    """Milliseconds of a run on the host's clock: ``runs`` of them, or what fits, at least 3."""
    times: List[float] = []
    began = time.perf_counter()
    while len(times) < (runs or 3) or (runs is None and time.perf_counter() - began < seconds):
        since = time.perf_counter()
        run()
        times.append((time.perf_counter() - since) * 1000)
    return times


def median(values: List[float]) -> float:
    """The median."""
    return float(statistics.median(values))


def together_ms(graphs: Sequence[torch.cuda.CUDAGraph], streams: Sequence[torch.cuda.Stream],
                seconds: float) -> float:
    """Milliseconds of the host's clock for one run of a graph, where each graph runs on a stream of
    its own, again and again, all at the same time."""
    def each() -> None:
        for graph, stream in zip(graphs, streams):
            with torch.cuda.stream(stream):
                graph.replay()
    group = max(int(GROUP_SECONDS / warm_up(each)), 1)
    count, began = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - began < seconds:
        for _ in range(group):
            each()
        torch.cuda.synchronize()
        count += group * len(graphs)
    return (time.perf_counter() - began) * 1000 / count


def capture(run: Run, repeat: int = 1,
            stream: Optional[torch.cuda.Stream] = None) -> torch.cuda.CUDAGraph:
    """A CUDA graph of ``repeat`` runs in a row, after warming up beside the default stream; on
    ``stream``, and with its work space, where it is to run beside other graphs."""
    side = stream or torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, stream=stream):
        for _ in range(repeat):
            run()
    torch.cuda.synchronize()
    return graph
