"""Measurements on this machine: kept for the process, and in a file in the user's cache.

The store itself is native (csrc/runtime/measurements.h, which also draws the file), so that
programs without Python have it too. This module knows where the file is, and how to describe it.
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
    """The measurements of this process and its file, looked up anew: the environment may change."""
    path = default_path()
    SHARED.keep_in(b"" if path is None else os.fsencode(path))
    return SHARED


def note() -> str:
    """Say where measurements are kept, and how to repeat them."""
    path = default_path()
    if path is None:
        return "in this process only"
    with contextlib.suppress(RuntimeError, ValueError):  # no home, or not in it
        path = Path("~") / path.relative_to(Path.home())
    return f"delete {path} to measure again"
