"""Which of torch's modules and functions are activations that kernels compute, and which one.

Only what torch's own code computes counts: no subclass, no patched forward, no parameter that is
not a plain number where it is called. Everything else is None, and stays torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fastmnist.int8.activation import Activation, celu, elu, selu
from fastmnist.layers.own_forward import has_own_forward

Number = int | float


def _leaky_relu(negative_slope: float = 0.01) -> Activation:
    return Activation("leaky_relu", (negative_slope, 0.0, 0.0))


def _elu(alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Activation:
    return Activation("elu", (scale, scale * alpha, input_scale))


def _gelu(approximate: str = "none") -> Activation | None:
    name = {"none": "gelu", "tanh": "gelu_tanh"}.get(approximate)
    return Activation(name) if name else None


def _softplus(beta: float = 1.0, threshold: float = 20.0) -> Activation:
    return Activation("softplus", (beta, threshold, 0.0))


def _prelu(module: nn.PReLU) -> Activation | None:
    return _leaky_relu(float(module.weight.detach())) if module.num_parameters == 1 else None


_OF_MODULES: dict[type[nn.Module], Callable[[Any], Activation | None]] = {
    nn.LeakyReLU: lambda m: _leaky_relu(m.negative_slope),
    nn.PReLU: _prelu,
    nn.ELU: lambda m: elu(m.alpha),
    nn.CELU: lambda m: celu(m.alpha),
    nn.SELU: lambda m: selu(),
    nn.GELU: lambda m: _gelu(m.approximate),
    nn.SiLU: lambda m: Activation("silu"),
    nn.Mish: lambda m: Activation("mish"),
    nn.Hardswish: lambda m: Activation("hardswish"),
    nn.Hardsigmoid: lambda m: Activation("hardsigmoid"),
    nn.Sigmoid: lambda m: Activation("sigmoid"),
    nn.Tanh: lambda m: Activation("tanh"),
    nn.Softplus: lambda m: _softplus(m.beta, m.threshold),
    nn.LogSigmoid: lambda m: Activation("log_sigmoid"),
    nn.Softsign: lambda m: Activation("softsign"),
}


def activation_of(module: nn.Module | None) -> Activation | None:
    """The activation that a module of torch's, or a native one in its place, is; or None."""
    if module is None or has_own_forward(module):
        return None
    made = _OF_MODULES.get(getattr(module, "torch_class", type(module)))
    return None if made is None else _if_known(made, module)


def _if_known(made: Callable[..., Activation | None], *arguments: Any) -> Activation | None:
    """Make it, or None where its parameters are none that kernels compute with."""
    try:
        return made(*arguments)
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        return None


def _plain(name: str) -> Callable[[], Activation]:
    return lambda: Activation(name)


# By bare name: the parameters behind the input, in order, and what is made of them.
_SIGNATURES: dict[str, tuple[tuple[str, ...], Callable[..., Activation | None]]] = {
    "leaky_relu": (("negative_slope", "inplace"), _leaky_relu),
    "leaky_relu_": (("negative_slope",), _leaky_relu),
    "elu": (("alpha", "inplace"), elu),
    "elu_": (("alpha", "scale", "input_scale"), _elu),
    "celu": (("alpha", "inplace"), celu),
    "celu_": (("alpha",), celu),
    "selu": (("inplace",), selu),
    "selu_": ((), selu),
    "gelu": (("approximate",), _gelu),
    "softplus": (("beta", "threshold"), _softplus),
    "logsigmoid": ((), _plain("log_sigmoid")),
    **{name: (("inplace",), _plain(name)) for name in ("silu", "mish", "hardswish")},
    "hardsigmoid": (("inplace",), _plain("hardsigmoid")),
    **{name: ((), _plain(name.rstrip("_"))) for name in ("sigmoid", "sigmoid_", "tanh", "tanh_")},
    "softsign": ((), _plain("softsign")),
}
_FUNCTIONS: dict[Any, str] = {
    getattr(room, name): name for room in (torch, F) for name in _SIGNATURES if hasattr(room, name)
} | {torch.special.expit: "sigmoid"}
_METHODS = {name for name in _SIGNATURES if hasattr(torch.Tensor, name)}


def activation_of_call(node: fx.Node) -> Activation | None:
    """The activation that a call of a function or a method is, or None."""
    if node.op == "call_method":
        name = str(node.target) if node.target in _METHODS else None
    else:
        name = _FUNCTIONS.get(node.target) if node.op == "call_function" else None
    if name is None:
        return None
    names, made = _SIGNATURES[name]
    given: dict[str, Any] = {**dict(zip(("input", *names), node.args, strict=False)), **node.kwargs}
    if len(node.args) > 1 + len(names) or set(given) - {"input", *names}:
        return None
    given.pop("input", None)
    inplace = given.pop("inplace", False)
    plain = all(isinstance(value, Number | str) for value in given.values())
    if not plain or not isinstance(inplace, bool):
        return None
    return _if_known(lambda: made(**given))


def _torchs_elu(p0: float, p1: float, p2: float) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.where(x > 0, p0 * x, p1 * torch.expm1(p2 * x.clamp(max=0)))


# By name of an Activation: the same of torch's, with gradients, for its parameters.
_TORCHS: dict[str, Callable[[float, float, float], Callable[[Tensor], Tensor]]] = {
    "leaky_relu": lambda slope, _, __: lambda x: F.leaky_relu(x, slope),
    "elu": _torchs_elu,
    "gelu": lambda *_: F.gelu,
    "gelu_tanh": lambda *_: lambda x: F.gelu(x, approximate="tanh"),
    "silu": lambda *_: F.silu,
    "mish": lambda *_: F.mish,
    "hardswish": lambda *_: F.hardswish,
    "hardsigmoid": lambda *_: F.hardsigmoid,
    "sigmoid": lambda *_: torch.sigmoid,
    "tanh": lambda *_: torch.tanh,
    "softplus": lambda beta, threshold, _: lambda x: F.softplus(x, beta, threshold),
    "log_sigmoid": lambda *_: F.logsigmoid,
    "softsign": lambda *_: F.softsign,
}


def torchs(function: Activation) -> Callable[[Tensor], Tensor]:
    """The function as torch computes it, with a gradient."""
    return _TORCHS[function.name](*function.parameters)
