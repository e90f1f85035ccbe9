# SPDX-License-Identifier: MIT
"""Files that replace others at once, and standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Iterable, Union


def write_file(path: "os.PathLike[str] | str", parts: Iterable[Union[bytes, memoryview]]) -> None:
    """Write ``parts`` to ``path``, replacing what is there only when all is written; OSError names ``path``.

    A link stays one, and what it leads to is replaced; what is no regular file is written in place.
    """
    target = os.path.realpath(path)
    in_place = os.path.exists(path) and not os.path.isfile(path)
    written = os.fspath(path) if in_place else f"{target}.partial"
    try:
        with open(written, "wb") as file:
            for part in parts:
                file.write(part)
        if not in_place:
            os.replace(written, target)
    except OSError as error:
        if not in_place:
            with contextlib.suppress(OSError):
                os.unlink(written)
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_output(text: str) -> None:
    """Write ``text`` to standard output at once; OSError where that fails, after which all that is written there is
    dropped."""
    try:
        print(text, end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the end would fail with what is left in it
        raise
