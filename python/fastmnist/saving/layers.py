"""The modules that transforms put into a model, in a file: described and rebuilt."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastmnist.files.fields import field
from fastmnist.files.records import Arrays, bound_to_json, clamp_from_json, from_arrays
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.half import HalfLinear, HalfRecurrent
from fastmnist.layers.quantized import QuantizedChain
from fastmnist.layers.quiet import Identity
from fastmnist.layers.recurrent import QuantizedRecurrent
from fastmnist.rewriting.changes import is_resized
from fastmnist.saving.chains import (
    build_batchnorm,
    build_linear,
    describe_batchnorm,
    describe_linear,
)

# Kinds through which no gradient flows.
FROZEN = ("quantized", "recurrent", "half", "half_recurrent")


def to_array(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor's numbers for the file. NumPy has no bfloat16: those are their bits, as int16."""
    plain = tensor.detach()
    if plain.dtype == torch.bfloat16:
        plain = plain.view(torch.int16)
    array: npt.NDArray[np.generic] = plain.numpy()
    return array


def describe_parts(model: nn.Module) -> dict[str, Any]:
    """List what transforms put into the model, by path."""
    replaced: dict[str, Any] = {}
    inside: list[str] = []
    # Every name of a module that has several: each is a key of the state_dict.
    for path, module in model.named_modules(remove_duplicate=False):
        if any(path.startswith(prefix) for prefix in inside):
            continue
        if isinstance(module, QuantizedChain):
            replaced[path] = {"type": "quantized", **module.description()}
            inside.append(f"{path}." if path else "")
        elif isinstance(module, QuantizedRecurrent):
            replaced[path] = {"type": "recurrent", **module.description()}
            inside.append(f"{path}." if path else "")
        elif isinstance(module, HalfRecurrent):
            replaced[path] = {"type": "half_recurrent", **module.description()}
            inside.append(f"{path}." if path else "")
        elif isinstance(module, FusedLinear):
            half = isinstance(module, HalfLinear)
            replaced[path] = {
                "type": "half" if half else "fused",
                **(module.half_description() if isinstance(module, HalfLinear) else {}),
                "shape": [module.in_features, module.out_features],
                "clamp": [bound_to_json(b) for b in module.clamp],
                "columns_differ": module.columns_differ,
            }
            if module.bias is None:
                replaced[path]["bias"] = False
        elif type(module) is nn.Linear and (not path or is_resized(module)):
            replaced[path] = describe_linear(module)
        elif type(module) is nn.BatchNorm1d and is_resized(module):
            replaced[path] = describe_batchnorm(module)
        elif isinstance(module, nn.Identity):
            replaced[path] = {"type": "identity"}
    return replaced


def build_part(part: Any, prefix: str, arrays: Arrays) -> nn.Module:
    """Make a module as described; its numbers are loaded later, but for int8 layers.

    Raises
    ------
    ValueError
        If the description, or a tensor that it needs, is not as it should be.
    """
    kind = field(part, "type", str)
    if kind == "identity":
        return Identity()
    if kind == "linear":
        return build_linear(part, arrays, prefix)
    if kind == "batchnorm":
        return build_batchnorm(part, arrays, prefix)
    if kind == "quantized":
        return QuantizedChain(from_arrays(arrays, prefix, part))
    if kind == "recurrent":
        return QuantizedRecurrent.rebuilt(part, prefix, arrays)
    if kind == "half_recurrent":
        return HalfRecurrent.rebuilt(part, prefix, arrays)
    if kind in ("fused", "half"):
        weight = arrays.get(f"{prefix}weight")
        shape = field(part, "shape", list)
        # Checked before it is made: a file must not make us allocate what it does not hold.
        bias = arrays.get(f"{prefix}bias")
        if weight is None or [*weight.shape] != shape[::-1] or 0 in weight.shape:
            raise ValueError(f"tensor '{prefix}weight': expected shape {shape[::-1]}")
        without = part.get("bias") is False
        if without != (bias is None) or (bias is not None and [*bias.shape] != [weight.shape[0]]):
            raise ValueError(f"tensor '{prefix}bias': expected shape [{weight.shape[0]}]")
        outputs, inputs = weight.shape
        columns_differ = part.get("columns_differ") is True
        fused = FusedLinear(inputs, outputs, clamp_from_json(part), columns_differ)
        if without:
            fused.bias = None  # type: ignore[assignment]
        return fused if kind == "fused" else HalfLinear.rebuilt(fused, part)
    raise ValueError(f"type: expected 'quantized', 'fused' or 'identity', got '{kind}'")
