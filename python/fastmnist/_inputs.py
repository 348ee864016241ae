"""Rows that the native code cannot read as they are: convert them, or say what was expected.

Called by ``_core`` off the fast path only: float32 and uint8, contiguous, on the CPU never get
here.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

# Native code reads so many dimensions; more are the same rows with fewer.
_MOST_DIMENSIONS = 16

EXPECTED = "expected uint8 pixels or floats, a NumPy array or a CPU tensor of shape [N, ...]"


def prepare(x: Any, name: str = "x") -> Any:
    """Return `x`, which errors call `name`, as contiguous float32 or uint8, from the same library.

    Raises
    ------
    TypeError
        If `x` is no array or tensor, or of an integer type other than uint8.
    ValueError
        If it lies on another device, or has no data to read.
    """
    if isinstance(x, np.ndarray):
        return _prepare_numpy(x, name)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return _prepare_torch(torch, x, name)
    hint = " (np.asarray(x, dtype=np.float32) makes one)" if isinstance(x, list | tuple) else ""
    raise TypeError(f"{name}: {EXPECTED}, got {type(x).__name__}{hint}")


def _prepare_numpy(x: np.ndarray[Any, Any], name: str) -> Any:
    if x.dtype == np.uint8 or np.issubdtype(x.dtype, np.floating):
        dtype = np.uint8 if x.dtype == np.uint8 else np.float32
        # requirements: contiguous, aligned, a plain ndarray (masked arrays lose their masks loudly)
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"{name}: {EXPECTED}, got a masked array: fill it first, x.filled(0)")
        with np.errstate(over="ignore"):
            plain = np.require(x, dtype=dtype, requirements=["C", "A"]).view(np.ndarray)
        return plain if plain.ndim <= _MOST_DIMENSIONS else plain.reshape(len(plain), -1)
    raise TypeError(f"{name}: {EXPECTED}, got {x.dtype}: {_integer_hint()}")


def _integer_hint() -> str:
    return "for pixels 0…255 use x.astype(np.uint8), for anything else x.astype(np.float32)"


def _prepare_torch(torch: Any, x: Any, name: str) -> Any:
    if x.device.type != "cpu":
        raise ValueError(f"{name}: {EXPECTED}, got a tensor on device '{x.device}': use x.cpu()")
    if x.layout != torch.strided:
        raise TypeError(f"{name}: {EXPECTED}, got layout {x.layout}: use x.to_dense()")
    if not (x.dtype == torch.uint8 or x.is_floating_point()):
        raise TypeError(
            f"{name}: {EXPECTED}, got {x.dtype}: for pixels 0…255 use x.to(torch.uint8), "
            "for anything else x.float()"
        )
    plain = x.detach().resolve_conj().resolve_neg()
    plain = plain if plain.dtype == torch.uint8 else plain.float()
    plain = plain.contiguous()
    if plain.dim() > _MOST_DIMENSIONS:
        plain = plain.reshape(len(plain), -1)
    if type(plain) is not torch.Tensor:
        plain = plain.as_subclass(torch.Tensor)
    if plain.numel() > 0 and (plain.is_meta or _has_no_data(plain)):
        raise ValueError(f"{name}: {EXPECTED}, got {type(x).__name__} without data")
    return plain


def _has_no_data(x: Any) -> bool:
    try:
        return bool(x.data_ptr() == 0)
    except RuntimeError:
        return True
