# SPDX-License-Identifier: MIT
"""The four-direction selective scan of SS2D, in interchangeable forms.

With K = 4 directions, P = H*W pixels, D channels and N states, for every direction k
and along its order of the pixels::

    h_l = exp(delta_l * A) * h_{l-1} + (delta_l * u_l) * B_l        h_0 = 0, (D, N)
    y_l = sum_n(h_l * C_l) + skip * u_l

All tensors are indexed by pixel (row-major), never by position in a sequence::

    u      (batch, P, D)        delta  (batch, K, P, D)
    A      (K, D, N)            B, C   (batch, K, P, N)
    skip   (K, D)               y      (batch, K, P, D)

``sequential`` walks the recurrence as it is written and is the reference; ``chunked``
runs chunks of the sequence side by side in plain PyTorch; ``triton`` (scan_triton.py)
is a fused kernel with its backward pass; ``mamba`` is mamba-ssm's CUDA kernel, where that
package is installed.  All of them compute in the dtype they are given, which the caller
keeps at 32 bits or more (Triton's and mamba-ssm's: at 32).
"""

from __future__ import annotations

import functools
from typing import Any, Optional, Tuple

import torch
from torch import Tensor

DIRECTIONS = 4


@functools.lru_cache(maxsize=64)
def pixel_order(height: int, width: int, device: Optional[torch.device] = None) -> Tensor:
    """(K, P) int64: the pixel that direction k visits at position l of its sequence.

    k=0 walks rows, k=1 walks columns, k=2 and k=3 are these two reversed.
    """
    rows = torch.arange(height * width, device=device)
    columns = rows.view(height, width).t().reshape(-1)
    return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])


def sequential(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
               height: int, width: int) -> Tensor:
    """The scan one position after the other: the reference (shapes: module docstring)."""
    order = pixel_order(height, width, u.device)
    u, delta, B, C = _to_sequence(u, delta, B, C, order)
    state = u.new_zeros(u.shape[0], *A.shape)
    outputs = []
    for l in range(u.shape[2]):
        step = delta[:, :, l].unsqueeze(-1)
        drive = (delta[:, :, l] * u[:, :, l]).unsqueeze(-1) * B[:, :, l].unsqueeze(-2)
        state = torch.exp(step * A) * state + drive
        outputs.append((state * C[:, :, l].unsqueeze(-2)).sum(-1))
    y = torch.stack(outputs, 2) + skip.unsqueeze(1) * u
    return _to_pixels(y, order)


def chunked(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
            height: int, width: int, chunk: int = 64) -> Tensor:
    """The scan with ``chunk`` positions a chunk and all chunks at once (shapes: module docstring).

    Holds about five tensors of batch * K * P * D * N elements while its backward pass runs.
    """
    order = pixel_order(height, width, u.device)
    u, delta, B, C = _to_sequence(u, delta, B, C, order)
    y = _Recurrence.apply(u, delta, A, B, C, chunk) + skip.unsqueeze(1) * u
    return _to_pixels(y, order)


def mamba(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
          height: int, width: int) -> Tensor:
    """The scan by mamba-ssm's selective_scan_fn, the directions as its groups (shapes: module
    docstring; float32 on CUDA, N at most 256)."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    order = pixel_order(height, width, u.device)
    u, delta, B, C = _to_sequence(u, delta, B, C, order)
    batch, directions, length, channels = u.shape

    def channels_first(x: Tensor) -> Tensor:
        return x.transpose(2, 3).reshape(batch, directions * channels, length).contiguous()

    y = selective_scan_fn(channels_first(u), channels_first(delta), A.flatten(0, 1).contiguous(),
                          B.transpose(2, 3).contiguous(), C.transpose(2, 3).contiguous(),
                          skip.flatten().contiguous())
    return _to_pixels(y.view(batch, directions, channels, length).transpose(2, 3), order)


def scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor,
         height: int, width: int, form: str = "auto") -> Tensor:
    """The scan in the named ``form``; ``auto`` is the fastest that the tensors' device allows."""
    if form == "auto":
        form = automatic_form(u.device, u.dtype, torch.is_grad_enabled())
    if form == "triton":
        from . import scan_triton
        return scan_triton.scan(u, delta, A, B, C, skip, height, width)
    implementation = {"sequential": sequential, "chunked": chunked, "mamba": mamba}[form]
    return implementation(u, delta, A, B, C, skip, height, width)


def automatic_form(device: torch.device, dtype: torch.dtype, differentiate: bool) -> str:
    """The fastest form for tensors of that kind here."""
    if device.type == "cuda" and dtype == torch.float32:
        if triton_available():
            return "triton"
        if mamba_available():
            return "mamba"
    return "chunked" if device.type == "cuda" or differentiate else "sequential"


