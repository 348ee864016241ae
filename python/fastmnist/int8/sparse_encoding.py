"""Arrays with many zeros, as files and pickles hold them: a bitmask and the rest. Free of torch.

    weight  [[3, 0, 0, -7, 0, 0, 0, 0, 5],      bitmask  [[0b00001001, 0b00000001],
             [0, 0, 0,  0, 0, 0, 0, 0, 0]]                [0b00000000, 0b00000000]]
                                                values   [3, -7, 5]

One bit per element, lowest first, each row padded to whole bytes; then the elements that are not
zero, row by row. The same on every machine; what kernels read is packed from it (csrc/pack). A zero
is one by its bits: -0.0 is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_MOST_DIMENSIONS = 16
_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, eq=False)
class Encoded:
    """An array without its zeros.

    Attributes
    ----------
    bitmask : uint8 ``[rows, ceil(columns / 8)]``
        Rows are all dimensions but the last.
    values : ``[count]``, of the array's dtype
    shape : tuple of int
        Of the array.
    """

    bitmask: npt.NDArray[np.uint8]
    values: npt.NDArray[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.bitmask.nbytes + self.values.nbytes


def encode(array: npt.NDArray[Any]) -> Encoded | None:
    """Encode an array; None where that would not make it smaller.

    Parameters
    ----------
    array : ndarray
        Of any dtype of 1, 2, 4 or 8 bytes and at least two dimensions, otherwise None is returned.

    Returns
    -------
    Encoded or None

    Examples
    --------
    >>> encoded = encode(np.eye(64, dtype=np.int8))
    >>> encoded.nbytes, bool((decode(encoded) == np.eye(64)).all())
    (576, True)
    """
    if array.ndim < 2 or array.size == 0 or array.dtype.itemsize not in _BITS:
        return None
    array = np.ascontiguousarray(array)
    there = array.view(_BITS[array.dtype.itemsize]) != 0
    rows = there.reshape(-1, array.shape[-1])
    if -(-rows.shape[1] // 8) * len(rows) + there.sum() * array.itemsize >= array.nbytes:
        return None
    return Encoded(np.packbits(rows, axis=1, bitorder="little"), array[there], array.shape)


def checked_shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of an encoded array, as a file tells it.

    Raises
    ------
    ValueError
        If it is none of two or more dimensions.
    """
    if not 2 <= len(shape) <= _MOST_DIMENSIONS or not all(
        type(size) is int and 0 < size < 2**40 for size in shape
    ):
        brief = str([*shape[:4]])[:100] + (" and more" if len(shape) > 4 else "")
        raise ValueError(f"shape: expected two or more positive integers, got {brief}")
    return shape


def decode(encoded: Encoded) -> npt.NDArray[Any]:
    """Give the array back.

    Raises
    ------
    ValueError
        If bitmask, values and shape do not belong together.
    """
    shape, bitmask, values = checked_shape(encoded.shape), encoded.bitmask, encoded.values
    columns = shape[-1]
    expected = (math.prod(shape[:-1]), -(-columns // 8))
    if bitmask.dtype != np.uint8 or bitmask.shape != expected:
        raise ValueError(
            f"bitmask: expected uint8 {[*expected]}, got {bitmask.dtype} {[*bitmask.shape]}"
        )
    bits = np.unpackbits(bitmask, axis=1, bitorder="little")
    if bits[:, columns:].any():
        raise ValueError("bitmask: expected zeros behind the end of each row")
    there = bits[:, :columns].astype(bool)
    count = int(there.sum())
    if values.shape != (count,):
        raise ValueError(f"values: expected [{count}], as the bitmask says, got {[*values.shape]}")
    array = np.zeros(there.shape, values.dtype)
    array[there] = values
    return array.reshape(shape)
