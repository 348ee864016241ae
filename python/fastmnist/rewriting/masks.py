"""Weights that are computed, masked or clustered: kept up to date, or made permanent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from fastmnist.layers.clusters import ClusterHook, remove_clusters, values_of
from fastmnist.layers.kept import Kept, note_kept


def is_pruned(module: nn.Module) -> bool:
    """Whether torch.nn.utils.prune holds masks of this very module."""
    return any(isinstance(h, prune.BasePruningMethod) for h in module._forward_pre_hooks.values())


def is_computed(module: nn.Module) -> bool:
    """Whether a hook computes the weight of this very module: masked, or clustered."""
    kinds = prune.BasePruningMethod | ClusterHook
    return any(isinstance(hook, kinds) for hook in module._forward_pre_hooks.values())


def make_permanent(model: nn.Module, *, keep_masks: bool = False) -> None:
    """Make masks, clusters, norms and parametrizations permanent, in place: plain weights.

    A weight that others share becomes the layer's own: the mask was of this use alone. With
    `keep_masks` masks and clusters stay. What zeros and values there were is noted on the layer.
    """
    uses = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
    for module in model.modules():
        for hook in [*module._forward_pre_hooks.values()]:
            if isinstance(hook, prune.BasePruningMethod):
                if not keep_masks:
                    _remove_mask(module, hook._tensor_name, uses)
            elif isinstance(hook, ClusterHook):
                if not keep_masks:
                    _remove_clusters(module, hook)
            elif isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
        if parametrize.is_parametrized(module):
            # torch deletes properties of the class, which a copy shares with its original.
            shared = type(module)
            module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
            parametrizations = cast("nn.ModuleDict", module.parametrizations)
            for name in [*parametrizations]:
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _remove_mask(module: nn.Module, name: str, uses: Counter[int]) -> None:
    behind = module._parameters[f"{name}_orig"]
    if behind is not None and uses[id(behind)] > 1:
        _give_its_own(module, f"{name}_orig", behind)
    prune.remove(module, name)
    if name == "weight":
        note_kept(module, Kept(zeros=int((module.get_parameter(name) == 0).sum())))


def _remove_clusters(module: nn.Module, hook: ClusterHook) -> None:
    values = values_of(module)
    remove_clusters(module)
    zeros = int((module.get_parameter("weight") == 0).sum()) if hook.holds_zero else 0
    note_kept(module, Kept(zeros, hook.scope, values))


def untie(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Give parameters that are one tensor, but are to get different values, a tensor each.

    `values` holds them by their names in the ``state_dict``.
    """
    first: dict[int, str] = {}
    for name, parameter in [*model.named_parameters(remove_duplicate=False)]:
        other = first.setdefault(id(parameter), name)
        if name in values and other in values and not torch.equal(values[name], values[other]):
            owner, _, key = name.rpartition(".")
            _give_its_own(model.get_submodule(owner), key, parameter)


def _give_its_own(module: nn.Module, key: str, parameter: nn.Parameter) -> None:
    own = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    module._parameters[key] = own


def hold_weights_of(original: nn.Module, result: nn.Module) -> nn.Module:
    """Give a plain copy of a model the very weights that another one has, and return it.

    Masks and clusters of both become permanent.
    """
    make_permanent(result)
    make_permanent(original)
    untie(original, result.state_dict())
    original.load_state_dict(result.state_dict())
    return original


def apply_masks(model: nn.Module) -> None:
    """Bring masked and clustered weights up to date with what they are computed from, and free of
    a graph.

    They are computed in the next forward pass only: until then ``weight`` is one step behind, and
    copying the model fails.
    """
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod | ClusterHook):
                with torch.no_grad():
                    hook(module, None)
