"""The package's folder in the user's cache: downloads, and what was measured on this CPU."""

from __future__ import annotations

from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path | None:
    """Name the package's folder in the user's cache; None where there is no home folder."""
    folder = user_cache_path("fastmnist", appauthor=False)
    return folder if folder.is_absolute() else None
