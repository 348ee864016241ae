"""What values of a file are, beside rows of floats: codes, sizes, and parts of products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastmnist.int8.network import F32
from fastmnist.onnx.building import Rows
from fastmnist.onnx.expressions import Array
from fastmnist.onnx.folding import Coded


@dataclass(frozen=True, eq=False)
class Codes:
    """uint8 codes of rows: ``(q - zero_point) * scale`` is what they stand for.

    int8 codes of others are these less 128.

    Attributes
    ----------
    of : Rows
        The rows that they are made of; pixels themselves where `are_pixels`.
    scale, zero_point : float, int
        What QuantizeLinear made them with.
    multiplier, offset : float32 arrays or None
        Where they are ``rne(x * multiplier + offset)``; `scale` is 1 then.
    are_pixels : bool
    """

    of: Rows
    scale: float
    zero_point: int
    multiplier: F32 | None = None
    offset: F32 | None = None
    are_pixels: bool = False


@dataclass(frozen=True, eq=False)
class Decoded:
    """Codes taken for ``(q - zero_point) * scale``, of these numbers."""

    codes: Codes
    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class Sizes:
    """What Shape gives, or a part of it: the number of rows is None."""

    sizes: tuple[int | None, ...]
    is_one: bool = False

    def known(self) -> Array | None:
        """As an array of int64, where the number of rows is not among them."""
        if None in self.sizes:
            return None
        made = np.array(self.sizes, np.int64)
        return made.reshape(()) if self.is_one and made.size == 1 else made


@dataclass(frozen=True, eq=False)
class Ranged:
    """What DynamicQuantizeLinear gives: "codes", "scale" (times a constant) or "zero point"."""

    of: Rows
    what: str
    times: Array | None = None


@dataclass(frozen=True, eq=False)
class Product:
    """The int32 sums of such codes with constant ones."""

    of: Rows
    weight: Coded


Value = Rows | Codes | Decoded | Sizes | Ranged | Product | None
