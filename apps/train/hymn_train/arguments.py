# SPDX-License-Identifier: MIT
"""The numbers that command lines take, for argparse."""

from __future__ import annotations

import argparse
import math
from typing import List


def _whole(text: str, low: int) -> int:
    if not text.isdecimal() or int(text) < low:
        raise argparse.ArgumentTypeError(f"must be a whole number from {low} on, is {text!r}")
    return int(text)


def _real(text: str, high: float, words: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < high:
        raise argparse.ArgumentTypeError(f"must be {words}, is {text!r}")
    return value


def count(text: str) -> int:
    """A whole number from 1 on."""
    return _whole(text, 1)


def counts(text: str) -> List[int]:
    """"1,8,32" as a list."""
    words = text.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise argparse.ArgumentTypeError(f"must be whole numbers from 1 on, as 1,8,32, is {text!r}")
    return [int(word) for word in words]


def limit(text: str) -> int:
    """A whole number from 0 on."""
    return _whole(text, 0)


def duration(text: str) -> float:
    """Seconds from 0 on."""
    return _real(text, math.inf, "a number from 0 on")


def share(text: str) -> float:
    """A number from 0 to below 1."""
    return _real(text, 1.0, "from 0 to below 1")
