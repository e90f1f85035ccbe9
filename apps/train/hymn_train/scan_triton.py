# SPDX-License-Identifier: MIT
"""The selective scan as fused Triton kernels, forward and backward (see scan.py for shapes).

One program walks one sequence (a batch element's direction) for a block of channels, a chunk of
positions at a time, and finds its pixels by index arithmetic, so nothing is permuted.  A chunk is
a tile (positions, states, channels) with the positions in registers: all loads of a chunk are
under way at once, the next chunks' too, and the recurrence inside it is an associative scan of
pairs, (a, b) then (c, d) being (a*c, c*b + d).  Where gradients are wanted, the forward pass keeps
the states at the start of every chunk; the backward pass takes the chunks from the last to the
first and computes each again from there.  Gradients that sum over channels (B, C) or over the
batch (A, skip) are written a block or a batch element each and summed afterwards, so they do not
depend on the run.
"""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .scan import DIRECTIONS

Gradients = Tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]



class Tiling(NamedTuple):
    """How a kernel divides its work: positions of a chunk, channels of a program, chunks whose
    loads are under way at once, and the warps of a program per 16 states."""

    chunk: int
    channels: int
    stages: int
    warps: int


# The fastest of some twenty on an H100: up to 16 states by one warp, so that no sum crosses warps.
TRAINING = Tiling(chunk=4, channels=16, stages=3, warps=1)


def inference_tiling(channel_sequences: int) -> Tiling:
    """Without checkpoints, for so many channels of sequences in all: the more there are, the more
    of them a program has.  The fastest of 52 on an H200, or within 5 % of it, at lengths of 4096,
    1024 and 256 with 256, 512 and 1024 channels, for 1, 8 and 32 pictures: up to 2.1 times as fast
    as TRAINING."""
    if channel_sequences < 12288:
        return Tiling(chunk=16, channels=8, stages=3, warps=1)
    if channel_sequences < 24576:
        return Tiling(chunk=16, channels=16, stages=3, warps=1)
    return Tiling(chunk=8, channels=32, stages=3, warps=1)


LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _pixels(positions, direction, height, width):
    """The pixels at ``positions`` of the direction's sequence."""
    positions = tl.where(direction >= 2, height * width - 1 - positions, positions)
    across = (positions % height) * width + positions // height
    return tl.where(direction % 2 == 1, across, positions)


@triton.jit
def _then(a, b, c, d):
    return a * c, c * b + d


