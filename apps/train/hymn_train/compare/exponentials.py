# SPDX-License-Identifier: MIT
"""A Triton kernel that does nothing but exponentials: the scan's arithmetic ceiling."""

from __future__ import annotations

from typing import Callable, Tuple

import torch
import triton
import triton.language as tl

BLOCK = 2048
REPEATS = 512
PROGRAMS_EACH = 64


@triton.jit
def _exponentials(y, repeats, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = offsets.to(tl.float32) * 1e-7
    for _ in range(repeats):
        x = tl.exp2(-x)
    tl.store(y + offsets, x)


def workload() -> Tuple[Callable[[], object], int]:
    """What to run, and how many exponentials it computes."""
    programs = PROGRAMS_EACH * torch.cuda.get_device_properties(0).multi_processor_count
    y = torch.empty(programs * BLOCK, device="cuda")
    return (lambda: _exponentials[(programs,)](y, REPEATS, BLOCK=BLOCK, num_warps=4)), \
        programs * BLOCK * REPEATS
