# SPDX-License-Identifier: MIT
"""What apps/train/compare.py is made of: hymn beside other ways to run the same network."""