@triton.jit
def _load(base, pixels, columns, stride, inside):
    """(positions, columns) of a tensor whose pixels are ``stride`` apart; 0 outside."""
    return tl.load(base + pixels[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _forward(u, delta, A, B, C, skip, y, checkpoints, height, width, channels, states,
             KEEP: tl.constexpr, CHUNK: tl.constexpr, BLOCK_D: tl.constexpr,
             BLOCK_N: tl.constexpr, STAGES: tl.constexpr):
    sequence = tl.program_id(0).to(tl.int64)
    direction = tl.program_id(0) % 4
    length = height * width
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, CHUNK)
    in_d, in_n = d < channels, n < states
    in_state = in_n[:, None] & in_d[None, :]
    decay = tl.load(A + (direction * channels + d[None, :]) * states + n[:, None], mask=in_state,
                    other=0.0) * LOG2_E
    through = tl.load(skip + direction * channels + d, mask=in_d, other=0.0)
    u += (sequence // 4) * length * channels
    delta += sequence * length * channels
    y += sequence * length * channels
    B += sequence * length * states
    C += sequence * length * states
    chunks = tl.cdiv(length, CHUNK)
    if KEEP:
        checkpoints += sequence * chunks * states * channels + n[:, None] * channels + d[None, :]
    state = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for chunk in tl.range(0, chunks, num_stages=STAGES):
        if KEEP:
            tl.store(checkpoints + chunk * states * channels, state, mask=in_state)
        positions = chunk * CHUNK + t
        pixels = _pixels(positions, direction, height, width)
        in_length = (positions < length)[:, None]
        u_t = _load(u, pixels, d, channels, in_length & in_d[None, :])
        delta_t = _load(delta, pixels, d, channels, in_length & in_d[None, :])
        B_t = _load(B, pixels, n, states, in_length & in_n[None, :])
        C_t = _load(C, pixels, n, states, in_length & in_n[None, :])
        kept = tl.exp2(delta_t[:, None, :] * decay[None, :, :])
        driven = (delta_t * u_t)[:, None, :] * B_t[:, :, None]
        driven += tl.where((t == 0)[:, None, None], kept * state[None, :, :], 0.0)
        _, h = tl.associative_scan((kept, driven), 0, _then)
        out = tl.sum(h * C_t[:, :, None], 1) + through[None, :] * u_t
        tl.store(y + pixels[:, None] * channels + d[None, :], out,
                 mask=in_length & in_d[None, :])
        state = tl.sum(tl.where((t == CHUNK - 1)[:, None, None], h, 0.0), 0)


@triton.jit
def _backward(u, delta, A, B, C, skip, dy, checkpoints,
              du, ddelta, dA, dB, dC, dskip, height, width, channels, states,
              CHUNK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
              STAGES: tl.constexpr):
    sequence = tl.program_id(0).to(tl.int64)
    sequences = tl.num_programs(0).to(tl.int64)
    direction = tl.program_id(0) % 4
    length = height * width
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    n = tl.arange(0, BLOCK_N)
    t = tl.arange(0, CHUNK)
    in_d, in_n = d < channels, n < states
    in_state = in_n[:, None] & in_d[None, :]
    decay = tl.load(A + (direction * channels + d[None, :]) * states + n[:, None], mask=in_state,
                    other=0.0) * LOG2_E
    through = tl.load(skip + direction * channels + d, mask=in_d, other=0.0)
    u += (sequence // 4) * length * channels
    delta += sequence * length * channels
    dy += sequence * length * channels
    du += sequence * length * channels
    ddelta += sequence * length * channels
    B += sequence * length * states
    C += sequence * length * states
    dB += (tl.program_id(1) * sequences + sequence) * length * states
    dC += (tl.program_id(1) * sequences + sequence) * length * states
    chunks = tl.cdiv(length, CHUNK)
    checkpoints += sequence * chunks * states * channels + n[:, None] * channels + d[None, :]
    carry = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    decay_sum = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    skip_sum = tl.zeros((BLOCK_D,), tl.float32)
    for i in tl.range(0, chunks, num_stages=STAGES):
        chunk = chunks - 1 - i
        state = tl.load(checkpoints + chunk * states * channels, mask=in_state, other=0.0)
        positions = chunk * CHUNK + t
        pixels = _pixels(positions, direction, height, width)
        in_td = (positions < length)[:, None] & in_d[None, :]
        in_tn = (positions < length)[:, None] & in_n[None, :]
        u_t = _load(u, pixels, d, channels, in_td)
        delta_t = _load(delta, pixels, d, channels, in_td)
        dy_t = _load(dy, pixels, d, channels, in_td)
        B_t = _load(B, pixels, n, states, in_tn)[:, :, None]
        C_t = _load(C, pixels, n, states, in_tn)[:, :, None]
        following = _pixels(positions + 1, direction, height, width)
        delta_next = _load(delta, following, d, channels,
                           (positions + 1 < length)[:, None] & in_d[None, :])
        kept = tl.exp2(delta_t[:, None, :] * decay[None, :, :])
        driven = (delta_t * u_t)[:, None, :] * B_t
        first = driven + tl.where((t == 0)[:, None, None], kept * state[None, :, :], 0.0)
        _, h = tl.associative_scan((kept, first), 0, _then)
        kept_next = tl.exp2(delta_next[:, None, :] * decay[None, :, :])
        g = dy_t[:, None, :] * C_t
        g += tl.where((t == CHUNK - 1)[:, None, None], kept_next * carry[None, :, :], 0.0)
        _, g = tl.associative_scan((kept_next, g), 0, _then, reverse=True)
        carry = tl.sum(tl.where((t == 0)[:, None, None], g, 0.0), 0)
        tl.store(dC + pixels[:, None] * states + n[None, :],
                 tl.sum(h * dy_t[:, None, :], 2), mask=in_tn)
        tl.store(dB + pixels[:, None] * states + n[None, :],
                 tl.sum(g * (delta_t * u_t)[:, None, :], 2), mask=in_tn)
        inherited = (h - driven) * g
        decay_sum += tl.sum(inherited * delta_t[:, None, :], 0)
        skip_sum += tl.sum(dy_t * u_t, 0)
        drive = tl.sum(g * B_t, 1)
        tl.store(ddelta + pixels[:, None] * channels + d[None, :],
                 tl.sum(inherited * decay[None, :, :], 1) / LOG2_E + drive * u_t, mask=in_td)
        tl.store(du + pixels[:, None] * channels + d[None, :],
                 drive * delta_t + dy_t * through[None, :], mask=in_td)
    tl.store(dA + (sequence * channels + d[None, :]) * states + n[:, None], decay_sum,
             mask=in_state)
    tl.store(dskip + sequence * channels + d, skip_sum, mask=in_d)


# Opaque to torch.compile, which would otherwise have to look into them.
@torch.library.custom_op("hymn_train::scan", mutates_args=(), schema=(
    "(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor skip, int height, int width)"
    " -> (Tensor, Tensor)"))
def _scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
          height: int, width: int) -> Tuple[Tensor, Tensor]:
    """y of the scan, and the states at the start of every chunk; float32, contiguous."""
    y, checkpoints = _scan_shapes(u, delta, A, B, C, skip, height, width)
    run_forward((u, delta, A, B, C, skip), y, checkpoints, height, width, TRAINING)
    return y, checkpoints


@_scan.register_fake
def _scan_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
                 height: int, width: int) -> Tuple[Tensor, Tensor]:
    chunks = -(-height * width // TRAINING.chunk)
    checkpoints = u.new_empty(delta.shape[0] * DIRECTIONS, chunks, A.shape[2], A.shape[1])
    return torch.empty_like(delta), checkpoints


@torch.library.custom_op("hymn_train::scan_inference", mutates_args=(), schema=(
    "(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor skip, int height, int width)"
    " -> Tensor"))
def _scan_inference(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
                    height: int, width: int) -> Tensor:
    """y of the scan, with nothing kept for a backward pass; float32, contiguous."""
    y = torch.empty_like(delta)
    tiling = inference_tiling(delta.shape[0] * DIRECTIONS * A.shape[1])
    run_forward((u, delta, A, B, C, skip), y, None, height, width, tiling)
    return y


@_scan_inference.register_fake
def _scan_inference_shape(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
                          height: int, width: int) -> Tensor:
    return torch.empty_like(delta)


def run_forward(inputs: Tuple[Tensor, ...], y: Tensor, checkpoints: Optional[Tensor], height: int,
                width: int, tiling: Tiling) -> None:
    """Write y of the scan of u, delta, A, B, C and skip, and the states at the start of every
    chunk to ``checkpoints`` where those are given; float32, contiguous."""
    sequences, (channels, states) = y.shape[0] * DIRECTIONS, inputs[2].shape[1:]
    keep = checkpoints is not None
    _forward[_grid(sequences, channels, tiling)](
        *inputs, y, checkpoints if keep else y, height, width, channels, states, KEEP=keep,
        **_blocks(states, tiling))


@torch.library.custom_op("hymn_train::scan_backward", mutates_args=(), schema=(
    "(Tensor dy, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor skip,"
    " Tensor checkpoints, int height, int width)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"))
def _scan_backward(dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                   skip: Tensor, checkpoints: Tensor, height: int, width: int) -> Gradients:
    """The gradients of u, delta, A, B, C and skip."""
    sequences, (channels, states) = delta.shape[0] * DIRECTIONS, A.shape[1:]
    grid, sizes = _grid(sequences, channels, TRAINING), _blocks(states, TRAINING)
    du, ddelta = torch.empty_like(delta), torch.empty_like(delta)
    dA = u.new_empty(delta.shape[0], *A.shape)
    dskip = u.new_empty(delta.shape[0], *skip.shape)
    dB, dC = (u.new_empty(grid[1], *B.shape) for _ in range(2))
    _backward[grid](
        u, delta, A, B, C, skip, dy, checkpoints,
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
    tensors = [x.contiguous() for x in (u, delta, A, B, C, skip)]
    # torch.compile knows both conditions while it traces, and compiles anew where they change.
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return _scan(*tensors, height, width)[0]
    return _scan_inference(*tensors, height, width)


def _grid(sequences: int, channels: int, tiling: Tiling) -> Tuple[int, int]:
    return sequences, -(-channels // tiling.channels)


def _blocks(states: int, tiling: Tiling) -> Dict[str, int]:
    """Compile-time sizes of a kernel."""
    block = max(triton.next_power_of_2(states), 4)
    return {"CHUNK": tiling.chunk, "BLOCK_D": tiling.channels, "BLOCK_N": block,
            "STAGES": tiling.stages, "num_warps": tiling.warps * max(block // 16, 1)}
