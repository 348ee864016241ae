"""Masks of ``torch.nn.utils.prune``: kept up to date, or made permanent."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def is_pruned(module: nn.Module) -> bool:
    """Whether torch.nn.utils.prune holds masks of this very module."""
    return any(isinstance(h, prune.BasePruningMethod) for h in module._forward_pre_hooks.values())


def make_permanent(model: nn.Module, *, keep_masks: bool = False) -> None:
    """Make masks, norms and parametrizations permanent, in place: plain weights from here on."""
    for module in model.modules():
        for hook in [*module._forward_pre_hooks.values()]:
            if isinstance(hook, prune.BasePruningMethod):
                if not keep_masks:
                    prune.remove(module, hook._tensor_name)
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


def apply_masks(model: nn.Module) -> None:
    """Bring pruned weights up to date with what they are computed from, and free of a graph.

    torch computes them in the next forward pass only: until then ``weight`` is one step behind,
    and copying the model fails.
    """
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                with torch.no_grad():
                    hook(module, None)
