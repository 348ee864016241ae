"""Clamps and activations as ONNX operators, or as formulas of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmnist.int8.activation import Activation, selu
from fastmnist.int8.network import NO_CLAMP
from fastmnist.onnx.formulas import ACTIVATIONS
from fastmnist.onnx.writer import Writer

# By name: the operator, since which opset there is one, and its attributes.
_OPERATORS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "gelu": ("Gelu", 20, {"approximate": "none"}),
    "gelu_tanh": ("Gelu", 20, {"approximate": "tanh"}),
    "mish": ("Mish", 18, {}),
    "hardswish": ("HardSwish", 14, {}),
    "hardsigmoid": ("HardSigmoid", 6, {"alpha": 1 / 6, "beta": 0.5}),
    "sigmoid": ("Sigmoid", 13, {}),
    "tanh": ("Tanh", 13, {}),
    "softsign": ("Softsign", 1, {}),
}


def write_clamp(writer: Writer, x: str, clamp: tuple[float, float], name: str) -> str:
    """Write a clamp; nothing where there is none."""
    if clamp == NO_CLAMP:
        return x
    if clamp == (0.0, math.inf):
        return writer.node("Relu", [x], name)
    bounds = [writer.number(bound) if math.isfinite(bound) else "" for bound in clamp]
    return writer.node("Clip", [x, *bounds], name)


def write_activation(writer: Writer, x: str, function: Activation | None, name: str) -> str:
    """Write an activation; nothing where there is none."""
    if function is None:
        return x
    found = _operator_of(function)
    if found is not None and writer.opset >= found[1]:
        kind, _, attributes = found
        return writer.node(kind, [x], name, **attributes)
    p0, p1, p2 = (np.float32(p) for p in function.parameters)
    filled = {"x": x, "p0": p0, "p1": p1, "p2": p2}
    return writer.formula(ACTIVATIONS[function.name][0], filled, name)


def _operator_of(function: Activation) -> tuple[str, int, dict[str, Any]] | None:
    """The operator that computes just this, since when there is one, and its attributes."""
    p0, p1, p2 = function.parameters
    if function.name == "leaky_relu":
        return "LeakyRelu", 6, {"alpha": p0}
    if function.name == "softplus" and (p0, p1) == (1.0, 20.0):
        return "Softplus", 1, {}  # beyond 20 float32 cannot tell it from x itself
    if function.name == "elu":
        if function == selu():
            return "Selu", 6, {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}
        if p0 == 1.0 and p2 == 1.0:
            return "Elu", 6, {"alpha": p1}
        if p0 == 1.0 and np.float32(1 / p1 if p1 else 0.0) == np.float32(p2) and p1 > 0:
            return "Celu", 12, {"alpha": p1}
        return None
    return _OPERATORS.get(function.name)
