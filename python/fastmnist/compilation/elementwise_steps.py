"""Activations and joins as steps of a graph: what works number by number."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from fastmnist.compilation.arguments import (
    Result,
    argument,
    check_last_dimension,
    floats,
    input_of,
    shape_of,
)
from fastmnist.compilation.builder import Builder, Refused
from fastmnist.int8.activation import Activation
from fastmnist.layers.functions import activation_of, activation_of_call
from fastmnist.rewriting.steps import Step

_JOINS = {
    "add": "add", "add_": "add", "iadd": "add",
    "sub": "subtract", "sub_": "subtract", "isub": "subtract", "subtract": "subtract",
    "mul": "multiply", "mul_": "multiply", "imul": "multiply", "multiply": "multiply",
    "div": "divide", "div_": "divide", "itruediv": "divide", "truediv": "divide",
    "divide": "divide",
}  # fmt: skip
_ALIASES = {"clone", "detach", "contiguous", "float"}


def clamp(builder: Builder, step: Step) -> Result:
    assert step.clamp is not None
    return _clamped(builder, step, step.clamp)


def _clamped(builder: Builder, step: Step, clamp: tuple[float, float]) -> int:
    x = input_of(builder, step)
    return builder.add("clamp", step.name, [x], builder.shape(x), clamp=clamp)


def _activated(builder: Builder, step: Step, x: int, function: Activation) -> int:
    return builder.add("activate", step.name, [x], builder.shape(x), function=function)


def elementwise(builder: Builder, step: Step) -> Result:
    name = step.function if step.module is None else ""
    if isinstance(step.module, nn.PReLU):
        return prelu(builder, step)
    function = (
        activation_of(step.module) if step.module is not None else activation_of_call(step.node)
    )
    x = input_of(builder, step)
    if function is not None:
        return _activated(builder, step, x, function)
    if name in _ALIASES:
        return x
    if name.rstrip("_") in ("clamp", "clamp_min", "clamp_max", "clip", "hardtanh"):
        return _clamped(builder, step, _bounds(step, name.rstrip("_")))
    if name == "neg":
        minus = builder.operand(step, -1.0, builder.shape(x))
        return builder.add("multiply", step.name, [x, minus], builder.shape(x))
    if name in ("abs", "abs_"):
        positive = builder.add("clamp", step.name, [x], builder.shape(x), clamp=(0.0, math.inf))
        negative = builder.add("clamp", step.name, [x], builder.shape(x), clamp=(-math.inf, 0.0))
        return builder.add("subtract", step.name, [positive, negative], builder.shape(x))
    if name == "square":
        return builder.add("multiply", step.name, [x, x], builder.shape(x))
    raise Refused(step, "it is no step that one native call can run")


def _bounds(step: Step, name: str) -> tuple[float, float]:
    lo = hi = None
    if name == "clamp_max":
        hi = argument(step, 1, "max")
    elif name == "clamp_min":
        lo = argument(step, 1, "min")
    elif name == "hardtanh":
        lo, hi = argument(step, 1, "min_val", -1.0), argument(step, 2, "max_val", 1.0)
    else:
        lo, hi = argument(step, 1, "min"), argument(step, 2, "max")
    for bound in (lo, hi):
        if bound is not None and not (isinstance(bound, int | float) and bound == bound):
            raise Refused(step, f"expected bounds that are numbers, got {bound!r}")
    low = -math.inf if lo is None else float(lo)
    high = math.inf if hi is None else float(hi)
    if low > high:
        raise Refused(step, f"expected a lower bound below the upper one, got {low} and {high}")
    return low, high


def prelu(builder: Builder, step: Step) -> Result:
    """A slope for each channel, which is the first dimension behind that of the rows."""
    module = step.module
    assert isinstance(module, nn.PReLU)
    function = activation_of(module)
    x = input_of(builder, step)
    if function is not None:
        return _activated(builder, step, x, function)
    shape = builder.shape(x)
    slopes = floats(module.weight)
    if not shape or shape[0] != len(slopes):
        raise Refused(step, f"expected {len(slopes)} channels, got shape {[*shape]}")
    spread = np.broadcast_to(slopes.reshape(-1, *[1] * (len(shape) - 1)), shape)
    return builder.add("slopes", step.name, [x], shape, weight=spread)


def glu(builder: Builder, step: Step) -> Result:
    x = input_of(builder, step)
    shape = builder.shape(x)
    dim = step.module.dim if isinstance(step.module, nn.GLU) else argument(step, 1, "dim", -1)
    check_last_dimension(step, shape, dim)
    half = (*shape[:-1], shape[-1] // 2)
    value = builder.add("slice", step.name, [x], half)
    gate = builder.add("slice", step.name, [x], half, begin=half[-1])
    gate = _activated(builder, step, gate, Activation("sigmoid"))
    return builder.add("multiply", step.name, [value, gate], half)


def arithmetic(builder: Builder, step: Step) -> Result:
    if step.function == "pow" and argument(step, 1, "exponent") == 2:
        x = input_of(builder, step)
        return builder.add("multiply", step.name, [x, x], builder.shape(x))
    kind = _JOINS.get(step.function)
    if kind is None:
        raise Refused(step, "it is no step that one native call can run")
    if set(step.node.kwargs) - {"other"} or len(step.node.args) > 2:
        raise Refused(step, "expected a join of two without further arguments")
    one, other = argument(step, 0, "input"), argument(step, 1, "other")
    shape = shape_of(builder, step)
    operands = [builder.operand(step, part, shape) for part in (one, other)]
    return builder.add(kind, step.name, operands, shape)
