"""Where the user's own code called the library: the line that a warning is about."""

from __future__ import annotations

import sys


def callers_level() -> int:
    """The ``stacklevel`` with which ``warnings.warn``, called here, names the user's line."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and _is_ours(str(frame.f_globals.get("__name__", ""))):
        frame, level = frame.f_back, level + 1
    return level


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "fastmnist" or module == "contextlib"
