"""Operators of one number in, one out, and joins of two: the modules and functions they become."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from fastmnist.int8.activation import Activation, celu, elu, selu
from fastmnist.onnx.building import Building, Rows, clamp_module
from fastmnist.onnx.expressions import Array
from fastmnist.onnx.reading import Node, Unreadable

JOINS: dict[str, Callable[..., Any]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Erf": torch.erf,
}


def _number(array: Array | None, default: float) -> float:
    if array is None:
        return default
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise Unreadable(f"expected one number as a bound, got shape {[*array.shape]}")
    return float(array.reshape(()))


def _clip(node: Node, constants: Sequence[Array | None], opset: int) -> nn.Module:
    for i in (1, 2):
        if node.input(i) and constants[i] is None:
            raise Unreadable(f"expected constant bounds of {node}, got others")
    bounds = [constants[i] if i < len(constants) else None for i in (1, 2)]
    lo = _number(bounds[0], node.attributes.get("min", -math.inf))
    hi = _number(bounds[1], node.attributes.get("max", math.inf))
    if not lo < hi:
        raise Unreadable(f"expected a lower bound below the upper one of {node}, got {lo}, {hi}")
    return nn.Identity() if (lo, hi) == (-math.inf, math.inf) else clamp_module(lo, hi)


def prelu(building: Building, x: Rows, slopes: Array | None, node: Node) -> Rows:
    """A slope for each number below 0; one for all, or for each channel, torch has modules for."""
    if slopes is None or slopes.dtype.kind != "f":
        raise Unreadable(f"expected constant slopes of {node}, got none")
    if slopes.size == 1:
        return building.layer(nn.LeakyReLU(float(slopes.reshape(()))), x, x.shape, "prelu")
    own = slopes[0] if slopes.ndim == len(x.shape) + 1 and len(slopes) == 1 else slopes
    if own.ndim > len(x.shape) or np.broadcast_shapes(own.shape, x.shape) != x.shape:
        raise Unreadable(f"expected slopes of {node} that fit rows {[*x.shape]}")
    spread = np.broadcast_to(own, x.shape).reshape(x.shape[0], -1)
    if (spread == spread[:, :1]).all():
        module = nn.PReLU(1)
        module.num_parameters = x.shape[0]
        module.weight = nn.Parameter(torch.from_numpy(np.array(spread[:, 0], np.float32)))
        return building.layer(module, x, x.shape, "prelu")
    above = building.call(torch.clamp_min, x, 0.0, shape=x.shape)
    below = building.call(torch.clamp_max, x, 0.0, shape=x.shape)
    table = building.constant(np.ascontiguousarray(np.broadcast_to(own, x.shape)), "slopes")
    below = building.call(torch.mul, below, table, shape=x.shape)
    return building.call(torch.add, above, below, shape=x.shape)


def _softmax(cls: type[nn.Softmax] | type[nn.LogSoftmax]) -> Callable[..., nn.Module]:
    def made(node: Node, constants: Sequence[Array | None], opset: int) -> nn.Module:
        # Before 13 all dimensions from the axis on were one; of rows of numbers that is the same.
        axis = node.attributes.get("axis", -1 if opset >= 13 else 1)
        if axis == 0:
            raise Unreadable(f"expected an axis of the rows' own of {node}, got 0")
        return cls(dim=axis)

    return made


def _hardsigmoid(node: Node, constants: Sequence[Array | None], opset: int) -> nn.Module:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    if abs(alpha - 1 / 6) > 1e-6 or beta != 0.5:
        raise Unreadable(
            f"expected alpha 1/6 and beta 1/2 of {node}, as torch has them, got {alpha:g}, {beta:g}"
        )
    return nn.Hardsigmoid()


def _activation(name: str) -> Callable[..., Any]:
    def made(node: Node, constants: Sequence[Array | None], opset: int) -> nn.Module | None:
        return torch_module(_OF[name](node.attributes))

    return made


def _gelu(attributes: Any) -> Activation:
    known = {"none": "gelu", "tanh": "gelu_tanh"}
    return Activation(known[attributes.get("approximate", "none")])


def _selu(attributes: Any) -> Activation:
    alpha, gamma = attributes.get("alpha", 1.67326319), attributes.get("gamma", 1.05070102)
    known = selu().parameters
    if abs(gamma - known[0]) < 1e-6 and abs(alpha * gamma - known[1]) < 1e-6:
        return selu()
    raise ValueError("path: expected Selu with its own alpha and gamma, got others")


_OF: dict[str, Callable[[Any], Activation]] = {
    "LeakyRelu": lambda a: Activation("leaky_relu", (a.get("alpha", 0.01), 0.0, 0.0)),
    "Elu": lambda a: elu(a.get("alpha", 1.0)),
    "Celu": lambda a: celu(a.get("alpha", 1.0)),
    "Selu": _selu,
    "Gelu": _gelu,
}
_MODULES: dict[str, Callable[..., Any]] = {
    "Relu": lambda *_: nn.ReLU(),
    "Clip": _clip,
    "Softmax": _softmax(nn.Softmax),
    "LogSoftmax": _softmax(nn.LogSoftmax),
    "HardSigmoid": _hardsigmoid,
    "HardSwish": lambda *_: nn.Hardswish(),
    "Mish": lambda *_: nn.Mish(),
    "Sigmoid": lambda *_: nn.Sigmoid(),
    "Tanh": lambda *_: nn.Tanh(),
    "Softplus": lambda *_: nn.Softplus(),
    "Softsign": lambda *_: nn.Softsign(),
    **{name: _activation(name) for name in _OF},
}


def module_of(node: Node, constants: Sequence[Array | None], opset: int) -> nn.Module | None:
    """The module that an operator is; None where it is none of these."""
    make = _MODULES.get(node.kind)
    made: nn.Module | None = None if make is None else make(node, constants, opset)
    return made


def torch_module(function: Activation) -> nn.Module | None:
    """The module of torch's that computes an activation; None where there is none."""
    p0, p1, p2 = function.parameters
    name = function.name
    if name == "elu":
        if function == selu():
            return nn.SELU()
        if (p0, p2) == (1.0, 1.0):
            return nn.ELU(p1)
        return nn.CELU(p1) if function == celu(p1) else None
    plain: dict[str, Callable[[], nn.Module]] = {
        "leaky_relu": lambda: nn.LeakyReLU(p0),
        "gelu": nn.GELU,
        "gelu_tanh": lambda: nn.GELU("tanh"),
        "silu": nn.SiLU,
        "mish": nn.Mish,
        "hardswish": nn.Hardswish,
        "hardsigmoid": nn.Hardsigmoid,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "softplus": lambda: nn.Softplus(p0, p1),
        "log_sigmoid": nn.LogSigmoid,
        "softsign": nn.Softsign,
    }
    return plain[name]()


def activation_module(
    building: Building, x: Rows, name: str, parameters: tuple[float, float, float]
) -> Rows:
    """Put an activation behind rows."""
    p0, p1, p2 = Activation(name, parameters).parameters
    module = torch_module(Activation(name, (p0, p1, p2)))
    if module is not None:
        return building.layer(module, x, x.shape, name)
    # An ELU with factors of its own: torch has a function of three, which writes into its input.
    if p0 == 0:
        raise Unreadable(f"expected a factor of positive values of ELU other than 0, got {p0}")
    copy = building.method("clone", x, shape=x.shape)
    return building.call(torch._C._nn.elu_, copy, p1 / p0, p0, p2, shape=x.shape)
