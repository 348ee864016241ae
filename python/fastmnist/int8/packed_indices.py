"""int8 arrays of few distinct values, as files hold them: a table and places in it. Free of torch.

    weight  [[5, 0, -3],      table    [-3, 0, 5]
             [0, 0,  5]]      indices  [[0b00000110, ...    2, 1, 0 of 2 bits each, lowest first
                                        [0b00100101, ...    1, 1, 2

Places have as few bits as they need, 1 to 7, the first in the lowest bits of a byte; each row is
padded to whole bytes. The table is in rising order, so two writers make the same of one array. With
16 values, as 4-bit and clustered weights have, places are nibbles. Files are read natively
(csrc/files/short_forms.h).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_VALUES = 128


@dataclass(frozen=True, eq=False)
class Indexed:
    """An int8 array as places in a table of its values.

    Attributes
    ----------
    table : int8 ``[values]``
    indices : uint8 ``[rows, ceil(columns * bits / 8)]``
        Rows are all dimensions but the last.
    shape : tuple of int
        Of the array.
    """

    table: npt.NDArray[np.int8]
    indices: npt.NDArray[np.uint8]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.indices.nbytes


def encode(array: npt.NDArray[Any]) -> Indexed | None:
    """Encode an array; None where it is not int8, not at least two-dimensional, or has too many
    values.

    Examples
    --------
    >>> encoded = encode(np.arange(64, dtype=np.int8).reshape(4, 16) % 16)
    >>> encoded.nbytes, encoded.table[:3]
    (48, array([0, 1, 2], dtype=int8))
    """
    if array.dtype != np.int8 or array.ndim < 2 or array.size == 0:
        return None
    table = np.unique(array)
    if len(table) > MOST_VALUES:
        return None
    place_of = np.zeros(256, np.uint8)
    place_of[table.view(np.uint8)] = np.arange(len(table))
    bits = _bits(len(table))

    def packed(block: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
        places = place_of[block.view(np.uint8)]
        single = np.unpackbits(places[:, :, None], axis=2, count=bits, bitorder="little")
        return np.packbits(single.reshape(len(block), -1), axis=1, bitorder="little")

    rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1])
    blocks = [packed(rows[block]) for block in _blocks(*rows.shape)]
    return Indexed(table, np.concatenate(blocks), array.shape)


def _blocks(rows: int, columns: int) -> list[slice]:
    """Rows by some million elements: bits by themselves take eight times the room."""
    step = max(1, 2**20 // columns)
    return [slice(first, first + step) for first in range(0, rows, step)]


def _bits(values: int) -> int:
    return max(1, (values - 1).bit_length())
