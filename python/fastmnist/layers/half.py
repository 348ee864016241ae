"""Linear layers, LSTM and GRU in a 16-bit float type: torch's own kernels, floats in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from fastmnist.files.fields import required_field
from fastmnist.int8.network import NO_CLAMP
from fastmnist.layers.batchnorm import check_rows
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.recurrent import GATES, checked_shape, recurrent_of, recurrent_shape
from fastmnist.layers.registry import Arrays, Description, array_of, saved

HALF_TYPES = (torch.bfloat16, torch.float16)


@saved("half", is_frozen=True)
class HalfLinear(FusedLinear):
    """A Linear(+activation) whose weights and products are 16-bit floats; float32 leaves it."""

    @classmethod
    def convert(cls, layer: nn.Linear, dtype: torch.dtype) -> HalfLinear:
        """Make `layer` itself one."""
        if not isinstance(layer, FusedLinear):
            FusedLinear.of(layer, NO_CLAMP)
        layer.__class__ = cls
        assert isinstance(layer, HalfLinear)
        for key, parameter in layer._parameters.items():
            if parameter is not None:
                own = parameter.detach().to(dtype)
                layer._parameters[key] = nn.Parameter(own, requires_grad=False)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        if not input.is_floating_point():
            raise TypeError(f"input: expected floats, got {input.dtype}")
        if self.follows_norm:
            check_rows(self.name, input)
        y = F.linear(input.to(self.weight.dtype), self.weight, self.bias)
        return self.activate(y).float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HalfLinear:
        _move(self, fn)
        return self

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        return {**super().describe(), "type": "half", "dtype": dtype_name(self.weight.dtype)}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> HalfLinear:
        """Make one as described; its numbers are loaded later."""
        return cls.convert(super().rebuild(description, prefix, arrays), _dtype(description))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {dtype_name(self.weight.dtype)}"


@saved("half_recurrent", is_frozen=True)
class HalfRecurrent(nn.Module):
    """An LSTM or GRU in a 16-bit float type, floats in and out."""

    def __init__(self, owner: nn.RNNBase, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.inner = owner.to(dtype).requires_grad_(False)
        for name, value in recurrent_shape(owner).items():
            setattr(self, name, value)
        self.proj_size = owner.proj_size
        self.eval()

    def flatten_parameters(self) -> None:
        """Nothing to do: for code that calls it on an LSTM or GRU."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        y, states = self.inner(_cast(input, self.dtype), _cast(hx, self.dtype))
        return _cast(y, torch.float32), _cast(states, torch.float32)

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        shape = recurrent_shape(self.inner)
        return {"type": "half_recurrent", "dtype": dtype_name(self.dtype), **shape}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> HalfRecurrent:
        """Make it as described; its numbers are loaded later."""
        shape = checked_shape(description)
        wanted = (GATES[shape["mode"]] * shape["hidden_size"], shape["input_size"])
        array_of(arrays, f"{prefix}inner.weight_ih_l0", wanted)
        if f"{prefix}inner.weight_ih_l{shape['num_layers'] - 1}" not in arrays:
            raise ValueError(f"num_layers: expected tensors of {shape['num_layers']} layers")
        return cls(recurrent_of(shape), _dtype(description))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HalfRecurrent:
        moved = next(iter(self.inner.parameters()))
        device = fn(moved.detach()).device
        if device != moved.device:
            self.inner.to(device)
        return self


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(description: Any) -> torch.dtype:
    names = {dtype_name(dtype): dtype for dtype in HALF_TYPES}
    name = required_field(description, "dtype", str)
    if name not in names:
        raise ValueError(f"dtype: expected one of {', '.join(names)}, got '{name}'")
    return names[name]


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, PackedSequence | Tensor):
        return value.to(dtype)
    if isinstance(value, tuple | list):
        return tuple(_cast(part, dtype) for part in value)
    return value


def _move(module: nn.Module, fn: Callable[[Tensor], Tensor]) -> None:
    """Move the parameters, but never let ``.float()`` make them 32 bits wide again."""
    for key, parameter in module._parameters.items():
        if parameter is not None:
            moved = fn(parameter.detach())
            if moved.dtype != parameter.dtype:
                moved = parameter.detach().to(moved.device)
            module._parameters[key] = nn.Parameter(moved, requires_grad=False)
