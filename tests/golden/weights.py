# SPDX-License-Identifier: MIT
"""Random weights under which every parameter matters and activations stay moderate."""

from __future__ import annotations

import math
from typing import Sequence

import torch
from torch import Tensor, nn

from hymn_train.network import HyMUNet, SS2D


def randomise(network: HyMUNet, generator: torch.Generator) -> None:
    """Give every parameter a value far from its initial one, then settle the BN statistics."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            _normal(module.weight, 0.0, 1.4 / math.sqrt(fan_in), generator)
            if module.bias is not None:
                _normal(module.bias, 0.0, 0.3, generator)
        elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            _uniform(module.weight, 0.5, 1.5, generator)
            _normal(module.bias, 0.1, 0.3, generator)
        elif isinstance(module, SS2D):
            _randomise_scan(module, generator)
    _settle_statistics(network, generator)


def sample_input(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """(N, C, H, W) float32: smooth shapes with grain on them, about unit variance."""
    batch, channels, height, width = shape
    coarse = torch.randn(batch, channels, height // 8 + 2, width // 8 + 2, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear",
                                       align_corners=False)
    return 1.2 * smooth + 0.4 * torch.randn(batch, channels, height, width, generator=generator)


def _randomise_scan(block: SS2D, generator: torch.Generator) -> None:
    """Decays from slow to fast, steps of 0.003 to 0.6, B and C of the order of one."""
    inner = block.x_proj_weight.shape[-1]
    _normal(block.x_proj_weight, 0.0, 2.0 / math.sqrt(inner), generator)
    _normal(block.dt_projs_weight, 0.0, 0.7 / math.sqrt(block.rank), generator)
    with torch.no_grad():
        steps = torch.empty_like(block.dt_projs_bias)
        steps.uniform_(math.log(0.003), math.log(0.6), generator=generator).exp_()
        block.dt_projs_bias.copy_(torch.log(torch.expm1(steps)))
    _uniform(block.A_logs, -1.5, math.log(16.0), generator)
    _normal(block.Ds, 1.5, 0.6, generator)


def _settle_statistics(network: HyMUNet, generator: torch.Generator) -> None:
    """Running statistics of one random batch, moved away from it by a third either way.

    A channel of little contrast about a large mean gets a wider variance than it showed, for
    BN would otherwise amplify the rounding of what comes in beyond what trained networks do.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    size = 4 * network.config.multiple
    shape = (2, network.config.in_channels, max(size, 32), max(size, 32))
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(sample_input(shape, generator))
    network.eval()
    for norm in norms:
        norm.running_var.add_(0.2 * norm.running_mean.pow(2)).clamp_(min=1e-2)
        spread = norm.running_var.sqrt()
        shift = torch.empty_like(spread).uniform_(-0.3, 0.3, generator=generator)
        scale = torch.empty_like(spread).uniform_(0.7, 1.5, generator=generator)
        norm.running_mean.add_(shift * spread)
        norm.running_var.mul_(scale)


def _normal(tensor: Tensor, mean: float, deviation: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        tensor.normal_(mean, deviation, generator=generator)


def _uniform(tensor: Tensor, low: float, high: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        tensor.uniform_(low, high, generator=generator)
