#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Remakes this folder's golden files: ``python3 tests/golden/make.py``.

Every case is a model as a user would have it, NAME.safetensors, and NAME.golden, a
safetensors file with ``input`` (N, C, H, W) and ``output``, the logits of exactly the
weights that the model file stores, computed in float64 by the sequential scan and rounded
to float32.  Seeds are fixed, so the same PyTorch writes the same bytes.

``--large DIR`` writes the sizes in use at 256x256 instead, for parity and timing by hand.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import zlib
from typing import Any, Dict, List, Sequence, Tuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "apps" / "train"))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from hymn_train import tensorfile  # noqa: E402
from hymn_train.config import Config  # noqa: E402
from hymn_train.export import DTYPES, METADATA_KEY, file_tensors, load_model, stored_dtype  # noqa: E402
from hymn_train.network import HyMUNet  # noqa: E402
from cases import CASES, Case  # noqa: E402
from weights import randomise, sample_input  # noqa: E402

FLOAT32_NMSE = 1e-11
FLOAT16_NMSE = 5e-6
FLOAT16_PEAK = 2000.0
MOVED = 1e-7


def nmse(value: Tensor, reference: Tensor) -> float:
    """Squared error over the reference's energy, the measure of the engine's tests."""
    value, reference = value.double(), reference.double()
    return float((value - reference).pow(2).sum() / reference.pow(2).sum())


def generate(case: Case, folder: pathlib.Path) -> Tuple[HyMUNet, Tensor, Tensor]:
    """Write a case's two files; the float64 network, its input and its logits."""
    generator = torch.Generator().manual_seed(zlib.crc32(case.name.encode()))
    torch.manual_seed(0)
    network = HyMUNet(case.config).eval()
    randomise(network, generator)
    model = folder / f"{case.name}.safetensors"
    state = network.state_dict()
    tensors = file_tensors(state, DTYPES[case.dtype], case.uniform)
    if case.counters:
        tensors.update((name, state[name]) for name in state if name not in tensors)
    tensorfile.save(model, tensors, {METADATA_KEY: case.config.to_json()})
    reference, _ = load_model(model, torch.float64)
    reference.use_scan("sequential")
    x = sample_input((case.batch, case.config.in_channels, *case.size), generator)
    with torch.no_grad():
        logits = reference.forward_padded(x.double())
    tensorfile.save(folder / f"{case.name}.golden", {"input": x, "output": logits.float()}, {})
    return reference, x, logits


def report(case: Case, folder: pathlib.Path, logits: Tensor, x: Tensor) -> bool:
    """Print how far float32 and a simulated float16 are from the golden; whether both are near."""
    network, _ = load_model(folder / f"{case.name}.safetensors")
    with torch.no_grad():
        single = nmse(network.forward_padded(x), logits)
        peak = simulate_half(network)
        half = nmse(network.forward_padded(x), logits)
    good = single < FLOAT32_NMSE and half < FLOAT16_NMSE and max(peak) < FLOAT16_PEAK
    size = sum((folder / f"{case.name}.{kind}").stat().st_size for kind in ("safetensors", "golden"))
    print(f"{case.name:24} fp32 {single:8.1e}  fp16 {half:8.1e}  peak {max(peak):7.1f}  "
          f"logits {float(logits.mean()):6.2f} +- {float(logits.std()):5.2f}  {size // 1024:4} KB"
          f"{'' if good else '  OUT OF BOUNDS'}", flush=True)
    return good


def simulate_half(network: HyMUNet) -> List[float]:
    """Round to float16 what an engine with 16-bit storage rounds: matrices, and what is stored.

    BN folds into the convolution before it, and a residual block's last sum happens in the
    accumulator, so neither's input is rounded.  The list that comes back collects the largest
    value of every output from now on.
    """
    peaks = [0.0]
    for name, tensor in network.state_dict().items():
        if stored_dtype(name, tensor, torch.float16) == torch.float16:
            tensor.copy_(tensor.half())

    def stored(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        peaks.append(float(output.abs().max()))
        return output.half().float()

    for name, module in network.named_modules():
        folded = isinstance(module, nn.Conv2d) and module.bias is None
        summed = name.endswith((".bn2", ".shortcut.1"))
        container = isinstance(module, (nn.ModuleList, nn.Sequential, HyMUNet))
        if not (folded or summed or container or module is network.head):
            module.register_forward_hook(stored)
    return peaks


def check_dependence(case: Case, network: HyMUNet, x: Tensor, logits: Tensor) -> bool:
    """Warn of every stored tensor whose change by a tenth leaves the logits as they were."""
    good = True
    network.use_scan("chunked")
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        kept = tensor.clone()
        tensor.add_(0.1 * (kept.abs() + kept.abs().mean()))
        with torch.no_grad():
            moved = nmse(network.forward_padded(x.double()), logits)
        tensor.copy_(kept)
        if moved < MOVED:
            print(f"{case.name}: {name} hardly changes the logits ({moved:.1e})")
            good = False
    return good


def large_cases() -> Dict[str, Config]:
    """The sizes in use, and tiny's convolution-only member."""
    configs = {name: Config.preset(name) for name in ("tiny", "base", "small")}
    return {"tinyconv": Config.preset("tiny", conv_stages=5), **configs}


def make(cases: Sequence[Case], folder: pathlib.Path, dependence: bool) -> bool:
    """Write the cases and check them; whether all checks held."""
    good = True
    for case in cases:
        network, x, logits = generate(case, folder)
        good &= report(case, folder, logits, x)
        if dependence:
            good &= check_dependence(case, network, x, logits)
    return good


def main() -> int:
    """The command line; 1 where a case left its bounds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="only these cases")
    parser.add_argument("--large", type=pathlib.Path, metavar="DIR",
                        help="write the sizes in use at 256x256 to DIR instead")
    parser.add_argument("--quick", action="store_true", help="skip the dependence checks")
    options = parser.parse_args()
    if options.large:
        options.large.mkdir(parents=True, exist_ok=True)
        cases = [Case(name, "a size in use", config, (256, 256))
                 for name, config in large_cases().items()]
        return 0 if make(cases, options.large, dependence=False) else 1
    chosen = [case for case in CASES if not options.names or case.name in options.names]
    good = make(chosen, HERE, not options.quick)
    (HERE / "cases.txt").write_text("".join(f"{c.name} {c.covers}\n" for c in CASES))
    total = sum(path.stat().st_size for case in CASES for path in HERE.glob(f"{case.name}.*"))
    print(f"{len(CASES)} cases, {total / 1e6:.2f} MB")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
