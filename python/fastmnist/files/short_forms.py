"""Arrays in shorter forms than their own, each as two tensors of a file. Free of torch.

A description tells by form the names and shapes of the arrays that have it:

    "sparse"     <name>.bitmask and <name>.values    many zeros (int8/sparse_encoding.py)
    "indexed"    <name>.table and <name>.indices     int8, few values (int8/packed_indices.py)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist.int8 import packed_indices, sparse_encoding

_Array = npt.NDArray[Any]
FORMS = ("sparse", "indexed")


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
