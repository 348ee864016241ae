"""Small formulas of ONNX operators: the exporter writes them, and the importer finds them.

An expression is a tree of operators over *holes*. Written out, a hole is a value or an array that
is put in; found in a file, it is what stands there. So what one side writes the other knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# What stands for a hole: an array where it is a constant, else the name of a value.
Filled = dict[str, Any]
_COMMUTE = {"Add", "Mul", "Min", "Max", "And", "Or"}


@dataclass(frozen=True)
class X:
    """A value that depends on the input."""

    name: str = "x"


@dataclass(frozen=True)
class C:
    """A constant that differs from use to use."""

    name: str


@dataclass(frozen=True)
class Number:
    """A constant that the formula itself has."""

    value: float
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Op:
    """An operator over expressions; attributes that are not named have ONNX's defaults."""

    kind: str
    inputs: tuple[Any, ...]
    attributes: Mapping[str, Any]


def op(kind: str, *inputs: Any, **attributes: Any) -> Op:
    """Write an operator; plain numbers are float32 constants."""
    made = [Number(float(i)) if isinstance(i, int | float) else i for i in inputs]
    return Op(kind, tuple(made), attributes)


class Graph(Protocol):
    """What a formula is looked for in."""

    def producer(self, name: str) -> tuple[str, tuple[str, ...], Mapping[str, Any]] | None:
        """Kind, inputs and attributes of the operator that gives a value; None if none does."""

    def constant(self, name: str) -> Array | None:
        """The array that a name stands for; None if it depends on the input."""


def find(graph: Graph, name: str, expression: Any) -> Filled | None:
    """What the holes are if the value of that name is computed so; None if it is not."""
    filled: Filled = {}
    return filled if _found(graph, name, expression, filled) else None


def _found(graph: Graph, name: str, expression: Any, filled: Filled) -> bool:
    if isinstance(expression, X):
        if graph.constant(name) is not None or not name:
            return False
        return bool(filled.setdefault(expression.name, name) == name)
    if isinstance(expression, C | Number):
        constant = graph.constant(name) if name else None
        if constant is None:
            return False
        if isinstance(expression, Number):
            return _is_number(constant, expression)
        known = filled.setdefault(expression.name, constant)
        return known is constant or (
            known.dtype == constant.dtype and np.array_equal(known, constant, equal_nan=False)
        )
    assert isinstance(expression, Op)
    if not name or (made := graph.producer(name)) is None:
        return False
    kind, inputs, attributes = made
    if kind != expression.kind or len(inputs) != len(expression.inputs):
        return False
    if not _same_attributes(attributes, expression.attributes):
        return False
    orders = [inputs]
    if kind in _COMMUTE and len(inputs) == 2:
        orders.append(inputs[::-1])
    for order in orders:
        attempt = dict(filled)
        pairs = zip(order, expression.inputs, strict=True)
        if all(_found(graph, part, wanted, attempt) for part, wanted in pairs):
            filled.update(attempt)
            return True
    return False


def _is_number(constant: Array, number: Number) -> bool:
    # Of integers exactly; of floats what others round otherwise (sqrt(2) in float32) is the same.
    if constant.size != 1 or constant.dtype.kind not in "fiu":
        return False
    value = float(constant.reshape(()))
    return abs(value - number.value) <= 2e-6 * abs(number.value)


def _same_attributes(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    for key in {*got, *wanted}:
        one, other = got.get(key), wanted.get(key)
        if isinstance(one, float) and isinstance(other, float):
            if abs(one - other) > 2e-6 * abs(other):
                return False
        elif one != other:
            return False
    return True
