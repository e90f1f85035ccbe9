# SPDX-License-Identifier: MIT
"""Files that replace others at once."""

from __future__ import annotations

import contextlib
import os
from typing import Iterable, Union


def write_file(path: "os.PathLike[str] | str", parts: Iterable[Union[bytes, memoryview]]) -> None:
    """Write ``parts`` to ``path``, replacing what is there only when all is written; OSError names ``path``."""
    partial = f"{os.fspath(path)}.partial"
    try:
        with open(partial, "wb") as file:
            for part in parts:
                file.write(part)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
