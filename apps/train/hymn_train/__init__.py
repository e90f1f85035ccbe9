# SPDX-License-Identifier: MIT
"""Training and export of HyM-UNet, the network that the hymn engine runs."""

from .config import Config, ConfigError
from .network import HyMUNet

__all__ = ["Config", "ConfigError", "HyMUNet"]
