"""Chains of layers in a file: models that come back without their class."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fastmnist.files.fields import required_field
from fastmnist.files.records import clamp_from_json, clamp_to_json
from fastmnist.layers.linear import is_float_linear
from fastmnist.layers.native import Native
from fastmnist.layers.plain import describe_batchnorm, describe_linear
from fastmnist.layers.quiet import Identity
from fastmnist.layers.registry import Arrays, kind_of
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.steps import Kind, Step, reshape_sizes
from fastmnist.saving.layers import build_layer

_MAX_STEPS = 4096
_INLINE = ("linear", "batchnorm")  # described in the step itself


# ---- to JSON -------------------------------------------------------------------------------------


def describe_chain(model: nn.Module) -> list[dict[str, Any]] | None:
    """List the steps of a model whose forward is a chain; None for any other."""
    graph, _ = Graph.of(model)
    if graph is None or any(map(has_hooks, model.modules())):
        return None  # what hooks do would be lost
    chain, why_not = graph.chain()
    described = [_describe(step) for step in chain]
    if why_not or None in described:
        return None
    return [step for step in described if step is not None]


def _describe(step: Step) -> dict[str, Any] | None:
    told = _WRITERS[step.kind](step) if step.kind in _WRITERS else None
    return {**told, "path": step.path} if told is not None and step.path else told


def _linear(step: Step) -> dict[str, Any] | None:
    module = step.module
    return describe_linear(module) if type(module) is nn.Linear else _ours(step)


def _ours(step: Step) -> dict[str, Any] | None:
    kind = kind_of(step.module) if step.module is not None else None
    return None if kind is None else {"type": kind.name}


def _norm(step: Step) -> dict[str, Any] | None:
    assert isinstance(step.module, nn.BatchNorm1d)
    if isinstance(step.module, Native):
        return _ours(step)
    return describe_batchnorm(step.module) if step.module.track_running_stats else None


def _clamp(step: Step) -> dict[str, Any] | None:
    assert step.clamp is not None
    return {"type": "clamp", "clamp": clamp_to_json(step.clamp)}


def _dropout(step: Step) -> dict[str, Any] | None:
    if isinstance(step.module, nn.Dropout):
        return {"type": "dropout", "p": step.module.p}
    if step.module is not None:
        return None
    node = step.node
    return {
        "type": "dropout",
        "p": node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5),
    }


def _rows(step: Step) -> dict[str, Any] | None:
    rows, features = reshape_sizes(step.node)
    is_any = rows == -1 and isinstance(features, int) and features > 0
    return {"type": "rows", "features": features} if is_any else None


def _other(step: Step) -> dict[str, Any] | None:
    """16-bit layers, whose arithmetic is torch's, and native activations and norms."""
    known = is_float_linear(step.module) or isinstance(step.module, Native)
    return _ours(step) if known else None


_WRITERS: dict[Kind, Callable[[Step], dict[str, Any] | None]] = {
    Kind.LINEAR: _linear,
    Kind.INT8: _ours,
    Kind.NORM: _norm,
    Kind.CLAMP: _clamp,
    Kind.DROPOUT: _dropout,
    Kind.FLATTEN: lambda step: {"type": "flatten"},
    Kind.ROWS: _rows,
    Kind.PASS: lambda step: {"type": "identity"},
    Kind.OTHER: _other,
    Kind.ELEMENTWISE: _other,
}


# ---- from JSON -----------------------------------------------------------------------------------


class Rows(nn.Module):
    """``x.view(-1, features)`` as a module."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, self.features)

    def extra_repr(self) -> str:
        return str(self.features)


def build_chain(steps: list[Any], replaced: dict[str, Any], arrays: Arrays) -> nn.Sequential:
    """Rebuild the chain as a Sequential under the modules' own names, dots as underscores.

    Raises
    ------
    ValueError
        If a step, or a tensor that it needs, is not as it should be.
    """
    if len(steps) > _MAX_STEPS:
        raise ValueError(f"chain: expected at most {_MAX_STEPS} steps, got {len(steps)}")
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, step in enumerate(steps):
        path = step.get("path") if isinstance(step, dict) else None
        name = path.replace(".", "_") if isinstance(path, str) else f"step{i}"
        if name in modules:
            name = f"{name}_step{i}"
        modules[name] = _build(step, replaced, arrays)
    return nn.Sequential(modules)


def _build(step: Any, replaced: dict[str, Any], arrays: Arrays) -> nn.Module:
    kind = required_field(step, "type", str)
    if kind in _READERS:
        return _READERS[kind](step)
    path = required_field(step, "path", str)
    part = step if kind in _INLINE else required_field(replaced, path, dict)
    if part.get("type") != kind:
        raise ValueError(f"type: expected '{part.get('type')}' for '{path}', got '{kind}'")
    return build_layer(part, path, arrays)


def _activation(step: Any) -> nn.Module:
    lo, hi = clamp_from_json(step)
    return nn.ReLU() if (lo, hi) == (0, float("inf")) else nn.Hardtanh(lo, hi)


def _probability(step: Any) -> nn.Module:
    p = required_field(step, "p", (int, float))
    if not 0 <= p <= 1:
        raise ValueError(f"p: expected a probability, got {p}")
    return nn.Dropout(float(p))


_READERS: dict[str, Callable[[Any], nn.Module]] = {
    "flatten": lambda step: nn.Flatten(),
    "rows": lambda step: Rows(required_field(step, "features", int)),
    "clamp": _activation,
    "identity": lambda step: Identity(),
    "dropout": _probability,
}
