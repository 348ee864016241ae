"""The package's folder in the user's cache: downloads, and what was measured on this CPU."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path | None:
    """Name the package's folder in the user's cache; None where there is no home folder."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and os.path.isabs(given):  # the XDG specification: relative paths are ignored
        base = Path(given)
    elif sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        base = Path(os.environ["LOCALAPPDATA"])
    else:
        try:
            home = Path.home()
        except RuntimeError:
            return None
        base = home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return base / "fastmnist"


def write_whole(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: others may read or write the same cache meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
