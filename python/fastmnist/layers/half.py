"""Linear layers, LSTM and GRU that hold 16-bit floats: torch's own kernels, floats in and out.

Sixteen bits are stored. Computed is in them only where that is faster: on a CPU with products of
that type (AVX512_BF16, AMX), and where there is enough to multiply to pay for the conversions. Else
the weights are widened once, and the products are those of float32: on a CPU without such products
torch's bfloat16 takes up to 5 times as long as its float32 in batches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from fastmnist.files.fields import required_field
from fastmnist.int8.network import NO_CLAMP
from fastmnist.layers.batchnorm import check_rows
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.inputs import check_tensor
from fastmnist.layers.recurrent import GATES, checked_shape, recurrent_of, recurrent_shape
from fastmnist.layers.registry import Arrays, Description, array_of, saved
from fastmnist.layers.widened import Widened
from fastmnist.layers.writes import times_written

HALF_TYPES = (torch.bfloat16, torch.float16)
# Multiplications (rows x inputs x outputs) from which native 16-bit products are faster: measured
# on a Xeon with AMX, layers of 784x96 to 1024x1024.
_ENOUGH = 4_000_000


def _has(*names: str) -> bool:
    """Ask torch what the CPU has, and may use; these names are private, so they may go one day."""
    found = [getattr(torch.cpu, n, None) or getattr(torch.ops.mkldnn, n, None) for n in names]
    return all(ask is not None and bool(ask()) for ask in found)


# Whether the CPU multiplies the type itself. A dict, because torch.compile traces no such question.
NATIVE = {
    torch.bfloat16: _has("_is_avx512_bf16_supported", "_is_mkldnn_bf16_supported"),
    torch.float16: _has("_is_amx_fp16_supported", "_is_mkldnn_fp16_supported"),
}


def how_computed(dtype: torch.dtype) -> str:
    """In words, what the products of a layer are; empty where they are of the type itself."""
    if NATIVE[dtype]:
        return ""
    return f"computed in float32: the CPU has no {dtype_name(dtype)} products"


def _is_traced() -> bool:
    return is_compiling() or torch._C._get_tracing_state() is not None


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
        for key in ("weight", "bias"):
            tensor = getattr(layer, key)
            for others in (layer._buffers, layer.__dict__):  # where it may be, and no parameter
                others.pop(key, None)
            half = None if tensor is None else tensor.detach().to(dtype)
            own = None if half is None else nn.Parameter(half, requires_grad=False)
            layer.register_parameter(key, own)
        return layer

    def forward(self, input: Tensor) -> Tensor:
        # Not by attribute: nn.Module's look-up takes longer than a small layer's product.
        own = self.__dict__
        weight, bias = own["_parameters"]["weight"], own["_parameters"]["bias"]
        if not isinstance(input, Tensor):
            check_tensor(input)
        if not input.is_floating_point():
            raise TypeError(f"input: expected floats, got {input.dtype}")
        if own["follows_norm"]:
            check_rows(self.name, input)
        native = NATIVE[weight.dtype] or not weight.is_cpu
        # What is traced or compiled is so for any number of rows, and must keep nothing.
        traced = _is_traced()
        if native and (traced or input.numel() * self.out_features >= _ENOUGH):
            return self.activate(F.linear(input.to(weight.dtype), weight, bias)).float()
        if traced:
            return self.activate(F.linear(input.float(), weight.float(), _floats(bias)))
        wide = own.get("_wide")
        written = times_written(weight, bias)
        if wide is None or wide[0] is not weight or wide[1] is not bias or wide[2] != written:
            # Made once for the numbers as they are. What Widened does, with less to look up.
            made = (weight.detach().float(), _floats(bias))
            wide = own["_wide"] = (weight, bias, written, *made)
        return self.activate(F.linear(input.float(), wide[3], wide[4]))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_wide"}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HalfLinear:
        move_only(self, fn)
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
        self._widened = Widened()
        self.eval()

    def flatten_parameters(self) -> None:
        """Nothing to do: for code that calls it on an LSTM or GRU."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        if not isinstance(input, PackedSequence):
            check_tensor(input)
        owner, dtype = self.inner, self.dtype
        on_cpu = next(owner.parameters()).is_cpu
        if on_cpu and not NATIVE[dtype] and not _is_traced():
            owner = self._widened.get(
                [*owner.parameters()], lambda: copy.deepcopy(self.inner).float()
            )
            dtype = torch.float32
        y, states = owner(_cast(input, dtype), _cast(hx, dtype))
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


def _floats(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().float()


def move_only(module: nn.Module, fn: Callable[[Tensor], Tensor]) -> None:
    """Move the parameters, but never let ``.float()`` make them 32 bits wide again."""
    for key, parameter in module._parameters.items():
        if parameter is not None:
            moved = fn(parameter.detach())
            if moved.dtype != parameter.dtype:
                moved = parameter.detach().to(moved.device)
            module._parameters[key] = nn.Parameter(moved, requires_grad=False)
