"""Norms of a file: what scales rows by constants is a BatchNorm1d, as transforms fold these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from fastmnist.onnx.building import Building, Rows
from fastmnist.onnx.expressions import Array
from fastmnist.onnx.matching import Found
from fastmnist.onnx.reading import Node, Unreadable


def batch_norm(building: Building, x: Rows, arrays: Sequence[Array], node: Node) -> Rows:
    """A BatchNormalization with its statistics."""
    if node.attributes.get("training_mode", 0):
        raise Unreadable(f"expected {node} as after training, got training_mode=1")
    channels = x.shape[0] if x.shape else 0
    fits = all(a.shape == (channels,) and a.dtype.kind == "f" for a in arrays)
    if len(x.shape) not in (1, 2) or not fits:
        raise Unreadable(
            f"expected {node} of rows of features, or of channels of these, got {[*x.shape]}"
        )
    gain, shift, mean, variance = arrays
    module = _norm_of(gain, shift, mean, variance, float(node.attributes.get("epsilon", 1e-5)))
    return building.layer(module, x, x.shape, node.name or "norm")


def _norm_of(gain: Array, shift: Array, mean: Array, variance: Array, eps: float) -> nn.Module:
    module = nn.BatchNorm1d(1, eps=eps)
    module.num_features = len(gain)
    tensors = [torch.from_numpy(np.array(a, np.float32)) for a in (gain, shift, mean, variance)]
    module.weight, module.bias = nn.Parameter(tensors[0]), nn.Parameter(tensors[1])
    module.running_mean, module.running_var = tensors[2], tensors[3]
    return module


def scaled(building: Building, x: Rows, found: Found) -> Rows:
    """Rows times a constant plus another, or less a mean and divided by a deviation."""
    filled = found.filled
    arrays: list[Any] = [filled[key] for key in filled if key not in ("x",)]
    numbers = all(array.dtype.kind == "f" for array in arrays)
    if not numbers:
        raise Unreadable(f"expected floats as constants of {found.node}, got others")
    channels = x.shape[0] if len(x.shape) in (1, 2) else 0
    spread = [_by_channel(array, x.shape) for array in arrays]
    if (
        channels
        and all(s is not None for s in spread)
        and (channels == 1 or max(a.size for a in arrays) > 1)
    ):
        named = dict(zip((key for key in filled if key != "x"), spread, strict=True))
        gain, shift = _gain_and_shift(named)
        zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        if np.isfinite(gain).all() and np.isfinite(shift).all():
            module = _norm_of(gain, shift, zeros, ones, 0.0)
            return building.layer(module, x, x.shape, "norm")
    return _step_by_step(building, x, filled, found.node)


def _gain_and_shift(named: Mapping[str, Any]) -> tuple[Array, Array]:
    """As float32, computed in float64 where there is something to compute."""
    if "gain" in named:
        return named["gain"], named["shift"]
    mean = named["mean"].astype(np.float64)
    with np.errstate(all="ignore"):
        gain = (
            named["factor"].astype(np.float64)
            if "factor" in named
            else 1 / named["deviation"].astype(np.float64)
        )
        return gain.astype(np.float32), (-mean * gain).astype(np.float32)


def _by_channel(array: Array, shape: tuple[int, ...]) -> Array | None:
    """A constant as one number for each of the first dimension of rows; None if it is another."""
    if array.ndim > len(shape) + 1 or (array.ndim == len(shape) + 1 and array.shape[0] != 1):
        return None
    own = array[0] if array.ndim == len(shape) + 1 else array
    try:
        spread = np.broadcast_to(own, shape)
    except ValueError:
        return None
    first = spread.reshape(shape[0], -1)
    same: bool = bool((first == first[:, :1]).all())
    return np.ascontiguousarray(first[:, 0], np.float32) if same else None


def _step_by_step(building: Building, x: Rows, filled: Mapping[str, Any], node: Node) -> Rows:
    steps: dict[str, Any] = {
        "gain": torch.mul, "shift": torch.add, "mean": torch.sub, "factor": torch.mul,
        "deviation": torch.div,
    }  # fmt: skip
    for key in steps:  # in this order
        if key not in filled:
            continue
        array = filled[key]
        wide = array.ndim == len(x.shape) + 1 and array.shape[0] == 1
        fits = array.ndim <= len(x.shape) or wide
        if not fits or np.broadcast_shapes(array.shape[1:] if wide else array.shape, x.shape) != (
            x.shape
        ):
            raise Unreadable(f"expected constants of {node} that fit rows {[*x.shape]}")
        constant = building.constant(array, key)
        x = building.call(steps[key], x, constant, shape=x.shape)
    return x


def layer_norm(building: Building, x: Rows, filled: Mapping[str, Any], node: Node) -> Rows:
    """A LayerNorm over the last dimension, or over more of them."""
    over = tuple(filled.get("over", x.shape[-1:]))
    if not over or not x.shape:
        raise Unreadable(f"expected {node} over dimensions of the rows' own, got all")
    weight, bias = filled.get("weight"), filled.get("bias")
    epsilon = filled["epsilon"]
    if np.size(epsilon) != 1:
        raise Unreadable(f"expected one epsilon of {node}, got {np.size(epsilon)}")
    module = nn.LayerNorm(1, eps=float(np.reshape(epsilon, ())))
    module.normalized_shape = over
    for name, array in (("weight", weight), ("bias", bias)):
        if array is None:
            if name == "bias" and weight is not None:
                module.register_parameter("bias", None)
            continue
        if array.size != math.prod(over):
            raise Unreadable(f"expected {math.prod(over)} numbers as {name} of {node}")
        setattr(
            module, name, nn.Parameter(torch.from_numpy(np.array(array, np.float32)).reshape(over))
        )
    if weight is None:
        module.elementwise_affine = False
        module.register_parameter("weight", None)
        module.register_parameter("bias", None)
    return building.layer(module, x, x.shape, node.name or "norm")
