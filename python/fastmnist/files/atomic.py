"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace the file at `path` by `content`, or leave it as it was.

    Raises
    ------
    OSError
        Naming the path, if it cannot be written.
    """
    # Links are followed; what is not a file (/dev/stdout, a pipe) is written to, never replaced.
    check_path(path)
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        target.write_bytes(content)
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(target)) from None


def check_path(path: Any) -> None:
    """Raise TypeError if `path` is no path."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected a str or a path, got {type(path).__name__}")
