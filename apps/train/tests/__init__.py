# SPDX-License-Identifier: MIT
"""Run with ``python3 -m unittest discover -s apps/train/tests -t apps/train``."""
