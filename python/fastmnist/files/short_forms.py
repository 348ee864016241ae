"""Arrays in shorter forms than their own, each as two tensors of a file. Free of torch.

A description tells by form the names and shapes of the arrays that have it:

    "sparse"     <name>.bitmask and <name>.values    many zeros (int8/sparse_encoding.py)
    "indexed"    <name>.table and <name>.indices     int8, few values (int8/packed_indices.py)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist.int8 import packed_indices, sparse_encoding

_Array = npt.NDArray[Any]
_PARTS = {"sparse": ("bitmask", "values"), "indexed": ("table", "indices")}
_DECODERS: dict[str, Callable[[_Array, _Array, tuple[Any, ...]], _Array]] = {
    "sparse": lambda *parts: sparse_encoding.decode(sparse_encoding.Encoded(*parts)),
    "indexed": lambda *parts: packed_indices.decode(packed_indices.Indexed(*parts)),
}


def shortened(key: str, array: _Array) -> tuple[str | None, dict[str, _Array]]:
    """An array in the form that takes the fewest bytes: its name, None for the array itself, and
    the tensors that a file holds then."""
    forms: list[tuple[str | None, dict[str, _Array]]] = [
        (None, {key: np.ascontiguousarray(array).reshape(array.shape)})
    ]
    if (sparse := sparse_encoding.encode(array)) is not None:
        parts = {f"{key}.bitmask": sparse.bitmask, f"{key}.values": sparse.values}
        forms.append(("sparse", parts))
    if (indexed := packed_indices.encode(array)) is not None:
        parts = {f"{key}.table": indexed.table, f"{key}.indices": indexed.indices}
        forms.append(("indexed", parts))
    return min(forms, key=lambda form: sum(part.nbytes for part in form[1].values()))


def dense_arrays(description: dict[str, Any], arrays: dict[str, _Array]) -> dict[str, _Array]:
    """Put the arrays that are stored in a shorter form among a model's others.

    Raises
    ------
    ValueError
        Naming the tensor whose parts are missing or do not belong together.
    """
    dense = dict(arrays)
    for form, parts in _PARTS.items():
        shapes = description.get(form, {})
        if not isinstance(shapes, dict):
            raise ValueError(f"field '{form}': expected a table of shapes, got {shapes!r}")
        for key, shape in shapes.items():
            first, second = (dense.pop(f"{key}.{part}", None) for part in parts)
            if key in dense or first is None or second is None or not isinstance(shape, list):
                raise ValueError(
                    f"tensor '{key}': expected a shape, {' and '.join(parts)}, nothing else"
                )
            try:
                dense[key] = _DECODERS[form](first, second, tuple(shape))
            except ValueError as error:
                raise ValueError(f"tensor '{key}': {error}") from None
    return dense
