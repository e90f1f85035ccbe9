# SPDX-License-Identifier: MIT
"""The selective scan as fused Triton kernels, forward and backward (see scan.py for shapes).

One program walks one sequence (a batch element's direction) for a block of channels, one lane
a channel with its states in registers, and finds its pixels by index arithmetic, so nothing is
permuted.  The forward pass keeps the states at the start of every chunk; the backward pass
takes the chunks from the last to the first, walks each again from there while it notes the
states, and then back.  Gradients that sum over channels (B, C) or over the batch (A, skip) are
written a block or a batch element each and summed afterwards, so they do not depend on the run.
"""

from __future__ import annotations

from typing import Any, Dict, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .scan import DIRECTIONS

Gradients = Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]

CHUNK = 16
BLOCK_CHANNELS = 32


@triton.jit
def _pixel(position, direction, height, width):
    """The pixel at ``position`` of the direction's sequence, kept inside the picture."""
    position = tl.maximum(tl.minimum(position, height * width - 1), 0)
    position = tl.where(direction >= 2, height * width - 1 - position, position)
    across = (position % height) * width + position // height
    return tl.where(direction % 2 == 1, across, position)


@triton.jit
def _forward(u, delta, A, B, C, skip, y, checkpoints, height, width, channels, states,
             CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    sequence = tl.program_id(0).to(tl.int64)
    direction = tl.program_id(0) % 4
    length = height * width
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    rows = tl.arange(0, BLOCK_N)
    n = rows[:, None] + tl.zeros((BLOCK_N, BLOCK_D), tl.int32)
    d = columns[None, :] + tl.zeros((BLOCK_N, BLOCK_D), tl.int32)
    in_n, in_d = n < states, d < channels
    A += direction * channels * states + d * states + n
    decay = tl.load(A, mask=in_n & in_d, other=0.0)
    through = tl.load(skip + direction * channels + d, mask=in_d & (n == 0), other=0.0)
    u += (sequence // 4) * length * channels + d
    delta += sequence * length * channels + d
    y += sequence * length * channels + columns
    B += sequence * length * states + rows
    C += sequence * length * states + rows
    chunks = tl.cdiv(length, CHUNK)
    checkpoints += (sequence * chunks * states + n) * channels + d
    state = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    pixel = _pixel(0, direction, height, width)
    u_next = tl.load(u + pixel * channels, mask=in_d, other=0.0)
    delta_next = tl.load(delta + pixel * channels, mask=in_d, other=0.0)
    B_next = tl.load(B + pixel * states, mask=rows < states, other=0.0)
    C_next = tl.load(C + pixel * states, mask=rows < states, other=0.0)
    for position in range(0, length):
        here = pixel
        u_l, delta_l, B_l, C_l = u_next, delta_next, B_next, C_next
        pixel = _pixel(position + 1, direction, height, width)
        u_next = tl.load(u + pixel * channels, mask=in_d, other=0.0)
        delta_next = tl.load(delta + pixel * channels, mask=in_d, other=0.0)
        B_next = tl.load(B + pixel * states, mask=rows < states, other=0.0)
        C_next = tl.load(C + pixel * states, mask=rows < states, other=0.0)
        if position % CHUNK == 0:
            tl.store(checkpoints + (position // CHUNK) * channels * states, state,
                     mask=in_n & in_d)
        state = tl.exp(delta_l * decay) * state + delta_l * u_l * B_l[:, None]
        tl.store(y + here * channels, tl.sum(state * C_l[:, None] + through * u_l, 0), mask=columns < channels)


@triton.jit
def _backward(u, delta, A, B, C, skip, dy, checkpoints, scratch,
              du, ddelta, dA, dB, dC, dskip, height, width, channels, states,
              CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr):
    sequence = tl.program_id(0).to(tl.int64)
    sequences = tl.num_programs(0).to(tl.int64)
    direction = tl.program_id(0) % 4
    length = height * width
    columns = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    rows = tl.arange(0, BLOCK_N)
    n = rows[:, None] + tl.zeros((BLOCK_N, BLOCK_D), tl.int32)
    d = columns[None, :] + tl.zeros((BLOCK_N, BLOCK_D), tl.int32)
    in_n, in_d = n < states, d < channels
    in_rows, in_columns = rows < states, columns < channels
    A += direction * channels * states + d * states + n
    decay = tl.load(A, mask=in_n & in_d, other=0.0)
    through = tl.load(skip + direction * channels + d, mask=in_d & (n == 0), other=0.0)
    u += (sequence // 4) * length * channels + d
    delta += sequence * length * channels + d
    dy += sequence * length * channels + d
    du += sequence * length * channels + columns
    ddelta += sequence * length * channels + columns
    B += sequence * length * states + rows
    C += sequence * length * states + rows
    dB += (tl.program_id(1) * sequences + sequence) * length * states + rows
    dC += (tl.program_id(1) * sequences + sequence) * length * states + rows
    chunks = tl.cdiv(length, CHUNK)
    checkpoints += (sequence * chunks * states + n) * channels + d
    scratch += (sequence * tl.num_programs(1) + tl.program_id(1)) * CHUNK * BLOCK_D * BLOCK_N
    scratch += n * BLOCK_D + d - tl.program_id(1) * BLOCK_D
    carry = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    decay_sum = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    skip_sum = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for i in range(0, chunks):
        first = (chunks - 1 - i) * CHUNK
        last = tl.minimum(first + CHUNK, length)
        state = tl.load(checkpoints + (chunks - 1 - i) * channels * states, mask=in_n & in_d,
                        other=0.0)
        pixel = _pixel(first, direction, height, width)
        u_next = tl.load(u + pixel * channels, mask=in_d, other=0.0)
        delta_next = tl.load(delta + pixel * channels, mask=in_d, other=0.0)
        B_next = tl.load(B + pixel * states, mask=in_rows, other=0.0)
        for t in range(0, last - first):
            u_l, delta_l, B_l = u_next, delta_next, B_next
            pixel = _pixel(first + t + 1, direction, height, width)
            u_next = tl.load(u + pixel * channels, mask=in_d, other=0.0)
            delta_next = tl.load(delta + pixel * channels, mask=in_d, other=0.0)
            B_next = tl.load(B + pixel * states, mask=in_rows, other=0.0)
            tl.store(scratch + t * BLOCK_D * BLOCK_N, state)
            state = tl.exp(delta_l * decay) * state + delta_l * u_l * B_l[:, None]
        tl.debug_barrier()
        pixel = _pixel(last - 1, direction, height, width)
        before_next = tl.load(scratch + (last - first - 1) * BLOCK_D * BLOCK_N)
        u_next = tl.load(u + pixel * channels, mask=in_d, other=0.0)
        delta_next = tl.load(delta + pixel * channels, mask=in_d, other=0.0)
        dy_next = tl.load(dy + pixel * channels, mask=in_d, other=0.0)
        B_next = tl.load(B + pixel * states, mask=in_rows, other=0.0)
        C_next = tl.load(C + pixel * states, mask=in_rows, other=0.0)
        for back in range(1, last - first + 1):
            here = pixel
            before, u_l, delta_l, dy_l = before_next, u_next, delta_next, dy_next
            B_l, C_l = B_next[:, None], C_next[:, None]
            pixel = _pixel(last - 1 - back, direction, height, width)
            before_next = tl.load(scratch + tl.maximum(last - first - 1 - back, 0)
                                  * BLOCK_D * BLOCK_N)
            u_next = tl.load(u + pixel * channels, mask=in_d, other=0.0)
            delta_next = tl.load(delta + pixel * channels, mask=in_d, other=0.0)
            dy_next = tl.load(dy + pixel * channels, mask=in_d, other=0.0)
            B_next = tl.load(B + pixel * states, mask=in_rows, other=0.0)
            C_next = tl.load(C + pixel * states, mask=in_rows, other=0.0)
            kept = tl.exp(delta_l * decay)
            inherited = kept * before
            driven = delta_l * u_l
            g = carry + dy_l * C_l
            tl.store(dB + here * states, tl.sum(g * driven, 1), mask=in_rows)
            tl.store(dC + here * states, tl.sum((inherited + driven * B_l) * dy_l, 1),
                     mask=in_rows)
            carry = g * kept
            inherited *= g
            decay_sum += inherited * delta_l
            skip_sum += dy_l * u_l
            tl.store(ddelta + here * channels, tl.sum(inherited * decay + g * B_l * u_l, 0),
                     mask=in_columns)
            tl.store(du + here * channels, tl.sum(g * B_l * delta_l + dy_l * through, 0),
                     mask=in_columns)
        tl.debug_barrier()
    tl.store(dA + sequence * channels * states + d * states + n, decay_sum, mask=in_n & in_d)
    tl.store(dskip + sequence * channels + d, skip_sum, mask=in_d & (n == 0))


# Opaque to torch.compile, which would otherwise have to look into them.
@torch.library.custom_op("hymn_train::scan", mutates_args=(), schema=(
    "(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor skip, int height, int width)"
    " -> (Tensor, Tensor)"))
def _scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
          height: int, width: int) -> Tuple[Tensor, Tensor]:
    """y of the scan, and the states at the start of every chunk; float32, contiguous."""
    y, checkpoints = _scan_shapes(u, delta, A, B, C, skip, height, width)
    sequences, (channels, states) = delta.shape[0] * DIRECTIONS, A.shape[1:]
    _forward[_grid(sequences, channels)](
        u, delta, A, B, C, skip, y, checkpoints, height, width, channels, states,
        **_blocks(states))
    return y, checkpoints


@_scan.register_fake
def _scan_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
                 height: int, width: int) -> Tuple[Tensor, Tensor]:
    chunks = -(-height * width // CHUNK)
    checkpoints = u.new_empty(delta.shape[0] * DIRECTIONS, chunks, A.shape[2], A.shape[1])
    return torch.empty_like(delta), checkpoints


@torch.library.custom_op("hymn_train::scan_backward", mutates_args=(), schema=(
    "(Tensor dy, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor skip,"
    " Tensor checkpoints, int height, int width)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"))
def _scan_backward(dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                   skip: Tensor, checkpoints: Tensor, height: int, width: int) -> Gradients:
    """The gradients of u, delta, A, B, C and skip."""
    sequences, (channels, states) = delta.shape[0] * DIRECTIONS, A.shape[1:]
    grid, sizes = _grid(sequences, channels), _blocks(states)
    du, ddelta = torch.empty_like(delta), torch.empty_like(delta)
    scratch = u.new_empty(grid[0] * grid[1], CHUNK, sizes["BLOCK_N"], sizes["BLOCK_D"])
    dA = u.new_empty(delta.shape[0], *A.shape)
    dskip = u.new_empty(delta.shape[0], *skip.shape)
    dB, dC = (u.new_empty(grid[1], *B.shape) for _ in range(2))
    _backward[grid](
        u, delta, A, B, C, skip, dy, checkpoints, scratch,
        du, ddelta, dA, dB, dC, dskip, height, width, channels, states, **sizes)
    return du.sum(1), ddelta, dA.sum(0), dB.sum(0), dC.sum(0), dskip.sum(0)


@_scan_backward.register_fake
def _scan_backward_shapes(dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                          skip: Tensor, checkpoints: Tensor, height: int,
                          width: int) -> Gradients:
    return tuple(torch.empty_like(x) for x in (u, delta, A, B, C, skip))


def _keep_inputs(ctx: Any, inputs: Tuple[Any, ...], output: Tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.height, ctx.width = inputs
    ctx.save_for_backward(*tensors, output[1])


def _differentiate(ctx: Any, dy: Tensor, _: Any) -> Tuple[Any, ...]:
    return (*_scan_backward(dy.contiguous(), *ctx.saved_tensors, ctx.height, ctx.width),
            None, None)


_scan.register_autograd(_differentiate, setup_context=_keep_inputs)


def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
         height: int, width: int) -> Tensor:
    """The scan of scan.py's docstring, float32, on a CUDA device."""
    tensors = (x.contiguous() for x in (u, delta, A, B, C, skip))
    return _scan(*tensors, height, width)[0]


def _grid(sequences: int, channels: int) -> Tuple[int, int]:
    return sequences, -(-channels // BLOCK_CHANNELS)


def _blocks(states: int) -> Dict[str, int]:
    return {"CHUNK": CHUNK, "BLOCK_D": BLOCK_CHANNELS,
            "BLOCK_N": triton.next_power_of_2(states), "num_warps": 1 if states <= 16 else 4}
