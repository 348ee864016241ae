"""Which modules are Linear layers in float, and whose arithmetic we know.

Every layer that quantizing leaves is an ``nn.Linear``, so that a model's own code goes on: what
tells float from int8 is this, never ``isinstance``.
"""

from __future__ import annotations

from typing import TypeGuard

from torch import nn

from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.own_forward import is_forward_of_torch
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.simulated import SimulatedLinear


def is_float_linear(module: nn.Module | None) -> TypeGuard[nn.Linear]:
    """Whether the module is a Linear, of any subclass, that holds float weights."""
    return isinstance(module, nn.Linear) and not is_int8_linear(module)


def is_int8_linear(module: nn.Module | None) -> TypeGuard[QuantizedLinear]:
    """Whether the module is a Linear that was quantized to int8."""
    return isinstance(module, QuantizedLinear)


def is_known_linear(module: nn.Module | None) -> TypeGuard[nn.Linear]:
    """Whether it is one whose arithmetic we know: no subclass or instance with its own."""
    known = type(module) in (nn.Linear, FusedLinear, SimulatedLinear)
    return known and "forward" not in vars(module) and is_forward_of_torch(nn.Linear)
