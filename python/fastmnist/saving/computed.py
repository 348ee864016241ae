"""Masked and clustered weights in files: plain numbers there, computed again when loaded.

Masked weights are zeros. Clustered ones are two tensors in place of ``weight``: ``weight_table``
(float32 ``[values]``, or ``[outputs, values]``) and ``weight_places`` (int8 ``[outputs, inputs]``,
place 0 as -128), which as few values of int8 take as few bits as there are places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from fastmnist.layers.clusters import (
    MOST_VALUES,
    SCOPES,
    cluster_as_it_is,
    cluster_hook,
    cluster_like,
)
from fastmnist.rewriting.kept_weights import keep_weight
from fastmnist.rewriting.masks import is_pruned


def masks_of(model: nn.Module) -> list[tuple[str, str]]:
    """Path and name of each tensor under a mask."""
    return [
        (path, hook._tensor_name)
        for path, module in model.named_modules()
        if is_pruned(module)
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, torch_prune.BasePruningMethod)
    ]


def clusters_of(model: nn.Module) -> list[tuple[str, str]]:
    """Path of each clustered layer, and what of it has a table of its own."""
    hooks = ((path, cluster_hook(module)) for path, module in model.named_modules())
    return [(path, hook.scope) for path, hook in hooks if hook is not None]


def parted_clusters(model: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """The tensors of all clustered layers, as a file holds them."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for path, _ in clusters_of(model):
        prefix = f"{path}." if path else ""
        layer = model.get_submodule(path)
        hook = cluster_hook(layer)
        assert hook is not None
        table, places = (
            hook.table(layer.get_parameter("weight_centroids")),
            layer.get_buffer("weight_indices"),
        )
        arrays[f"{prefix}weight_table"] = table.detach().numpy().copy()
        arrays[f"{prefix}weight_places"] = (places.numpy().astype(np.int16) - 128).astype(np.int8)
    return arrays


def joined_clusters(
    clustered: Any, arrays: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Put plain weights in the places of the tensors of clustered layers.

    Raises
    ------
    ValueError
        If the tensors are not there, or do not belong together.
    """
    joined = dict(arrays)
    for path, scope in _checked(clustered):
        prefix = f"{path}." if path else ""
        table, places = (joined.pop(f"{prefix}weight_{name}", None) for name in ("table", "places"))
        if (
            table is None
            or places is None
            or table.dtype != np.float32
            or places.dtype != np.int8
            or places.ndim != 2
            or table.shape[:-1] != (places.shape[:1] if scope == "channel" else ())
            or not 1 <= table.shape[-1] <= MOST_VALUES
        ):
            raise ValueError(
                f"tensor '{prefix}weight': expected a table of float32 and int8 places"
            )
        at = places.astype(np.int64) + 128
        if at.size and at.max() >= table.shape[-1]:
            raise ValueError(
                f"tensor '{prefix}weight_places': expected below {table.shape[-1]}, got {at.max()}"
            )
        joined[f"{prefix}weight"] = (
            np.take_along_axis(table, at, 1) if scope == "channel" else table[at]
        )
    return joined


def restore_masks(model: nn.Module, masked: list[Any]) -> None:
    """Mask what was masked: the zeros."""
    with torch.no_grad():
        for path, name in masked:
            module = _module_at(model, path)
            mask = (getattr(module, name) != 0).to(torch.float32)
            torch_prune.custom_from_mask(module, name, mask)
            if name == "weight":
                keep_weight(module)


def restore_clusters(model: nn.Module, clustered: Any) -> None:
    """Cluster what was clustered, by the values that its weights have; what was shared still is.

    Raises
    ------
    ValueError
        If that is not described as it should be, or the weights have too many values.
    """
    first: dict[nn.Parameter, tuple[str, nn.Module]] = {}
    for path, scope in _checked(clustered):
        module = _module_at(model, path)
        if not isinstance(module, nn.Linear):
            raise ValueError(f"clustered: expected a Linear layer, got {type(module).__name__}")
        weight = module.get_parameter("weight")
        of, other = first.setdefault(weight, (scope, module))
        if other is not module and of == scope:
            cluster_like(module, other)
        else:
            cluster_as_it_is(module, scope)
        keep_weight(module)


def _checked(clustered: Any) -> list[tuple[str, str]]:
    """Paths and scopes, or an error that names what is wrong with them."""
    pairs = clustered if isinstance(clustered, list) else [clustered]
    for pair in pairs:
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or not isinstance(pair[0], str) or pair[1] not in SCOPES:
            raise ValueError(f"clustered: expected pairs of a layer and its scope, got {pair!r}")
    return [(path, scope) for path, scope in pairs]


def _module_at(model: nn.Module, path: str) -> nn.Module:
    # In a chain the names of modules in others have underscores.
    return dict(model.named_modules()).get(path) or model.get_submodule(path.replace(".", "_"))
