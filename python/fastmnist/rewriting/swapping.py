"""Modules put into the places of others."""

from __future__ import annotations

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
            if key in ("_modules", "_parameters", "_buffers"):
                continue
            if isinstance(value, list | tuple) and any(part is old for part in value):
                parts = [module if part is old else part for part in value]
                if isinstance(value, list):
                    value[:] = parts
                elif type(value) is tuple:
                    object.__setattr__(owner, key, tuple(parts))
            elif isinstance(value, dict):
                for name, part in [*value.items()]:
                    if part is old:
                        value[name] = module


def freeze(model: nn.Module) -> nn.Module:
    """Keep what stays float from asking for gradients that cannot flow through codes."""
    with torch.no_grad():
        return model.requires_grad_(False).eval()
