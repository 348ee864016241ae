"""Load ``torch.ops.fastmnist`` and give its operators fake kernels.

The operators live in ``_torch`` (LibTorch's stable ABI), next to ``_core``. Fake kernels compute
shapes only; with them the operators work under ``torch.compile`` and ``torch.export``.
"""

from __future__ import annotations

from pathlib import Path

import torch

import fastmnist._core as _core

# Beside _core, which an editable install keeps apart from the Python sources.
torch.ops.load_library(str(Path(_core.__file__).with_name("_torch.so")))


def _same_device(rows: torch.Tensor, other: torch.Tensor | None, name: str = "packed") -> None:
    # A meta tensor among real ones would select the fake kernel and return memory of no value.
    if other is not None and rows.device != other.device:
        raise RuntimeError(
            f"{name}: expected a tensor on '{rows.device}', as the rows are, got '{other.device}'"
        )


def _quantize(x: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    return x.new_empty(x.shape, dtype=torch.uint8)


def _dequantize(q: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    return q.new_empty(q.shape, dtype=torch.float32)


def _linear(codes: torch.Tensor, packed: torch.Tensor, out_features: int) -> torch.Tensor:
    _same_device(codes, packed)
    return codes.new_empty((*codes.shape[:-1], out_features), dtype=torch.float32)


def _linear_u8(
    codes: torch.Tensor, packed: torch.Tensor, out_features: int, scale: float, zero_point: int
) -> torch.Tensor:
    _same_device(codes, packed)
    return codes.new_empty((*codes.shape[:-1], out_features), dtype=torch.uint8)


def _mlp(x: torch.Tensor, packed: torch.Tensor, out_features: int) -> torch.Tensor:
    _same_device(x, packed)
    return x.new_empty((*x.shape[:-1], out_features), dtype=torch.float32)


def _pack_sparse(
    bitmask: torch.Tensor,
    values: torch.Tensor,
    in_features: int,
    weight_scale: torch.Tensor,
    bias: torch.Tensor,
    lo: float,
    hi: float,
    input_scale: float,
    input_zero_point: int,
) -> torch.Tensor:
    # How large depends on where the zeros are.
    size = torch.library.get_ctx().new_dynamic_size()
    return bitmask.new_empty((size,), dtype=torch.uint8)


def _activate(
    x: torch.Tensor, function: int, p0: float = 0.0, p1: float = 0.0, p2: float = 0.0
) -> torch.Tensor:
    return x.new_empty(x.shape)


def _softmax(x: torch.Tensor, log: bool) -> torch.Tensor:
    return x.new_empty(x.shape)


def _layer_norm(
    x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, epsilon: float
) -> torch.Tensor:
    _same_device(x, weight, "weight")
    _same_device(x, bias, "bias")
    return x.new_empty(x.shape)


def _affine(x: torch.Tensor, multiplier: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    _same_device(x, multiplier, "multiplier")
    _same_device(x, offset, "offset")
    return x.new_empty(x.shape)


_ON_CODES = (_quantize, _dequantize, _linear, _linear_u8, _pack_sparse, _mlp)
_ON_FLOATS = (_activate, _softmax, _layer_norm, _affine)
for _fake in (*_ON_CODES, *_ON_FLOATS):
    torch.library.register_fake(f"fastmnist::{_fake.__name__[1:]}", _fake)

mlp = torch.ops.fastmnist.mlp.default
# The same without a Python frame around it; for code that no tracer reads.
mlp_eager = getattr(mlp, "_op", mlp)
activate = torch.ops.fastmnist.activate.default
activate_eager = getattr(activate, "_op", activate)
softmax = torch.ops.fastmnist.softmax.default
softmax_eager = getattr(softmax, "_op", softmax)
layer_norm = torch.ops.fastmnist.layer_norm.default
layer_norm_eager = getattr(layer_norm, "_op", layer_norm)
affine = torch.ops.fastmnist.affine.default
affine_eager = getattr(affine, "_op", affine)
