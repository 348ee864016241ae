"""The package onnx, which an extra brings: asked for when a file is written or read."""

from __future__ import annotations

import importlib
from typing import Any

OLDEST_OPSET = 13


def onnx_package() -> Any:
    """Give the package onnx, with the parts of it that this room uses.

    Raises
    ------
    ImportError
        Saying what to install, if it is not there.
    """
    try:
        package = importlib.import_module("onnx")
        for part in ("checker", "defs", "helper", "numpy_helper"):
            importlib.import_module(f"onnx.{part}")
    except ImportError as error:
        raise ImportError(
            'ONNX files need the package onnx: pip install "fastmnist[onnx]"'
        ) from error
    return package


def check_opset(opset: Any) -> int:
    """Check that an opset is one that we write and the installed package knows.

    Raises
    ------
    TypeError, ValueError
        If it is not.
    """
    if isinstance(opset, bool) or not isinstance(opset, int):
        raise TypeError(f"opset: expected an int, got {type(opset).__name__}")
    newest = int(onnx_package().defs.onnx_opset_version())
    if not OLDEST_OPSET <= opset <= newest:
        raise ValueError(
            f"opset: expected {OLDEST_OPSET} (the first with a scale per channel) to {newest} "
            f"(the newest that the installed onnx {onnx_package().__version__} knows), got {opset}"
        )
    return opset