@functools.lru_cache(maxsize=1)
def mamba_available() -> bool:
    """Whether mamba-ssm and its compiled kernel can be imported here."""
    try:
        from mamba_ssm.ops import selective_scan_interface  # noqa: F401
    except Exception:  # pylint: disable=broad-except # whatever a broken build raises
        return False
    return True


@functools.lru_cache(maxsize=1)
def triton_available() -> bool:
    """Whether the Triton form can be imported here."""
    try:
        from . import scan_triton  # noqa: F401
    except (ImportError, AttributeError):  # no Triton; a PyTorch before 2.4, without custom_op
        return False
    return True


def _to_sequence(u: Tensor, delta: Tensor, B: Tensor, C: Tensor,
                 order: Tensor) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """u as (batch, K, L, D), and the others with pixels put in each direction's order."""
    def gather(x: Tensor) -> Tensor:
        return torch.stack([x[:, k].index_select(1, order[k]) for k in range(DIRECTIONS)], 1)

    u = torch.stack([u.index_select(1, order[k]) for k in range(DIRECTIONS)], 1)
    return u, gather(delta), gather(B), gather(C)


def _to_pixels(y: Tensor, order: Tensor) -> Tensor:
    """The inverse of the ordering, direction by direction."""
    inverse = torch.argsort(order, dim=1)
    return torch.stack([y[:, k].index_select(1, inverse[k]) for k in range(DIRECTIONS)], 1)


def _linear_scan(log_a: Tensor, b: Tensor, chunk: int) -> Tensor:
    """h_l = exp(log_a_l) * h_{l-1} + b_l along dimension 2 of (batch, K, L, D, N).

    Every chunk is scanned from a zero state, the end states are carried from chunk to
    chunk, and what a chunk inherits is added, decayed by a running sum of log_a: sums of
    exponents, never a quotient of products, so nothing underflows.
    """
    batch, directions, length, channels, states = b.shape
    count = -(-length // chunk)
    pad = count * chunk - length
    if pad:
        tail = b.new_zeros(batch, directions, pad, channels, states)
        log_a, b = torch.cat([log_a, tail], 2), torch.cat([b, tail], 2)
    shape = (batch, directions, count, chunk, channels, states)
    log_a, b = log_a.reshape(shape), b.reshape(shape)
    h = torch.empty_like(b)
    state = torch.zeros_like(b[:, :, :, 0])
    for t in range(chunk):
        state = torch.addcmul(b[:, :, :, t], torch.exp(log_a[:, :, :, t]), state)
        h[:, :, :, t] = state
    decay = torch.exp(torch.cumsum(log_a, 3))
    carry = state[:, :, 0]
    for c in range(1, count):
        h[:, :, c].addcmul_(decay[:, :, c], carry.unsqueeze(2))
        carry = torch.addcmul(state[:, :, c], decay[:, :, c, -1], carry)
    return h.reshape(batch, directions, count * chunk, channels, states)[:, :, :length]


class _Recurrence(torch.autograd.Function):
    """y_l = sum_n(h_l * C_l) of the scan, with states recomputed in the backward pass.

    With g_l the gradient of h_l, the backward pass is the same linear scan run from the
    other end: g_l = C_l * dy_l + exp(delta_{l+1} * A) * g_{l+1}.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
                chunk: int) -> Tensor:
        ctx.save_for_backward(u, delta, A, B, C)
        ctx.chunk = chunk
        h = _states(u, delta, A, B, chunk)
        return torch.einsum("bkldn,bkln->bkld", h, C)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tuple[Optional[Tensor], ...]:
        u, delta, A, B, C = ctx.saved_tensors
        h = _states(u, delta, A, B, ctx.chunk)
        dC = torch.einsum("bkldn,bkld->bkln", h, dy)
        log_a = delta.unsqueeze(-1) * A.unsqueeze(1)
        following = torch.cat([log_a[:, :, 1:], torch.zeros_like(log_a[:, :, :1])], 2)
        g = dy.unsqueeze(-1) * C.unsqueeze(-2)
        g = _linear_scan(following.flip(2), g.flip(2), ctx.chunk).flip(2)
        dlog_a = torch.exp(log_a)
        dlog_a[:, :, 0] = 0
        dlog_a[:, :, 1:] *= h[:, :, :-1]
        dlog_a *= g
        dA = torch.einsum("bkldn,bkld->kdn", dlog_a, delta)
        gB = torch.einsum("bkldn,bkln->bkld", g, B)
        ddelta = torch.einsum("bkldn,kdn->bkld", dlog_a, A) + gB * u
        dB = torch.einsum("bkldn,bkld->bkln", g, delta * u)
        return gB * delta, ddelta, dA, dB, dC, None


def _states(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, chunk: int) -> Tensor:
    """(batch, K, L, D, N): the state after every position."""
    drive = (delta * u).unsqueeze(-1) * B.unsqueeze(-2)
    return _linear_scan(delta.unsqueeze(-1) * A.unsqueeze(1), drive, chunk)
