"""Layers that were converted before they saw data, to load an int8 state_dict into.

torch.ao gives such a layer scale 1 and zero point 0, warns, and lets it compute. Here, calls are
refused until its numbers are loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fastmnist.ao.plans import is_fixed
from fastmnist.display.callers import callers_level
from fastmnist.layers.simulated import SimulatedLinear


def settle(layers: Mapping[str, SimulatedLinear]) -> list[str]:
    """Give layers that saw nothing some range; return which of them need a state_dict."""
    unseen = []
    for name, layer in layers.items():
        if layer.observer.started:
            continue
        width = torch.ones(layer.in_features, dtype=torch.float32)
        # scale 1, zero point 0
        layer.observer.set_range(0 * width, 255 * width, is_first_input=False)
        if not (is_fixed(layer.watcher) or layer.dynamic):
            layer.watcher = None
            unseen.append(name)
    if unseen:
        named = ", ".join(f"'{name}'" for name in unseen[:5]) + ", …" * (len(unseen) > 5)
        warnings.warn(
            f"model: expected layers that saw data, got {named}, which never did: run the prepared "
            "model on calibration data before convert, or load the state_dict of an int8 model "
            "into the result, which refuses to be called before",
            stacklevel=callers_level(),
        )
    return unseen


def guard(model: nn.Module, names: list[str]) -> None:
    """Let these layers refuse to be called until their numbers are loaded."""
    for name in names:
        layer = model.get_submodule(name)
        handle = layer.register_forward_pre_hook(_Refuses(name))
        layer.register_load_state_dict_post_hook(_Allows(handle.id, name))


class _Refuses:
    """A forward pre-hook."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, module: nn.Module, args: Any) -> None:
        raise RuntimeError(
            f"layer '{self._name}': expected a scale, got none, as it never saw data: load the "
            "state_dict of an int8 model, or run the prepared model on calibration data before "
            "convert"
        )


class _Allows:
    """What load_state_dict calls: takes the refusal away once all numbers are there."""

    def __init__(self, hook: int, name: str) -> None:
        self._hook, self._name = hook, name

    def __call__(self, module: nn.Module, keys: Any) -> None:
        prefix = f"{self._name}." if self._name else ""
        if not any(key.startswith(prefix) for key in keys.missing_keys):
            module._forward_pre_hooks.pop(self._hook, None)
