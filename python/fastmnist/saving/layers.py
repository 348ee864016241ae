"""The layers that transforms put into a model, in a file: described and rebuilt.

What there is to say of a layer is said by its class (:mod:`fastmnist.layers.registry`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

# These enter themselves into the registry.
import fastmnist.layers.cells
import fastmnist.layers.embedding
import fastmnist.layers.fused
import fastmnist.layers.half
import fastmnist.layers.half_weights
import fastmnist.layers.low_rank
import fastmnist.layers.quantized
import fastmnist.layers.recurrent
import fastmnist.network  # noqa: F401
from fastmnist.layers.plain import mark_resized
from fastmnist.layers.registry import Arrays, kind_of, named, rebuild
from fastmnist.rewriting.masks import untie
from fastmnist.rewriting.selection import named_layers


def to_array(tensor: Tensor) -> npt.NDArray[Any]:
    """A tensor's numbers for the file. NumPy has no bfloat16: those are their bits, as int16."""
    plain = tensor.detach()
    if plain.dtype == torch.bfloat16:
        plain = plain.view(torch.int16)
    array: npt.NDArray[np.generic] = plain.numpy()
    return array


def describe_layers(model: nn.Module) -> dict[str, Any]:
    """What a file has to tell of the model's layers, by each of their paths."""
    if kind_of(model) is not None:
        mark_resized(model)  # a layer alone has no class around it that would make it
    own = {id(module) for _, module in named_layers(model)}
    told: dict[str, Any] = {}
    # Every name of a module that has several: each is a key of the state_dict.
    for path, module in model.named_modules(remove_duplicate=False):
        kind = kind_of(module)
        if kind is not None and id(module) in own:
            description = kind.describe(module)
            if description is not None:
                told[path] = description
    return told


def build_layer(description: Any, path: str, arrays: Arrays) -> nn.Module:
    """Make a layer as described, with its numbers.

    Raises
    ------
    ValueError, RuntimeError
        If the description, or a tensor that it needs, is not as it should be.
    """
    prefix = f"{path}." if path else ""
    layer = rebuild(description, prefix, arrays)
    if not named(description).takes_numbers:
        own = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
        load_tensors(layer, own)
    return layer


def is_frozen(description: Any) -> bool:
    """Whether no gradient flows through such a layer."""
    return named(description).is_frozen


def load_tensors(module: nn.Module, arrays: Arrays) -> None:
    """Load a state_dict that fits in names, shapes and, unlike torch's own way, dtypes.

    Raises
    ------
    ValueError, RuntimeError
        Naming the tensors that do not fit.
    """
    tensors = {key: torch.tensor(array) for key, array in arrays.items()}
    for key, own in module.state_dict().items():
        if key in tensors and own.dtype == torch.bfloat16 and tensors[key].dtype == torch.int16:
            tensors[key] = tensors[key].view(torch.bfloat16)
        if key in tensors and tensors[key].dtype != own.dtype:
            raise ValueError(f"tensor '{key}': expected {own.dtype}, got {tensors[key].dtype}")
    untie(module, tensors)
    module.load_state_dict(tensors)
