"""The package's folder in the user's cache: downloads, and what was measured on this CPU."""

from __future__ import annotations

import os
import sys
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
