"""Fields of JSON and tensors by name, checked before use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def required_field(record: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """``record[name]``, after checking that there is such a field and of which type."""
    if not isinstance(record, dict):
        raise ValueError(
            f"field '{name}': expected a record that holds it, got {type(record).__name__}"
        )
    if name not in record:
        raise ValueError(f"field '{name}': expected {_names(kind)}, but it is missing")
    if not isinstance(record[name], kind):
        raise ValueError(
            f"field '{name}': expected {_names(kind)}, got {type(record[name]).__name__}"
        )
    return record[name]


def required_tensor(
    arrays: Mapping[str, npt.NDArray[Any]],
    name: str,
    dtype: type[np.generic],
    shape: tuple[int | None, ...],
) -> npt.NDArray[Any]:
    """The named array, after checking its dtype and shape (None: any size)."""
    if name not in arrays:
        raise ValueError(f"tensor '{name}': expected {np.dtype(dtype)}, but it is missing")
    array = arrays[name]
    fits = len(array.shape) == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        want = f"{np.dtype(dtype)} {['any' if s is None else s for s in shape]}"
        raise ValueError(f"tensor '{name}': expected {want}, got {array.dtype} {[*array.shape]}")
    return np.ascontiguousarray(array).reshape(array.shape)


def _names(kind: type | tuple[type, ...]) -> str:
    return kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
