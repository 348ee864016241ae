"""Files that a command will write, checked before the work."""

from __future__ import annotations

import os
from pathlib import Path


def check_writable(path: str | None) -> None:
    """Fail before minutes of work rather than after."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    if path == "-" or Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(
            f"cannot write '{path}': expected a file name in an existing, writable folder"
        )
