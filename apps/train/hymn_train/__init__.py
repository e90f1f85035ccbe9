# SPDX-License-Identifier: MIT
"""Training and export of HyM-UNet, the network that the hymn engine runs."""

from typing import TYPE_CHECKING, Any

from .config import Config, ConfigError

if TYPE_CHECKING:
    from .network import HyMUNet

__all__ = ["Config", "ConfigError", "HyMUNet"]


def __getattr__(name: str) -> Any:
    """The network when it is asked for: what needs no PyTorch can be imported without it."""
    if name == "HyMUNet":
        from .network import HyMUNet as network
        return network
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
