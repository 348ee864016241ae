"""torch's own layers in files: those that stand alone, or no longer have their model's size."""

from __future__ import annotations

import torch
from torch import nn

from fastmnist.files.fields import required_field
from fastmnist.layers.batchnorm import RowNorm
from fastmnist.layers.registry import (
    Arrays,
    Description,
    Kind,
    array_of,
    register,
    shape_of_weight,
)

_RESIZED = "fastmnist_resized"


def mark_resized(module: nn.Module) -> None:
    """Note that a layer no longer has the size that its model's class gives it."""
    object.__setattr__(module, _RESIZED, True)


def is_resized(module: nn.Module) -> bool:
    """Whether a transform gave this very layer another size, which files must tell."""
    return getattr(module, _RESIZED, False) is True


def describe_linear(layer: nn.Linear) -> Description:
    """What the tensors of a Linear leave out."""
    shape = [layer.in_features, layer.out_features]
    return {"type": "linear", "shape": shape, "bias": layer.bias is not None}


def describe_batchnorm(layer: nn.BatchNorm1d) -> Description:
    """What the tensors of a BatchNorm1d with running statistics leave out."""
    shape = {"features": layer.num_features, "affine": layer.affine}
    after = {"after": layer.layer} if isinstance(layer, RowNorm) else {}
    return {"type": "batchnorm", **shape, "eps": layer.eps, **after}


def _rebuild_linear(description: Description, prefix: str, arrays: Arrays) -> nn.Linear:
    has_bias = required_field(description, "bias", bool)
    outputs, inputs = shape_of_weight(description, prefix, arrays, has_bias=has_bias)
    return nn.Linear(inputs, outputs, has_bias, dtype=torch.float32)


def _rebuild_batchnorm(description: Description, prefix: str, arrays: Arrays) -> nn.BatchNorm1d:
    features = required_field(description, "features", int)
    if array_of(arrays, f"{prefix}running_mean", (features,)).size == 0:
        raise ValueError(f"tensor '{prefix}running_mean': expected at least one number, got none")
    eps = float(required_field(description, "eps", (int, float)))
    norm = nn.BatchNorm1d(
        features, eps, affine=required_field(description, "affine", bool), dtype=torch.float32
    )
    if description.get("after") is not None:
        RowNorm.of(norm, required_field(description, "after", str))
    return norm


register(
    nn.Linear,
    Kind("linear", lambda m: describe_linear(m) if is_resized(m) else None, _rebuild_linear),
)
_NORM = Kind(
    "batchnorm", lambda m: describe_batchnorm(m) if is_resized(m) else None, _rebuild_batchnorm
)
register(nn.BatchNorm1d, _NORM)
register(RowNorm, _NORM)
