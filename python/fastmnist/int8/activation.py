"""Activations beyond clamps: one number in, one out, the same for every neuron.

What each computes, operation by operation in float32, says ``int8/reference_functions.py``; the
numbers are those of ``Function`` in ``csrc/core/floats.h``, which knows what parameters mean:
``leaky_relu`` has its slope, ``softplus`` beta and threshold, ``elu`` the factors of positive
values, of ``expm1`` and of its argument, so that it is SELU and CELU, too.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# By name: the number of `Function`, what people call it, and how many parameters it has.
FUNCTIONS: dict[str, tuple[int, str, int]] = {
    "leaky_relu": (1, "LeakyReLU", 1),
    "elu": (2, "ELU", 3),
    "gelu": (3, "GELU", 0),
    "gelu_tanh": (4, "GELU(tanh)", 0),
    "silu": (5, "SiLU", 0),
    "mish": (6, "Mish", 0),
    "hardswish": (7, "Hardswish", 0),
    "hardsigmoid": (8, "Hardsigmoid", 0),
    "sigmoid": (9, "Sigmoid", 0),
    "tanh": (10, "Tanh", 0),
    "softplus": (11, "Softplus", 2),
    "log_sigmoid": (12, "LogSigmoid", 0),
    "softsign": (13, "Softsign", 0),
}
NAMES = tuple(FUNCTIONS)
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _float32(name: str, value: object) -> float:
    """Round to float32, which is what kernels compute with: so files bring back what was saved."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"parameters: expected three finite numbers for {name}, got {value!r}")
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        raise ValueError(
            f"parameters: expected numbers that float32 holds for {name}, got {value!r}"
        ) from None


@dataclass(frozen=True)
class Activation:
    """A function of one number.

    Attributes
    ----------
    name : str
        One of ``NAMES``.
    parameters : (float, float, float)
        Rounded to float32; zeros where the function has fewer.
    """

    name: str
    parameters: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.name not in FUNCTIONS:
            raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {self.name!r}")
        if len(self.parameters) != 3:
            raise ValueError(
                f"parameters: expected three finite numbers for {self.name}, "
                f"got {len(self.parameters)}"
            )
        p0, p1, p2 = (_float32(self.name, value) for value in self.parameters)
        count = FUNCTIONS[self.name][2]
        if any((p0, p1, p2)[count:]):
            raise ValueError(
                f"parameters: expected zeros behind the {count} of {self.name}, "
                f"got {self.parameters}"
            )
        if self.name == "softplus" and p0 == 0:
            raise ValueError("parameters: expected a beta of softplus other than 0, got 0")
        if self.name == "elu" and not p2 > 0:
            raise ValueError(
                f"parameters: expected a positive factor of elu's argument, the third, got {p2}"
            )
        object.__setattr__(self, "parameters", (p0, p1, p2))

    @property
    def number(self) -> int:
        """What ``csrc/core/floats.h`` calls it."""
        return FUNCTIONS[self.name][0]

    @property
    def arguments(self) -> tuple[float, ...]:
        """What ``torch.ops.fastmnist.activate`` takes behind its input, the number first.

        As few as will do, because each takes the call time.
        """
        number, _, count = FUNCTIONS[self.name]
        return (number, *self.parameters[:count])

    @property
    def title(self) -> str:
        """How people write it: ``GELU``, ``LeakyReLU(0.1)``, ``ELU(1)``."""
        word = FUNCTIONS[self.name][1]
        p0, p1, p2 = self.parameters
        if self.name == "elu":
            if self == selu():
                return "SELU"
            if p0 != 1:
                return f"ELU({p0:.7g}, {p1:.7g}, {p2:.7g})"
            return f"ELU({p1:.7g})" if p2 == 1 else f"CELU({p1:.7g})"
        if self.name == "softplus":
            return word if (p0, p1) == (1, 20) else f"Softplus({p0:.7g}, {p1:.7g})"
        return f"LeakyReLU({p0:.7g})" if self.name == "leaky_relu" else word

    def to_json(self) -> dict[str, Any]:
        """Give it as plain values for a description in JSON."""
        count = FUNCTIONS[self.name][2]
        fields: dict[str, Any] = {"name": self.name}
        return {**fields, "parameters": list(self.parameters[:count])} if count else fields

    @classmethod
    def from_json(cls, value: object) -> Activation:
        """Read what :meth:`to_json` gave, trusting nothing.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError(f"activation: expected an object with a name, got {value!r}")
        name, parameters = value["name"], value.get("parameters", [])
        if unknown := set(value) - {"name", "parameters"}:
            raise ValueError(f"activation: expected name and parameters, got {sorted(unknown)}")
        if name not in FUNCTIONS:
            raise ValueError(f"activation: expected one of {', '.join(NAMES)}, got {name!r}")
        count = FUNCTIONS[name][2]
        if not isinstance(parameters, list | tuple) or len(parameters) != count:
            raise ValueError(
                f"activation: expected {count} parameters of {name}, got {parameters!r}"
            )
        return cls(name, (*parameters, *(0.0,) * (3 - count)))


def elu(alpha: float = 1.0) -> Activation:
    """Give ELU."""
    return Activation("elu", (1.0, alpha, 1.0))


def celu(alpha: float = 1.0) -> Activation:
    """Give CELU, whose argument of ``expm1`` is divided by `alpha`."""
    return Activation("elu", (1.0, alpha, 1.0 / alpha))


def selu() -> Activation:
    """Give SELU."""
    return Activation("elu", (SELU_SCALE, SELU_SCALE * SELU_ALPHA, 1.0))
