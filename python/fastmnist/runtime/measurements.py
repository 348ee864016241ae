"""What was measured on this machine: kept for the process, and in a file in the user's cache.

The store itself is native (csrc/runtime/measurements.h, which also draws the file), so that a
program without Python has it, too. Here is where the file lies, and what people are told of it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import fastmnist._core as _core
from fastmnist.files.cache import cache_folder

SHARED = _core.Measurements()
"""What this process knows; whoever plans takes :func:`shared` unless told otherwise."""


def default_path() -> Path | None:
    """Where measurements are kept; None where there is no home folder."""
    folder = cache_folder()
    return None if folder is None else folder / "measurements.txt"


def shared() -> _core.Measurements:
    """What this process knows, with its file: asked anew, as the environment may change."""
    path = default_path()
    SHARED.keep_in(b"" if path is None else os.fsencode(path))
    return SHARED


def note() -> str:
    """Say where measurements are kept, and how to have them made again."""
    path = default_path()
    if path is None:
        return "in this process only"
    with contextlib.suppress(RuntimeError, ValueError):  # no home, or not in it
        path = Path("~") / path.relative_to(Path.home())
    return f"delete {path} to measure again"
