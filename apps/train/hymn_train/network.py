# SPDX-License-Identifier: MIT
"""HyM-UNet: a U-Net with convolutional stages above, Mamba (SS2D) stages below, and
Mamba-guided fusion on its skips.  arXiv 2511.17988; the blocks are VMamba's SS2D (v0).

The ``state_dict`` names are the file format: they are what the engine looks up.
Tensors are (N, C, H, W) between blocks; a VSS block works on (N, H, W, C) inside.
"""

from __future__ import annotations

import math
from typing import List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config
from .scan import DIRECTIONS, scan


class ResidualBlock(nn.Module):
    """ReLU(BN(conv3x3(ReLU(BN(conv3x3(x))))) + s), s = x or BN(conv1x1(x)) where channels change."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: Optional[nn.Sequential] = None
        if channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, bias=False),
                                          nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class SS2D(nn.Module):
    """The gated four-direction selective scan on (N, H, W, C).

    ``form`` names the scan's implementation (see scan.py); all of them agree.
    """

    form = "auto"

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        inner, states, rank = config.inner(channels), config.d_state, config.rank(channels)
        self.rank, self.states = rank, states
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj_weight = nn.Parameter(torch.empty(DIRECTIONS, rank + 2 * states, inner))
        self.dt_projs_weight = nn.Parameter(torch.empty(DIRECTIONS, inner, rank))
        self.dt_projs_bias = nn.Parameter(torch.empty(DIRECTIONS, inner))
        self.A_logs = nn.Parameter(torch.empty(DIRECTIONS * inner, states))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        self._initialise()

    def _initialise(self, step_min: float = 1e-3, step_max: float = 1e-1) -> None:
        """Mamba's initial values: A = -1..-N, and step sizes log-uniform between the bounds."""
        with torch.no_grad():
            nn.init.uniform_(self.x_proj_weight, -1, 1)
            self.x_proj_weight.mul_(self.x_proj_weight.shape[-1] ** -0.5)
            nn.init.uniform_(self.dt_projs_weight, -1, 1)
            self.dt_projs_weight.mul_(self.rank ** -0.5)
            steps = torch.empty_like(self.dt_projs_bias)
            steps.uniform_(math.log(step_min), math.log(step_max)).exp_()
            self.dt_projs_bias.copy_(steps + torch.log(-torch.expm1(-steps)))
            self.A_logs.copy_(torch.arange(1, self.states + 1).to(self.A_logs.dtype).log())

    def forward(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = F.silu(self.conv2d(u.permute(0, 3, 1, 2)))
        with torch.autocast(x.device.type, enabled=False):
            y = self._scan(u.flatten(2).transpose(1, 2), height, width)
            y = self.out_norm(y.to(self.out_norm.weight.dtype)).view(*x.shape[:3], -1)
        return self.out_proj(y * F.silu(z))

    def _scan(self, u: Tensor, height: int, width: int) -> Tensor:
        """Sum over the directions of the scan of u (N, P, D); 32 bits at least throughout."""
        dtype = torch.promote_types(self.A_logs.dtype, torch.float32)
        u = u.to(dtype).contiguous()
        projected = torch.einsum("bpd,kcd->bkpc", u, self.x_proj_weight.to(dtype))
        dt, B, C = projected.split([self.rank, self.states, self.states], dim=-1)
        dt = torch.einsum("bkpr,kdr->bkpd", dt, self.dt_projs_weight.to(dtype))
        delta = F.softplus(dt + self.dt_projs_bias.to(dtype).unsqueeze(1))
        A = -torch.exp(self.A_logs.to(dtype)).view(DIRECTIONS, -1, self.states)
        skip = self.Ds.to(dtype).view(DIRECTIONS, -1)
        return scan(u, delta, A, B, C, skip, height, width, self.form).sum(1)


class VSSBlock(nn.Module):
    """x + SS2D(LN(x)) on (N, H, W, C).

    While it trains, the branch is left out for a share ``drop`` of the samples (stochastic depth,
    Huang et al., ECCV 2016) and scaled up for the others.
    """

    drop = 0.0

    def __init__(self, channels: int, config: Config) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.ss2d = SS2D(channels, config)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ss2d(self.norm(x))
        if self.training and self.drop > 0.0:
            kept = torch.rand(x.shape[0], 1, 1, 1, device=x.device) >= self.drop
            y = y * (kept / (1.0 - self.drop)).to(y.dtype)
        return x + y


class PatchMerging(nn.Module):
    """(N, C, H, W) -> (N, H/2, W/2, C'): the pixels of each 2x2 cell on channels, LN, linear."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels_in)
        self.reduction = nn.Linear(4 * channels_in, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        cells = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(cells, -1)))


class PixelProjection(nn.Module):
    """(N, C, H, W) -> (N, H, W, C'): what stands for patch merging where Mamba comes first."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class ConvStage(nn.Module):
    """Max pooling (from the second stage on) and residual blocks, (N, C, H, W) throughout."""

    def __init__(self, stage: int, channels_in: int, config: Config) -> None:
        super().__init__()
        channels = config.dims[stage]
        self.down = nn.MaxPool2d(2) if stage else nn.Identity()
        self.blocks = _residual_blocks(channels_in, channels, config.depths[stage])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x))


