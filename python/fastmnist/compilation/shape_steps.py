"""Shapes, slices, concatenations, and what goes over a dimension, as steps of a graph."""

from __future__ import annotations

import math
from typing import Any

from torch import nn
from torch.nn import functional as F

from fastmnist.compilation.arguments import (
    Result,
    argument,
    check_last_dimension,
    dimension_of,
    input_of,
    shape_of,
)
from fastmnist.compilation.builder import Builder, Refused, Shape
from fastmnist.rewriting.steps import Step


def concatenate(builder: Builder, step: Step) -> Result:
    parts = argument(step, 0, "tensors")
    if not isinstance(parts, list | tuple) or not parts:
        raise Refused(step, "expected a list of tensors")
    shape = shape_of(builder, step)
    dim = dimension_of(step, shape, argument(step, 1, "dim", 0))
    values = []
    for part in parts:
        if builder.is_given(part):
            values.append(builder.read(step, part))
            continue
        constant = builder.number_or_constant(step, part)
        values.append(builder.operand(step, part, (*constant.shape[1:],)))
    # What lies behind the dimension is joined with it.
    before = shape[:dim]
    joined = [
        builder.reshaped(v, (*before, math.prod(builder.shape(v)[dim:])), step.name) for v in values
    ]
    width = sum(builder.shape(v)[-1] for v in joined)
    y = builder.add("concat", step.name, joined, (*before, width))
    return builder.reshaped(y, shape, step.name)


def same(builder: Builder, step: Step) -> Result:
    return input_of(builder, step)


def reshape(builder: Builder, step: Step) -> Result:
    x = input_of(builder, step)
    shape = shape_of(builder, step)
    if math.prod(shape) != math.prod(builder.shape(x)):
        raise Refused(step, "it mixes rows")
    return builder.reshaped(x, shape, step.name)


def transpose(builder: Builder, step: Step) -> Result:
    """Both dimensions of a row swapped: of tensors of three dimensions the last two."""
    x = input_of(builder, step)
    shape = builder.shape(x)
    given: Any = step.node.args[1:]
    if step.function == "permute":
        order = given[0] if given and isinstance(given[0], tuple | list) else given
        swaps = [o % 3 for o in order if isinstance(o, int)] == [0, 2, 1]
    else:
        pair = (argument(step, 1, "dim0"), argument(step, 2, "dim1"))
        swaps = all(isinstance(d, int) for d in pair) and {d % 3 for d in pair} == {1, 2}
    if len(shape) != 2 or not swaps:
        raise Refused(step, "expected the two dimensions of a row to be swapped")
    return builder.add("transpose", step.name, [x], shape_of(builder, step))


def _slices(builder: Builder, step: Step, x: int, widths: list[int], dim: Any) -> list[int]:
    shape = builder.shape(x)
    check_last_dimension(step, shape, dim)
    made, begin = [], 0
    for width in widths:
        made.append(builder.add("slice", step.name, [x], (*shape[:-1], width), begin=begin))
        begin += width
    return made


def split(builder: Builder, step: Step) -> Result:
    shapes = builder.seen.parts.get(step.node)
    if shapes is None:
        raise Refused(step, "it splits rows from each other")
    x = input_of(builder, step)
    widths = [shape[-1] for shape in shapes]
    if sum(widths) != builder.shape(x)[-1]:
        raise Refused(step, "expected parts that lie side by side")
    return _slices(builder, step, x, widths, argument(step, 2, "dim", 0))


def item(builder: Builder, step: Step) -> Result:
    """One of several parts, or a slice, or one number, of the last dimension."""
    source: Any = step.node.args[0]
    index: Any = step.node.args[1]
    values = builder.of.get(source)
    if isinstance(values, list):
        if not isinstance(index, int):
            raise Refused(step, f"expected one of its parts, got {index!r}")
        return values[index]
    x = input_of(builder, step)
    shape = builder.shape(x)
    last = _last_pick(step, index, shape)
    one = isinstance(last, int)
    bounds = slice(last, last + 1 or None) if isinstance(last, int) else last
    begin, end, _ = bounds.indices(shape[-1])
    if begin >= end:
        raise Refused(step, f"expected a slice within {shape[-1]} numbers that is not empty")
    y = builder.add("slice", step.name, [x], (*shape[:-1], end - begin), begin=begin)
    return builder.reshaped(y, shape[:-1], step.name) if one else y


def _last_pick(step: Step, index: Any, shape: Shape) -> int | slice:
    """What is picked of the last dimension, where everything is of those before it."""
    picks = list(index) if isinstance(index, tuple) else [index]
    everything = slice(None)
    if (at := next((i for i, pick in enumerate(picks) if pick is Ellipsis), None)) is not None:
        picks[at : at + 1] = [everything] * (len(shape) + 2 - len(picks))
    whole = len(picks) == len(shape) + 1 and all(
        isinstance(pick, slice) and pick == everything for pick in picks[:-1]
    )
    last = picks[-1]
    if whole and isinstance(last, int) and not isinstance(last, bool):
        return last
    if whole and isinstance(last, slice) and last.step in (None, 1):
        plain = [isinstance(bound, int | None) for bound in (last.start, last.stop)]
        if all(plain):
            return last
    raise Refused(step, "expected a slice of the last dimension, as x[:, 3:7]")


def mean(builder: Builder, step: Step) -> Result:
    x = input_of(builder, step)
    shape = builder.shape(x)
    dims = argument(step, 1, "dim")
    dim = dims[0] if isinstance(dims, tuple | list) and len(dims) == 1 else dims
    if len(shape) != 2 or dimension_of(step, shape, dim) != 0:
        raise Refused(
            step,
            "a mean is taken over the positions of rows [N, positions, features], by dim=1, and "
            f"rows have shape {[*shape]}",
        )
    y = builder.add("mean", step.name, [x], (shape[-1],))
    return builder.reshaped(y, shape_of(builder, step), step.name)


def sum_of(builder: Builder, step: Step) -> Result:
    x = input_of(builder, step)
    shape = builder.shape(x)
    dims = argument(step, 1, "dim")
    dim = dims[0] if isinstance(dims, tuple | list) and len(dims) == 1 else dims
    check_last_dimension(step, shape, dim)
    y = builder.add("sum", step.name, [x], shape[:-1])
    return builder.reshaped(y, shape_of(builder, step), step.name)


def _dtype_at(step: Step) -> int:
    """Where a dtype stands: F.softmax has a `_stacklevel` before it."""
    return 3 if step.node.target in (F.softmax, F.log_softmax) else 2


def softmax(builder: Builder, step: Step) -> Result:
    log = step.function.startswith("log") or isinstance(step.module, nn.LogSoftmax)
    dim = step.module.dim if step.module is not None else argument(step, 1, "dim")
    dtype = None if step.module is not None else argument(step, _dtype_at(step), "dtype")
    if dtype is not None:
        raise Refused(step, f"it gives {dtype}, and one native call computes in float32")
    x = input_of(builder, step)
    shape = builder.shape(x)
    if dim is None:
        raise Refused(step, "expected dim=-1, got none, which torch warns of, too")
    check_last_dimension(step, shape, dim)
    return builder.add("log_softmax" if log else "softmax", step.name, [x], shape)


def argmax(builder: Builder, step: Step) -> Result:
    x = input_of(builder, step)
    shape = builder.shape(x)
    if argument(step, 2, "keepdim", False) is not False:
        raise Refused(step, "expected no keepdim")
    check_last_dimension(step, shape, argument(step, 1, "dim"))
    return builder.add("argmax", step.name, [x], shape[:-1])
