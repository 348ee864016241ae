"""Masked and clustered weights in files: plain numbers there, computed again when loaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from fastmnist.layers.clusters import SCOPES, cluster_as_it_is, cluster_hook, cluster_like
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
    if not isinstance(clustered, list):
        raise ValueError(f"clustered: expected a list, got {type(clustered).__name__}")
    first: dict[nn.Parameter, tuple[str, nn.Module]] = {}
    for path, scope in clustered:
        module = _module_at(model, path)
        if scope not in SCOPES or not isinstance(module, nn.Linear):
            raise ValueError(
                f"clustered: expected a Linear layer and a scope, got {path!r}, {scope!r}"
            )
        weight = module.get_parameter("weight")
        of, other = first.setdefault(weight, (scope, module))
        if other is not module and of == scope:
            cluster_like(module, other)
        else:
            cluster_as_it_is(module, scope)
        keep_weight(module)


def _module_at(model: nn.Module, path: str) -> nn.Module:
    # In a chain the names of modules in others have underscores.
    return dict(model.named_modules()).get(path) or model.get_submodule(path.replace(".", "_"))