class MambaStage(nn.Module):
    """Patch merging and VSS blocks; (N, C, H, W) outside, (N, H, W, C) inside."""

    def __init__(self, stage: int, channels_in: int, config: Config) -> None:
        super().__init__()
        channels = config.dims[stage]
        self.down = (PatchMerging if stage else PixelProjection)(channels_in, channels)
        self.blocks = nn.Sequential(*(VSSBlock(channels, config)
                                      for _ in range(config.depths[stage])))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.down(x)).permute(0, 3, 1, 2)


class FusionSkip(nn.Module):
    """The Mamba-guided gate: e * sigmoid(BN(conv1x1(d))) + e."""

    def __init__(self, channels_deep: int, channels: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(channels_deep, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, encoded: Tensor, deep: Tensor) -> Tensor:
        return encoded * torch.sigmoid(self.bn(self.gate(deep))) + encoded


class DecoderStage(nn.Module):
    """Bilinear resize of what comes from below, fusion with the encoder's output, residual blocks."""

    def __init__(self, stage: int, config: Config) -> None:
        super().__init__()
        channels, deep = config.dims[stage], config.dims[stage + 1]
        self.skip = FusionSkip(deep, channels) if config.skip == "mgf" else None
        self.blocks = _residual_blocks(channels + deep, channels, config.decoder_depths[stage])

    def forward(self, encoded: Tensor, deep: Tensor) -> Tensor:
        deep = _resize(deep, encoded.shape[2:])
        if self.skip is not None:
            encoded = self.skip(encoded, deep)
        return self.blocks(torch.cat([encoded, deep], 1))


class HyMUNet(nn.Module):
    """The network of a :class:`Config`: (N, in_channels, H, W) -> logits (N, num_classes, H, W).

    H and W are multiples of ``config.multiple``; :meth:`forward_padded` takes any size.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        before = [config.in_channels] + config.dims[:-1]
        self.encoder = nn.ModuleList(
            (ConvStage if i < config.conv_stages else MambaStage)(i, before[i], config)
            for i in range(config.stages))
        self.decoder = nn.ModuleList(DecoderStage(i, config) for i in range(config.stages - 1))
        self.head = nn.Conv2d(config.dims[0], config.num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1])

    def features(self, x: Tensor) -> List[Tensor]:
        """The last encoder stage's output and then every decoder stage's, the finest last."""
        skips: List[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        outputs = [x]
        for i in reversed(range(len(self.decoder))):
            x = self.decoder[i](skips[i], x)
            outputs.append(x)
        return outputs

    def forward_padded(self, x: Tensor) -> Tensor:
        """Logits of an input of any size, as the engine computes them: the edge is replicated
        at the bottom and the right up to the next multiple, and the logits are cropped."""
        height, width = x.shape[2:]
        down, right = -height % self.config.multiple, -width % self.config.multiple
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        return self(x)[:, :, :height, :width]

    def use_scan(self, form: str) -> "HyMUNet":
        """Make every block scan in the named form (see scan.py); returns the network."""
        for module in self.modules():
            if isinstance(module, SS2D):
                module.form = form
        return self

    def use_drop_path(self, rate: float) -> "HyMUNet":
        """Stochastic depth in the VSS blocks, from near 0 in the first to ``rate`` in the last."""
        blocks = [module for module in self.modules() if isinstance(module, VSSBlock)]
        for i, block in enumerate(blocks):
            block.drop = rate * (i + 1) / len(blocks)
        return self


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, half-pixel centres, edges clamped; in x's own dtype, where autocast would take 32
    bits and make everything after it twice the size."""
    with torch.autocast(x.device.type, enabled=False):
        return F.interpolate(x, list(size), mode="bilinear", align_corners=False)


def _residual_blocks(channels_in: int, channels: int, depth: int) -> nn.Sequential:
    """``depth`` residual blocks, the first of which changes the number of channels."""
    return nn.Sequential(*(ResidualBlock(channels_in if j == 0 else channels, channels)
                           for j in range(depth)))
