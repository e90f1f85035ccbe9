# SPDX-License-Identifier: MIT
"""The convolution-only member of the network as an ncnn model, for comparisons.

ncnn has no selective scan, hence ``conv_stages`` must equal the number of stages.  BN is folded and
ReLU fused into the convolutions, as ncnn's own optimiser does.
"""

from __future__ import annotations

import struct
from typing import List, Optional, Tuple

import torch
from torch import Tensor, nn

from .network import ConvStage, DecoderStage, HyMUNet, ResidualBlock

MAGIC = "7767517"


def to_ncnn(network: HyMUNet) -> Tuple[str, bytes]:
    """The text of a .param file and the contents of a .bin file; blobs ``in0`` and ``out0``."""
    if network.config.conv_stages != network.config.stages:
        raise ValueError("ncnn has no selective scan: the model may have no Mamba stages")
    writer = _Writer()
    with torch.no_grad():
        writer.network(network)
    return writer.param(), b"".join(writer.weights)


class _Writer:
    """Layers as lines of a .param file, in order; blobs are named by number."""

    def __init__(self) -> None:
        self.lines: List[Tuple[str, List[str], List[str], str]] = []
        self.weights: List[bytes] = []
        self.blobs = 0

    def param(self) -> str:
        """The file: magic, counts, and a line a layer, where each blob has one reader."""
        lines = self._split()
        blobs = sum(len(outputs) for _, _, outputs, _ in lines)
        text = [MAGIC, f"{len(lines)} {blobs}"]
        for number, (kind, inputs, outputs, options) in enumerate(lines):
            fields = [kind, f"layer{number}", str(len(inputs)), str(len(outputs)),
                      *inputs, *outputs, options]
            text.append(" ".join(field for field in fields if field))
        return "\n".join(text) + "\n"

    def network(self, network: HyMUNet) -> None:
        """The whole network, from ``in0`` to ``out0``."""
        x = self._layer("Input", [], output="in0")
        skips = []
        for stage in network.encoder:
            x = self._encoder(stage, x)
            skips.append(x)
        for i in reversed(range(len(network.decoder))):
            x = self._decoder(network.decoder[i], skips[i], x)
        self._convolution(network.head, None, False, x, output="out0")

    def _encoder(self, stage: ConvStage, x: str) -> str:
        if isinstance(stage.down, nn.MaxPool2d):
            x = self._layer("Pooling", [x], "0=0 1=2 2=2")
        return self._blocks(stage.blocks, x)

    def _decoder(self, stage: DecoderStage, encoded: str, deep: str) -> str:
        deep = self._layer("Interp", [deep], "0=2 1=2.0 2=2.0")
        if stage.skip is not None:
            gate = self._convolution(stage.skip.gate, stage.skip.bn, False, deep)
            gate = self._layer("Sigmoid", [gate])
            gated = self._layer("BinaryOp", [encoded, gate], "0=2")
            encoded = self._layer("BinaryOp", [gated, encoded], "0=0")
        return self._blocks(stage.blocks, self._layer("Concat", [encoded, deep], "0=0"))

    def _blocks(self, blocks: nn.Sequential, x: str) -> str:
        for block in blocks:
            x = self._block(block, x)
        return x

    def _block(self, block: ResidualBlock, x: str) -> str:
        y = self._convolution(block.conv1, block.bn1, True, x)
        y = self._convolution(block.conv2, block.bn2, False, y)
        shortcut = x
        if block.shortcut is not None:
            shortcut = self._convolution(block.shortcut[0], block.shortcut[1], False, x)
        return self._layer("ReLU", [self._layer("BinaryOp", [y, shortcut], "0=0")])

    def _convolution(self, convolution: nn.Conv2d, norm: Optional[nn.BatchNorm2d], relu: bool,
                     x: str, output: Optional[str] = None) -> str:
        weight, bias = _folded(convolution, norm)
        # A flag of 0: 32-bit floats follow. A bias has no flag.
        self.weights += [struct.pack("<I", 0), _bytes(weight), _bytes(bias)]
        kernel = convolution.kernel_size[0]
        options = (f"0={len(bias)} 1={kernel} 4={kernel // 2} 5=1 6={weight.numel()}"
                   f" 9={int(relu)}")
        return self._layer("Convolution", [x], options, output)

    def _layer(self, kind: str, inputs: List[str], options: str = "",
               output: Optional[str] = None) -> str:
        if output is None:
            output = f"blob{self.blobs}"
            self.blobs += 1
        self.lines.append((kind, inputs, [output], options))
        return output

    def _split(self) -> List[Tuple[str, List[str], List[str], str]]:
        """A blob that several layers read goes through a Split, which copies nothing."""
        readers = [name for _, inputs, _, _ in self.lines for name in inputs]
        taken = {name: 0 for name in readers}
        lines = []
        for kind, inputs, outputs, options in self.lines:
            names = []
            for name in inputs:
                shared = readers.count(name) > 1
                names.append(f"{name}_{taken[name]}" if shared else name)
                taken[name] += 1
            lines.append((kind, names, outputs, options))
            count = readers.count(outputs[0])
            if count > 1:
                lines.append(("Split", outputs, [f"{outputs[0]}_{i}" for i in range(count)], ""))
        return lines


def _folded(convolution: nn.Conv2d,
            norm: Optional[nn.BatchNorm2d]) -> Tuple[Tensor, Tensor]:
    """Weight and bias of a convolution and the BN after it, computed in 64 bits."""
    weight = convolution.weight.double()
    bias = weight.new_zeros(len(weight))
    if convolution.bias is not None:
        bias = convolution.bias.double()
    if norm is not None:
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        weight = weight * scale.view(-1, 1, 1, 1)
        bias = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    return weight, bias


def _bytes(tensor: Tensor) -> bytes:
    return tensor.float().contiguous().numpy().astype("<f4").tobytes()
