# SPDX-License-Identifier: MIT
"""What the golden files cover: every variation of the architecture that the format allows."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Tuple

from hymn_train.config import Config


@dataclasses.dataclass
class Case:
    """One model and one input.

    ``dtype`` is the file's; ``uniform`` stores every tensor in it, and ``counters`` keeps the
    BN layers' I64 ``num_batches_tracked``, as a plain ``save_file(state_dict)`` does.
    """

    name: str
    covers: str
    config: Config
    size: Tuple[int, int] = (32, 32)
    batch: int = 1
    dtype: str = "f32"
    uniform: bool = False
    counters: bool = False


def _config(dims: List[int], conv_stages: int, **fields: Any) -> Config:
    """A configuration with depth 1 everywhere and the lists that follow from the rest."""
    channels, classes = fields.get("in_channels", 3), fields.get("num_classes", 1)
    defaults = {
        "depths": [1] * len(dims), "decoder_depths": [1] * (len(dims) - 1),
        "mean": [0.5] * channels, "std": [0.25] * channels,
        "classes": [f"class{i}" for i in range(classes)], "input_size": [32, 32],
    }
    return Config(dims=dims, conv_stages=conv_stages, **{**defaults, **fields})


CASES: List[Case] = [
    Case("plain", "three stages, two of them convolutional, F32",
         _config([8, 16, 24], 2)),
    Case("odd_dims", "channels that are no multiple of 8, 45x37, ratio 1.5 truncated",
         _config([5, 9, 14], 1, ssm_ratio=1.5), (45, 37)),
    Case("one_stage_conv", "S = 1, convolution only, no decoder, depth 2, batch 2",
         _config([8], 1, depths=[2]), (19, 33), batch=2),
    Case("one_stage_mamba", "S = 1, conv_stages = 0, one input channel, 24x20",
         _config([6], 0, in_channels=1), (24, 20)),
    Case("two_stages", "S = 2, concat skip, 31x17, batch 2, F16",
         _config([8, 12], 1, skip="concat"), (31, 17), batch=2, dtype="f16"),
    Case("four_stages", "S = 4, step ranks 1, 2 and 3, batch 3, BF16",
         _config([4, 8, 24, 40], 1), (24, 16), batch=3, dtype="bf16"),
    Case("five_stages", "S = 5, two convolutional, 64x48, F16",
         _config([4, 8, 8, 12, 16], 2), (64, 48), dtype="f16"),
    Case("five_stages_odd", "S = 5, conv_stages = 4, odd channels, 50x71",
         _config([5, 6, 7, 9, 11], 4), (50, 71)),
    Case("conv_only", "conv_stages = S, depths 2, decoder depths 2, BF16",
         _config([8, 12, 16], 3, depths=[2, 1, 2], decoder_depths=[2, 1]), dtype="bf16"),
    Case("conv_only_concat", "conv_stages = S with concat skips, I64 counters kept",
         _config([6, 10, 18], 3, skip="concat"), (28, 52), counters=True),
    Case("mamba_only", "conv_stages = 0, 64x64: sequences of 4096",
         _config([8, 12, 16], 0), (64, 64), dtype="f16"),
    Case("long_rows", "S = 1, conv_stages = 0, 23x203: 4669 positions, no multiple of a chunk",
         _config([8], 0), (23, 203)),
    Case("deep", "two VSS blocks a stage, two residual blocks a decoder stage",
         _config([8, 12, 16], 1, depths=[2, 2, 2], decoder_depths=[2, 2]), dtype="f16"),
    Case("state_1", "d_state = 1, dt_rank = 1",
         _config([8, 16, 24], 1, d_state=1, dt_rank=1), dtype="f16"),
    Case("state_4", "d_state = 4, ssm_ratio = 1, 48x80",
         _config([8, 16, 24], 1, d_state=4, ssm_ratio=1.0), (48, 80), dtype="f16"),
    Case("state_33", "d_state = 33, dt_rank = 3, odd channels",
         _config([7, 13], 0, d_state=33, dt_rank=3), (30, 26)),
    Case("state_64", "d_state = 64, dt_rank = 7, ssm_ratio = 3",
         _config([8, 12, 16], 1, d_state=64, dt_rank=7, ssm_ratio=3.0), dtype="f16"),
    Case("wide", "more than 64 channels in the scan, dims 8, 12, 68",
         _config([8, 12, 68], 2), (16, 16), dtype="f16"),
    Case("taps", "130 channels below 10, so that the products come before the resize, 22x30",
         _config([10, 130], 1, d_state=4, ssm_ratio=1.0), (22, 30), dtype="f16"),
    Case("classes_3", "three classes, four input channels, batch 2",
         _config([8, 16, 24], 2, num_classes=3, in_channels=4), batch=2, dtype="f16"),
    Case("classes_64", "64 classes, 8 input channels, 16x20, BF16",
         _config([8, 16], 1, num_classes=64, in_channels=8), (16, 20), dtype="bf16"),
    Case("all_f16", "every tensor F16, statistics and A_logs too, 8 input channels into Mamba",
         _config([8, 12, 16], 0, in_channels=8), (20, 36), dtype="f16", uniform=True),
    Case("all_bf16", "every tensor BF16, I64 counters kept",
         _config([8, 12, 16], 2), dtype="bf16", uniform=True, counters=True),
    Case("small_input", "an input narrower than the network's stride: 9x3 where S = 4",
         _config([4, 8, 8, 12], 2), (9, 3), dtype="f16"),
]
