"""Which layers are pruned, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastmnist.layers.clusters import cluster_hook
from fastmnist.layers.linear import is_float_linear
from fastmnist.pruning.methods import (
    CustomMask,
    Method,
    Structured,
    check_some_neurons_stay,
    checked_amount,
    checked_count_or_share,
)
from fastmnist.rewriting.selection import (
    check_has_linear,
    entries,
    first_names,
    selected_names,
    unknown,
)


@dataclass(frozen=True)
class Target:
    """One layer to prune.

    Attributes
    ----------
    name : str
        Its first name in the model.
    layer : torch.nn.Linear
    amount : float or int
        Share to remove, or number of weights; the share of the mask, where a mask is given.
    alone : bool
        Whether the amount is the layer's own, so that a global method leaves it out.
    explicit : bool
        Whether its very name was given, in `include` or `amounts`.
    """

    name: str
    layer: nn.Linear
    amount: float | int
    alone: bool
    explicit: bool


def find_targets(
    root: nn.Module, method: Method, include: Any, exclude: Any, amounts: Any
) -> list[Target]:
    """Resolve what was asked for, or raise: names that are unknown, amounts that are none.

    `root` is what will be changed; nothing is changed here.
    """
    names = _linear_names(root)
    check_has_linear(root, names, "prune", "prune before quantizing")
    by_name = first_names(names)
    if isinstance(method, CustomMask):
        if include is not None or exclude is not None or amounts is not None:
            raise ValueError(
                "include, exclude, amounts: expected none of them together with masks, which name "
                "the layers themselves"
            )
        chosen = _masked(method, names, by_name)
    else:
        chosen = _chosen(root, method, names, by_name, include, exclude, amounts)
    for target in chosen:
        check_prunable(target.name, target.layer)
    return chosen


def _linear_names(root: nn.Module) -> dict[str, nn.Linear]:
    """Every name of every Linear: one that has two is known by both."""
    return {
        name: module
        for name, module in root.named_modules(remove_duplicate=False)
        if is_float_linear(module)
    }


def _masked(
    method: CustomMask, names: dict[str, nn.Linear], by_name: dict[str, str]
) -> list[Target]:
    targets: dict[str, Target] = {}
    for name, mask in method.masks.items():
        if name not in names:
            raise ValueError(f"masks: {unknown(name, names)}")
        if by_name[name] in targets:
            raise ValueError(f"masks: expected one mask a layer, got another as '{name}'")
        layer = names[name]
        if mask.shape != layer.weight.shape:
            raise ValueError(
                f"masks['{name}']: expected shape {[*layer.weight.shape]}, that of the weight, "
                f"got {[*mask.shape]}"
            )
        share = float((~mask).float().mean()) if mask.numel() else 0.0
        targets[by_name[name]] = Target(name, layer, share, alone=True, explicit=True)
    return [*targets.values()]


def _chosen(
    root: nn.Module,
    method: Any,
    names: dict[str, nn.Linear],
    by_name: dict[str, str],
    include: Any,
    exclude: Any,
    amounts: Any,
) -> list[Target]:
    own = _own_amounts(method, names, by_name, amounts)
    named = [] if include is None else entries("include", include)
    taken = selected_names(
        root, by_name, None if include is None else named, exclude, "a layer to prune"
    )
    explicit = {by_name[entry] for entry in named if isinstance(entry, str) and entry in names}
    explicit |= {name for name, amount in own.items() if amount > 0}
    if outside := sorted(set(own) - taken):
        raise ValueError(
            f"amounts: expected layers that include= and exclude= leave, got '{outside[0]}'"
        )
    if all(own.get(name) == 0 for name in taken):
        raise ValueError(
            "amounts: expected a share that removes something, got 0, which removes none"
        )
    return [
        Target(name, names[name], own.get(name, method.amount), name in own, name in explicit)
        for name in dict.fromkeys(by_name.values())
        if name in taken and own.get(name) != 0
    ]


def _own_amounts(
    method: Method, names: dict[str, nn.Linear], by_name: dict[str, str], amounts: Any
) -> dict[str, float | int]:
    if amounts is None:
        return {}
    if not isinstance(amounts, Mapping):
        raise TypeError(
            f"amounts: expected a mapping such as {{'linear1': 0.9}}, got {type(amounts).__name__}"
        )
    own: dict[str, float | int] = {}
    checked = checked_amount if isinstance(method, Structured) else checked_count_or_share
    for name, amount in amounts.items():
        if name not in names:
            raise ValueError(f"amounts: {unknown(name, names)}")
        share = checked(f"amounts['{name}']", amount)
        if isinstance(method, Structured):
            check_some_neurons_stay(f"amounts['{name}']", share)
        if own.setdefault(by_name[name], share) != share:
            raise ValueError(
                f"amounts: expected one amount a layer, got two for '{by_name[name]}', which is "
                f"'{name}' too"
            )
    return own


def check_prunable(name: str, layer: nn.Linear) -> None:
    """Raise ValueError where a layer's weight is computed from something, or is not finite."""
    if cluster_hook(layer) is not None:
        raise ValueError(
            f"model: expected weights of their own, got '{name}', which is clustered: prune first, "
            "then cluster, which keeps the zeros (fm.uncluster brings the weights back)"
        )
    if parametrize.is_parametrized(layer) or own_weight(layer) is None:
        raise ValueError(
            f"model: expected plain weights, got '{name}', whose weight is computed (weight_norm, "
            "spectral_norm or a parametrization): remove that first, for example with "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    if not bool(torch.isfinite(layer.weight).all()):
        raise ValueError(f"model: expected finite weights, got NaN or infinity in '{name}'")


def own_weight(layer: nn.Module) -> nn.Parameter | None:
    """The parameter behind a layer's weight: under a mask it is called ``weight_orig``."""
    # spectral_norm has a weight_orig too, but no mask.
    masked = layer._buffers.get("weight_mask") is not None
    return layer._parameters.get("weight_orig" if masked else "weight")
