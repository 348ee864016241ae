"""Layers whose weights are kept in 16 bits while all that they compute is float32.

What torch.ao calls dynamic float16: half the size on disk, and activations of any float32 size. The
weights are widened once, when they are first used or were changed, not on every call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling
from torch.nn import functional as F

from fastmnist.files.fields import required_field
from fastmnist.int8.network import NO_CLAMP
from fastmnist.layers.batchnorm import check_rows
from fastmnist.layers.cells import CELLS
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.half import move_only
from fastmnist.layers.recurrent import (
    GATES,
    checked_shape,
    recurrent_of,
    recurrent_shape,
)
from fastmnist.layers.registry import Arrays, Description, array_of, saved
from fastmnist.layers.widened import Widened


@saved("half_weights", is_frozen=True)
class HalfWeightLinear(FusedLinear):
    """A Linear(+activation) whose weight is float16; bias, products and activations float32."""

    widened: Widened

    @classmethod
    def convert(cls, layer: nn.Linear) -> HalfWeightLinear:
        """Make `layer` itself one."""
        if not isinstance(layer, FusedLinear):
            FusedLinear.of(layer, NO_CLAMP)
        layer.__class__ = cls
        assert isinstance(layer, HalfWeightLinear)
        weight, bias = layer.weight.detach().half(), layer.bias
        layer.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().float(), requires_grad=False)
        layer.widened = Widened()
        return layer

    def forward(self, input: Tensor) -> Tensor:
        if not input.is_floating_point():
            raise TypeError(f"input: expected floats, got {input.dtype}")
        if self.follows_norm:
            check_rows(self.name, input)
        is_traced = is_dynamo_compiling() or type(self.weight) is not nn.Parameter
        weight = (
            self.weight.float()
            if is_traced
            else self.widened.get([self.weight], lambda: self.weight.detach().float())
        )
        return self.activate(F.linear(input.float(), weight, self.bias))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HalfWeightLinear:
        move_only(self, fn)
        return self

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        return {**super().describe(), "type": "half_weights"}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> HalfWeightLinear:
        """Make one as described; its numbers are loaded later."""
        return cls.convert(super().rebuild(description, prefix, arrays))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, float16 weights"


@saved("half_weights_recurrent", is_frozen=True)
class HalfWeightRecurrent(nn.Module):
    """An LSTM, GRU, RNN or cell of those whose weights are float16, and all else float32."""

    def __init__(self, owner: nn.RNNBase | nn.RNNCellBase) -> None:
        super().__init__()
        self.inner = owner.half().requires_grad_(False)
        self.widened = Widened()
        for name, value in _shape(owner).items():
            setattr(self, name, value)
        self.eval()

    def flatten_parameters(self) -> None:
        """Nothing to do: for code that calls it on an LSTM or GRU."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        make: Callable[[], nn.Module] = lambda: copy.deepcopy(self.inner).float().eval()  # noqa: E731
        wide = self.widened.get([*self.inner.parameters()], make)
        return wide(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HalfWeightRecurrent:
        move_only(self.inner, fn)
        return self

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        return {"type": "half_weights_recurrent", **_shape(self.inner)}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> HalfWeightRecurrent:
        """Make it as described; its numbers are loaded later."""
        cells = {kind.__name__: kind for kind in CELLS}
        name = description.get("cell")
        if name is None:
            shape = checked_shape(description)
            gates, part = GATES[shape["mode"]], "ih_l0"
            if f"{prefix}inner.weight_ih_l{shape['num_layers'] - 1}" not in arrays:
                raise ValueError(f"num_layers: expected tensors of {shape['num_layers']} layers")
        else:
            if name not in cells:
                raise ValueError(f"cell: expected one of {', '.join(cells)}, got '{name}'")
            shape = {k: required_field(description, k, int) for k in ("input_size", "hidden_size")}
            shape["bias"] = required_field(description, "bias", bool)
            gates, part = {"LSTMCell": 4, "GRUCell": 3, "RNNCell": 1}[name], "ih"
        # Asked before a layer is made: a file must not make us allocate what it does not hold.
        wanted = (gates * shape["hidden_size"], shape["input_size"])
        array_of(arrays, f"{prefix}inner.weight_{part}", wanted)
        if name == "RNNCell":
            shape["nonlinearity"] = required_field(description, "nonlinearity", str)
        return cls(recurrent_of(shape) if name is None else cells[name](**shape))


def _shape(owner: nn.Module) -> dict[str, Any]:
    if isinstance(owner, nn.RNNBase):
        return recurrent_shape(owner)
    assert isinstance(owner, nn.RNNCellBase)
    shape = {
        "cell": type(owner).__name__,
        "input_size": owner.input_size,
        "hidden_size": owner.hidden_size,
        "bias": owner.bias,
    }
    return shape | ({"nonlinearity": owner.nonlinearity} if isinstance(owner, nn.RNNCell) else {})
