"""Operators over shapes and dimensions, of rows that go each by itself."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from fastmnist.onnx.building import Building, Rows, Shape
from fastmnist.onnx.elementwise import JOINS
from fastmnist.onnx.expressions import Array
from fastmnist.onnx.reading import Node, Unreadable
from fastmnist.onnx.values import Sizes

MOST_VALUES = 2**24  # of a row


class Shapes:
    """Makes steps of them; knows which rows are others in another shape."""

    def __init__(self, building: Building) -> None:
        self.building = building
        self._origins: dict[fx.Node, Rows] = {}
        self._rows: int | None = None  # where the file fixes their number

    def note_rows(self, size: int | str) -> None:
        """Note how many rows the file says that an input has."""
        self._rows = size if isinstance(size, int) and size > 0 else self._rows

    def origin(self, rows: Rows) -> Rows:
        """The rows that these are in another shape."""
        return self._origins.get(rows.node, rows)

    def take(self, node: Node, values: Sequence[Any], arrays: Sequence[Array | None]) -> Any:
        """Make of an operator what it does; inputs are values, or arrays that are constant."""
        method = getattr(self, f"_{SHAPES[node.kind]}")
        return method(node, values, arrays)

    def flattened(self, x: Rows) -> Rows:
        """Rows of numbers that may come in another shape."""
        made = self.building.layer(nn.Flatten(), x, x.shape, "flatten")
        self._origins[made.node] = self.origin(x)
        return made

    # ---- the same numbers ------------------------------------------------------------------------

    def reshaped(self, x: Rows, shape: Shape) -> Rows:
        """The same numbers of each row in another shape."""
        if shape == x.shape:
            return x
        building, size = self.building, math.prod(x.shape)
        made = x
        if x.is_index:  # these are computed with nowhere
            if (x.shape, shape) != ((), (1,)):
                raise Unreadable("expected indexes in the shape that arg max gives, got another")
            made = building.method("unsqueeze", x, -1, shape=(1,))
            return Rows(made.node, made.shape, is_index=True)
        if len(x.shape) != 1:
            made = (
                building.method("unsqueeze", x, -1, shape=(1,))
                if not x.shape
                else building.layer(nn.Flatten(), x, (size,), "flatten")
            )
        if shape == ():
            made = building.method("squeeze", made, -1, shape=())
        elif len(shape) > 1:
            made = building.layer(nn.Unflatten(1, shape), made, shape, "unflatten")
        self._origins[made.node] = self.origin(x)
        return made

    def _identity(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Any:
        return values[0]

    def _flatten(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Rows:
        axis, x = node.attributes.get("axis", 1), values[0]
        axis = axis + len(x.shape) + 1 if axis < 0 else axis
        if axis != 1:
            raise Unreadable(f"expected {node} of each row by itself, got axis {axis}")
        return self.reshaped(x, (math.prod(x.shape),))

    def _reshape(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Rows:
        x, target = values[0], arrays[1] if len(arrays) > 1 else None
        if target is None and len(values) > 1 and isinstance(values[1], Sizes):
            sizes: list[int | None] = [*values[1].sizes]
        elif target is not None and target.dtype.kind == "i":
            sizes = [int(size) for size in target.reshape(-1)]
        elif "shape" in node.attributes:
            sizes = [*node.attributes["shape"]]
        else:
            raise Unreadable(f"expected a shape for {node} that is known, got another")
        own = [None, *x.shape]
        if not node.attributes.get("allowzero", 0):
            sizes = [own[i] if s == 0 and i < len(own) else s for i, s in enumerate(sizes)]
        first, rest, total = (sizes or [0])[0], sizes[1:], math.prod(x.shape)
        if rest.count(-1) + rest.count(None) > 1 or None in rest:
            raise Unreadable(f"expected {node} to keep rows first, got shape {sizes}")
        row = [s for s in rest if s is not None]
        known = math.prod(s for s in row if s != -1)
        if -1 in row and known > 0 and total % known == 0:
            row = [total // known if s == -1 else s for s in row]
        same_rows = first in (None, -1) or first == self._rows
        if not same_rows or math.prod(row) != total or min(row, default=1) < 1:
            raise Unreadable(
                f"expected {node} to keep each row of {[*x.shape]} by itself, got shape {sizes}"
            )
        return self.reshaped(x, tuple(row))

    def _axes_of(self, node: Node, arrays: Sequence[Any]) -> tuple[int, ...] | None:
        if "axes" in node.attributes:
            return tuple(node.attributes["axes"])
        if len(arrays) > 1 and arrays[1] is not None:
            return tuple(int(a) for a in arrays[1].reshape(-1))
        return None

    def _squeeze(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Any:
        x, axes = values[0], self._axes_of(node, arrays)
        if isinstance(x, Sizes):
            return Sizes(x.sizes, is_one=True)
        rank = len(x.shape) + 1
        picked = {a % rank for a in axes} if axes is not None else set()
        if not picked or 0 in picked or any(x.shape[a - 1] != 1 for a in picked):
            raise Unreadable(f"expected {node} of a row's own dimensions of size 1, got {axes}")
        return self.reshaped(x, tuple(s for i, s in enumerate(x.shape, 1) if i not in picked))

    def _unsqueeze(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Any:
        x, axes = values[0], self._axes_of(node, arrays)
        if isinstance(x, Sizes):
            return Sizes(x.sizes)
        if axes is None:
            raise Unreadable(f"expected constant axes of {node}, got none")
        rank = len(x.shape) + 1 + len(axes)
        picked = sorted(a % rank for a in axes)
        if 0 in picked or len(set(picked)) != len(axes):
            raise Unreadable(f"expected {node} of a row's own dimensions, got {axes}")
        shape = [*x.shape]
        for axis in picked:
            shape.insert(axis - 1, 1)
        return self.reshaped(x, tuple(shape))

    def _transpose(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Rows:
        x = values[0]
        rank = len(x.shape) + 1
        order = tuple(node.attributes.get("perm", range(rank)[::-1]))
        if sorted(order) != [*range(rank)] or order[0] != 0:
            raise Unreadable(f"expected {node} to keep rows first, got order {[*order]}")
        shape = tuple(x.shape[o - 1] for o in order[1:])
        if order == (0, 2, 1):
            return self.building.method("transpose", x, 1, 2, shape=shape)
        return (
            x
            if shape == x.shape and order == tuple(range(rank))
            else self.building.method("permute", x, *order, shape=shape)
        )

    # ---- parts -----------------------------------------------------------------------------------

    def _axis(self, node: Node, axis: int, x: Rows) -> int:
        rank = len(x.shape) + 1
        if not -rank <= axis < rank or axis % rank == 0:
            raise Unreadable(f"expected an axis of the rows' own of {node}, got {axis}")
        return axis % rank

    def _concat(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Any:
        if any(isinstance(value, Sizes) for value in values):
            sizes: list[int | None] = []
            for value, array in zip(values, arrays, strict=True):
                sizes += value.sizes if isinstance(value, Sizes) else [int(a) for a in array]
            return Sizes(tuple(sizes))
        first = next(value for value in values if isinstance(value, Rows))
        axis = self._axis(node, node.attributes["axis"], first)
        parts: list[Any] = []
        width = 0
        for value, array in zip(values, arrays, strict=True):
            if array is not None:
                if array.ndim != len(first.shape) + 1 or array.shape[0] != 1:
                    raise Unreadable(f"expected parts of {node} with as many rows, got a constant")
                value = self._spread(array, first)
            if len(value.shape) != len(first.shape) or any(
                a != b
                for i, (a, b) in enumerate(zip(value.shape, first.shape, strict=True), 1)
                if i != axis
            ):
                raise Unreadable(f"expected parts of {node} that fit, got {[*value.shape]}")
            parts.append(value)
            width += value.shape[axis - 1]
        shape = (*first.shape[: axis - 1], width, *first.shape[axis:])
        # By the last dimension as people write it, which compile takes.
        return self.building.call(torch.cat, parts, axis, shape=_limited(shape))

    def _spread(self, array: Array, like: Rows) -> Rows:
        constant = self.building.constant(array, "constant")
        count = self.building.graph.call_method("size", (like.node, 0))
        spread = self.building.graph.call_method("expand", (constant, count, *array.shape[1:]))
        return Rows(spread, tuple(array.shape[1:]))

    def _expand(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Rows:
        array, target = arrays[0], values[1] if len(values) > 1 else None
        if array is None or not isinstance(target, Sizes) or target.sizes[:1] != (None,):
            raise Unreadable(f"expected {node} of a constant to as many rows as the input has")
        shape = np.broadcast_shapes(array.shape, (1, *(int(s or 0) for s in target.sizes[1:])))
        _limited(shape[1:])
        some = next(iter(self.building.graph.nodes))
        return self._spread(np.broadcast_to(array, shape), Rows(some, shape[1:]))

    def _slice(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Any:
        x = values[0]
        given = [arrays[i] if i < len(arrays) else None for i in range(1, 5)]
        if "starts" in node.attributes:  # before opset 10
            given = [np.array(node.attributes[k]) if k in node.attributes else None
                     for k in ("starts", "ends", "axes", "steps")]  # fmt: skip
        begins, stops = given[:2]
        if begins is None or stops is None:
            raise Unreadable(f"expected constant bounds of {node}, got others")
        starts, ends = ([int(a) for a in part.reshape(-1)] for part in (begins, stops))
        axes = (
            [int(a) for a in given[2].reshape(-1)]
            if given[2] is not None
            else [*range(len(starts))]
        )
        steps = (
            [int(a) for a in given[3].reshape(-1)] if given[3] is not None else [1] * len(starts)
        )
        if isinstance(x, Sizes):
            if (axes, steps) != ([0], [1]):
                raise Unreadable(f"expected {node} of sizes one by one, got others")
            return Sizes(x.sizes[starts[0] : ends[0]])
        for begin, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            if step != 1:
                raise Unreadable(f"expected {node} with steps of 1, got {step}")
            rank = len(x.shape) + 1
            if axis % rank == 0 and begin == 0 and end >= 2**31 - 1:
                continue  # all rows
            x = self._part(node, x, self._axis(node, axis, x), begin, end)
        return x

    def _part(self, node: Node, x: Rows, axis: int, begin: int, end: int) -> Rows:
        begin, end, _ = slice(begin, end).indices(x.shape[axis - 1])
        if begin >= end:
            raise Unreadable(f"expected {node} of at least one number, got none")
        shape = (*x.shape[: axis - 1], end - begin, *x.shape[axis:])
        if shape == x.shape:
            return x
        index = (*(slice(None),) * axis, slice(begin, end), *(slice(None),) * (len(x.shape) - axis))
        return self.building.call(operator.getitem, x, index, shape=shape)

    def _split(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> list[Rows]:
        x = values[0]
        axis = self._axis(node, node.attributes.get("axis", 0), x)
        width, count = x.shape[axis - 1], len(node.outputs)
        told = node.attributes.get("split")
        if len(arrays) > 1 and arrays[1] is not None:
            told = tuple(int(a) for a in arrays[1].reshape(-1))
        each = -(-width // count)
        sizes = told or tuple(min(each, width - i * each) for i in range(count))
        if sum(sizes) != width or len(sizes) != count or min(sizes) < 1:
            raise Unreadable(f"expected parts of {node} that make up {width}, got {[*sizes]}")
        ends = np.cumsum(sizes)
        return [
            self._part(node, x, axis, int(end - size), int(end))
            for size, end in zip(sizes, ends, strict=True)
        ]

    def _gather(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Any:
        x, index = values[0], arrays[1] if len(arrays) > 1 else None
        if index is None or index.dtype.kind != "i":
            raise Unreadable(f"expected constant indexes of {node}, got others")
        if isinstance(x, Sizes):
            picked = tuple(x.sizes[int(i)] for i in index.reshape(-1))
            return Sizes(picked, is_one=index.ndim == 0)
        axis = self._axis(node, node.attributes.get("axis", 0), x)
        width = x.shape[axis - 1]
        if index.size == 0 or index.min() < -width or index.max() >= width or index.ndim > 1:
            raise Unreadable(f"expected indexes of {node} within {width}, got others")
        picks = [int(i) % width for i in index.reshape(-1)]
        if picks == [*range(picks[0], picks[0] + len(picks))]:
            made = self._part(node, x, axis, picks[0], picks[-1] + 1)
        else:
            shape = (*x.shape[: axis - 1], len(picks), *x.shape[axis:])
            index_of = (*(slice(None),) * axis, picks)
            made = self.building.call(operator.getitem, x, index_of, shape=_limited(shape))
        if index.ndim:
            return made
        return self.reshaped(made, (*made.shape[: axis - 1], *made.shape[axis:]))

    def _shape(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Sizes:
        sizes = (None, *values[0].shape)
        begin, end = node.attributes.get("start", 0), node.attributes.get("end", len(sizes))
        return Sizes(sizes[begin:end])

    # ---- over a dimension ------------------------------------------------------------------------

    def _reduce(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Rows:
        x, axes = values[0], self._axes_of(node, arrays)
        if axes is None:
            raise Unreadable(f"expected axes of the rows' own of {node}, got all")
        picked = sorted({self._axis(node, axis, x) for axis in axes})
        keep = bool(node.attributes.get("keepdims", 1))
        shape = [
            1 if i in picked else s for i, s in enumerate(x.shape, 1) if keep or i not in picked
        ]
        function = _REDUCE[node.kind]
        dims: Any = picked if len(picked) > 1 else picked[0]
        named = {"keepdim": True} if keep else {}
        return self.building.call(function, x, dims, shape=tuple(shape), **named)

    def _argmax(self, node: Node, values: Sequence[Any], arrays: Sequence[Any]) -> Rows:
        x = values[0]
        axis = self._axis(node, node.attributes.get("axis", 0), x)
        keep = bool(node.attributes.get("keepdims", 1))
        if node.attributes.get("select_last_index", 0):
            raise Unreadable(f"expected the first of equal ones of {node}, got the last")
        shape = [1 if i == axis else s for i, s in enumerate(x.shape, 1) if keep or i != axis]
        named = {"keepdim": True} if keep else {}
        made = self.building.call(torch.argmax, x, axis, shape=tuple(shape), **named)
        return Rows(made.node, made.shape, is_index=True)

    def join(self, node: Node, operands: Sequence[Any]) -> Rows:
        """Two values, or a value and a constant, number by number."""
        rows = [value for value in operands if isinstance(value, Rows)]
        if len(rows) + sum(isinstance(value, np.ndarray) for value in operands) != 2 or not rows:
            raise Unreadable(f"expected rows or constants for {node}, got sizes")
        rank = len(rows[0].shape)
        shapes: list[Shape] = []
        parts: list[Any] = []
        for value in operands:
            if isinstance(value, Rows):
                if len(value.shape) != rank or value.is_index:
                    raise Unreadable(f"expected rows of as many dimensions for {node}, got others")
                shapes.append(value.shape)
                parts.append(value)
                continue
            wide = value.ndim == rank + 1
            if value.ndim > rank + 1 or (wide and value.shape[0] != 1):
                raise Unreadable(
                    f"expected a constant of {node} that is the same for all rows, got shape "
                    f"{[*value.shape]}"
                )
            shapes.append(value.shape[1:] if wide else value.shape)
            parts.append(self.building.constant(value, node.name or node.kind.lower()))
        shape = _limited(np.broadcast_shapes(*shapes))
        if len(shape) != rank:
            raise Unreadable(f"expected shapes that fit for {node}, got {shapes}")
        return self.building.call(JOINS[node.kind], *parts, shape=shape)


def _limited(shape: Sequence[int]) -> Shape:
    if math.prod(shape) > MOST_VALUES:
        raise Unreadable(f"expected rows of at most {MOST_VALUES:,} numbers, got shape {[*shape]}")
    return tuple(shape)


_REDUCE: dict[str, Callable[..., Any]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
}
SHAPES = {
    "Identity": "identity", "Flatten": "flatten", "Reshape": "reshape", "Squeeze": "squeeze",
    "Unsqueeze": "unsqueeze", "Transpose": "transpose", "Concat": "concat", "Expand": "expand",
    "Slice": "slice", "Split": "split", "Gather": "gather", "Shape": "shape",
    **dict.fromkeys(_REDUCE, "reduce"), "ArgMax": "argmax",
}  # fmt: skip
