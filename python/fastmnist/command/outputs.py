"""Files that a command writes: looked at before minutes of work rather than after."""

from __future__ import annotations

import os
from pathlib import Path


def check_writable(path: str | None) -> None:
    """Raise OSError where no file can be written."""
    if path is None:
        return
    folder = Path(path).resolve().parent
    if path == "-" or Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OSError(
            f"cannot write '{path}': expected a file name in an existing, writable folder"
        )


def check_plot(path: str) -> None:
    """Raise where a drawing could not be made, or not of that kind."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ImportError("--plot needs matplotlib: pip install matplotlib") from None
    if Path(path).suffix[1:].lower() not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"--plot: expected a name that ends in .png, .svg or .pdf, got '{path}'")
