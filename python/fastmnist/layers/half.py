"""Linear layers, LSTM and GRU in a 16-bit float type: torch's own kernels, floats in and out.

Inside a chain of layers values are handed over in 16 bits; what leaves it is float32 again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from fastmnist.files.fields import field
from fastmnist.int8.network import NO_CLAMP
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.recurrent import checked_shape, recurrent_shape

HALF_TYPES = (torch.bfloat16, torch.float16)


class HalfLinear(FusedLinear):
    """A Linear(+activation) whose weights and products are 16-bit floats.

    Attributes
    ----------
    hands_over : bool
        Whether its outputs stay in 16 bits, because only layers like it read them.
    """

    hands_over: bool

    @classmethod
    def convert(cls, layer: nn.Linear, dtype: torch.dtype, hands_over: bool) -> HalfLinear:
        """Make `layer` itself one."""
        if not isinstance(layer, FusedLinear):
            FusedLinear.of(layer, NO_CLAMP)
        layer.__class__ = cls
        assert isinstance(layer, HalfLinear)
        layer.hands_over = hands_over
        for key, parameter in layer._parameters.items():
            if parameter is not None:
                own = parameter.detach().to(dtype)
                layer._parameters[key] = nn.Parameter(own, requires_grad=False)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        if not input.is_floating_point():
            raise TypeError(f"input: expected floats, got {input.dtype}")
        y = self.activate(F.linear(input.to(self.weight.dtype), self.weight, self.bias))
        return y if self.hands_over else y.float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HalfLinear:
        _move(self, fn)
        return self

    def half_description(self) -> dict[str, Any]:
        """What a file has to tell of it besides its clamp, as plain JSON."""
        return {"dtype": _name(self.weight.dtype), "hands_over": self.hands_over}

    @classmethod
    def rebuilt(cls, fused: FusedLinear, description: Any) -> HalfLinear:
        """Make `fused` what :meth:`half_description` tells of."""
        hands_over = description.get("hands_over") is True
        return cls.convert(fused, _dtype(description), hands_over)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {_name(self.weight.dtype)}"


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

    def description(self) -> dict[str, Any]:
        """What a file has to tell besides the numbers, as plain JSON."""
        return {"dtype": _name(self.dtype), **recurrent_shape(self.inner)}

    @classmethod
    def rebuilt(cls, description: Any, prefix: str, arrays: Mapping[str, Any]) -> HalfRecurrent:
        """Make it as described; its numbers are loaded later."""
        shape = checked_shape(description)
        first = arrays.get(f"{prefix}inner.weight_ih_l0")
        gates = 4 if shape["mode"] == "LSTM" else 3
        wanted = (gates * shape["hidden_size"], shape["input_size"])
        # Checked before it is made: a file must not make us allocate what it does not hold.
        if first is None or first.shape != wanted:
            raise ValueError(f"tensor '{prefix}inner.weight_ih_l0': expected shape {[*wanted]}")
        if f"{prefix}inner.weight_ih_l{shape['num_layers'] - 1}" not in arrays:
            raise ValueError(f"num_layers: expected tensors of {shape['num_layers']} layers")
        mode = shape.pop("mode")
        owner: nn.RNNBase = nn.LSTM(**shape) if mode == "LSTM" else nn.GRU(**shape)
        return cls(owner, _dtype(description))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HalfRecurrent:
        moved = next(iter(self.inner.parameters()))
        device = fn(moved.detach()).device
        if device != moved.device:
            self.inner.to(device)
        return self


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(description: Any) -> torch.dtype:
    names = {_name(dtype): dtype for dtype in HALF_TYPES}
    name = field(description, "dtype", str)
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
