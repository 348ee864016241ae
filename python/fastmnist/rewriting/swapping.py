"""Modules put into the places of others."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastmnist.rewriting.hooks import move_hooks


def put(root: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """Put `module` in the place of the one at `path`, with its hooks; return the model.

    That is `module` itself where the model is the one layer.
    """
    old = root.get_submodule(path)
    move_hooks(old, module)
    if not path:
        return module
    swap(root, path, module)
    return root


def swap(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put `module` in the place of the one at `path`, under each of its names."""
    old = root.get_submodule(path)
    for name, other in [*root.named_modules(remove_duplicate=False)]:
        if other is old:
            root.set_submodule(name, module)
    # Lists and dicts that are no ModuleLists hold modules too, and forward may call those.
    for owner in root.modules():
        for key, value in [*vars(owner).items()]:
            if key not in ("_modules", "_parameters", "_buffers"):
                other = _exchanged(value, old, module)
                if other is not value:
                    object.__setattr__(owner, key, other)


def _exchanged(value: Any, old: nn.Module, new: nn.Module) -> Any:
    """`value` with `new` for `old` in it: lists and dicts change, tuples are made anew."""
    if value is old:
        return new
    if isinstance(value, list):
        value[:] = [_exchanged(part, old, new) for part in value]
    elif isinstance(value, dict):
        for key, part in [*value.items()]:
            value[key] = _exchanged(part, old, new)
    elif isinstance(value, tuple):
        parts = [_exchanged(part, old, new) for part in value]
        if any(a is not b for a, b in zip(parts, value, strict=True)):
            return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    return value


def freeze(model: nn.Module) -> nn.Module:
    """Keep what stays float from asking for gradients that cannot flow through codes."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_leaf:  # a traced part has others
                parameter.requires_grad_(False)
        return model.eval()
