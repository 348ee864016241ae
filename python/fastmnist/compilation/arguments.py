"""The arguments of traced steps, read for a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from fastmnist.compilation.builder import Builder, Refused, Shape
from fastmnist.int8.network import F32
from fastmnist.rewriting.steps import Step

Result = int | list[int]


def argument(step: Step, position: int, name: str, default: Any = None) -> Any:
    """An argument of the call, by its position or its name."""
    node = step.node
    if name == "dim" and "axis" in node.kwargs:  # NumPy's name for it, which torch takes, too
        return node.kwargs["axis"]
    return node.kwargs.get(name, node.args[position] if len(node.args) > position else default)


def input_of(builder: Builder, step: Step) -> int:
    """The value that the first argument is."""
    return builder.read(step, argument(step, 0, "input"))


def shape_of(builder: Builder, step: Step) -> Shape:
    """The shape of what a step gives, without the dimension of rows."""
    shape = builder.seen.shapes.get(step.node)
    if shape is None:
        seen = builder.seen.uneven.get(step.node)
        what = f"shape {[*seen]} for two rows" if seen else "no tensor"
        raise Refused(step, f"it gives {what}, and each row must go by itself")
    return shape


def dimension_of(step: Step, shape: Shape, dim: Any) -> int:
    """A dimension of rows of that shape, counted without that of the rows."""
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise Refused(step, f"expected one dimension, got {dim!r}")
    own = dim - 1 if dim > 0 else dim + len(shape)
    if dim == 0 or not 0 <= own < len(shape):
        raise Refused(step, f"dimension {dim} is that of the rows, which go each by itself")
    return own


def check_last_dimension(step: Step, shape: Shape, dim: Any) -> None:
    """Refuse a step that goes over another dimension than the last."""
    if dimension_of(step, shape, dim) != len(shape) - 1:
        raise Refused(step, f"expected the last dimension, got {dim} of {len(shape) + 1}")


def floats(tensor: Tensor) -> F32:
    """A tensor's numbers."""
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy(), np.float32)
