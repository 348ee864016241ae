"""Widgets for notebooks: a pad to draw a digit on with the mouse, and the models' predictions.

They need the extra ``notebook``: ``pip install "fastmnist[notebook]"``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmnist.notebook.pad import DigitPad as DigitPad

__all__ = ["DigitPad"]


def __dir__() -> list[str]:
    return [*__all__]


def __getattr__(name: str) -> Any:
    # Not imported above: reading what this package has needs no widgets.
    if name not in __all__:
        raise AttributeError(f"module 'fastmnist.notebook' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module("fastmnist.notebook.pad"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "traitlets"):
            raise
        raise ImportError(f'{name} needs anywidget: pip install "fastmnist[notebook]"') from None
