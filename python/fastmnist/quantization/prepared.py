"""Models between ``prepare`` and ``convert``: their layers, and their hooks."""

from __future__ import annotations

from torch import nn

from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.ranges.model_inputs import ModelInputs
from fastmnist.rewriting.verify import Rows


def prepared_layers(root: nn.Module) -> dict[str, SimulatedLinear]:
    """The prepared layers, by their first name."""
    return {n: m for n, m in root.named_modules() if isinstance(m, SimulatedLinear)}


def rows_seen(root: nn.Module) -> Rows | None:
    """The first rows that a prepared model was given, if it still knows them."""
    hooks = _inputs(root)
    first = hooks[0].first if hooks else None
    return None if first is None else Rows(*first, name="the first rows it was given")


def hand_rows_on(source: nn.Module, copy: nn.Module) -> None:
    """Let a copy of a prepared model know those rows, too; copies do not by themselves."""
    for own, other in zip(_inputs(source), _inputs(copy), strict=False):
        other.first = own.first


def _inputs(root: nn.Module) -> list[ModelInputs]:
    return [h for h in root._forward_pre_hooks.values() if isinstance(h, ModelInputs)]


def drop_inputs(root: nn.Module) -> None:
    """Take away the hooks with which prepared models know their inputs."""
    for module in root.modules():
        for key, hook in [*module._forward_pre_hooks.items()]:
            if isinstance(hook, ModelInputs):
                del module._forward_pre_hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
