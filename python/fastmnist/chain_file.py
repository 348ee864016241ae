"""Chains of layers in a file: models that come back without their class."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fastmnist.canonical import bound_to_json, clamp_from_json, field
from fastmnist.graph import (
    Graph,
    function_clamp,
    is_flatten,
    is_idle_dropout,
    module_clamp,
    only_asks_for_sizes,
)
from fastmnist.model_file import Arrays
from fastmnist.modules import FusedLinear, QuantizedChain

Part = Callable[[Any, str, Arrays], nn.Module]


def describe_chain(model: nn.Module) -> list[dict[str, Any]] | None:
    """List the steps of a model whose forward is a chain; None for any other."""
    graph, _ = Graph.of(model)
    if graph is None:
        return None
    steps: list[dict[str, Any]] = []
    node = next((n for n in graph.nodes if n.op == "placeholder"), None)
    while node is not None:
        users = [user for user in node.users if not only_asks_for_sizes(user)]
        if len(users) != 1:
            return None
        user = users[0]
        if user.op == "output":
            return steps if user.args[0] is node else None
        step = _describe_step(graph.module(user), user)
        if step is None:
            return None
        steps.append(step)
        node = user
    return None


def _describe_step(module: nn.Module | None, node: Any) -> dict[str, Any] | None:
    path = str(node.target)
    if module is None:
        clamp = function_clamp(node)
        if clamp is not None:
            return {"type": "clamp", "clamp": [bound_to_json(b) for b in clamp]}
        if is_idle_dropout(node):
            p = node.kwargs.get("p", node.args[1] if len(node.args) > 1 else 0.5)
            return {"type": "dropout", "p": p}
        return {"type": "flatten"} if is_flatten(node) else None
    if isinstance(module, QuantizedChain):
        return {"type": "quantized", "path": path}
    if isinstance(module, FusedLinear):
        return {"type": "fused", "path": path}
    if type(module) is nn.Linear:
        shape = [module.in_features, module.out_features]
        return {"type": "linear", "path": path, "shape": shape, "bias": module.bias is not None}
    if type(module) is nn.BatchNorm1d and module.affine and module.track_running_stats:
        return {
            "type": "batchnorm",
            "path": path,
            "features": module.num_features,
            "eps": module.eps,
        }
    if type(module) is nn.Dropout:
        return {"type": "dropout", "path": path, "p": module.p}
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return {"type": "flatten", "path": path}
    if type(module) is nn.Identity:
        return {"type": "identity", "path": path}
    clamp = module_clamp(module)
    if clamp is not None:
        return {"type": "clamp", "path": path, "clamp": [bound_to_json(b) for b in clamp]}
    return None


def build_chain(
    steps: list[Any], replaced: dict[str, Any], arrays: Arrays, part: Part
) -> nn.Sequential:
    """Rebuild the chain as a Sequential under the modules' own names, dots as underscores.

    Raises
    ------
    ValueError
        If a step, or a tensor that it needs, is not as it should be.
    """
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for i, step in enumerate(steps):
        path = step.get("path") if isinstance(step, dict) else None
        name = path.replace(".", "_") if isinstance(path, str) else f"step{i}"
        while name in modules:
            name += "_again"
        modules[name] = _build_step(step, replaced, arrays, part)
    return nn.Sequential(modules)


def _build_step(step: Any, replaced: dict[str, Any], arrays: Arrays, part: Part) -> nn.Module:
    kind = field(step, "type", str)
    if kind == "flatten":
        return nn.Flatten()
    if kind == "clamp":
        return _activation(*clamp_from_json(step))
    if kind == "identity":
        return nn.Identity()
    if kind == "dropout":
        return nn.Dropout(float(field(step, "p", (int, float))))
    path = field(step, "path", str)
    if kind in ("quantized", "fused"):
        module = part(field(replaced, path, dict), f"{path}.", arrays)
        if kind == "quantized":
            return module
    elif kind == "linear":
        module = _linear(step, arrays.get(f"{path}.weight"), path)
    elif kind == "batchnorm":
        features = field(step, "features", int)
        weight = arrays.get(f"{path}.weight")
        if weight is None or weight.shape != (features,):
            raise ValueError(f"tensor '{path}.weight': expected shape [{features}]")
        module = nn.BatchNorm1d(features, eps=float(field(step, "eps", (int, float))))
    else:
        raise ValueError(f"type: expected a known layer, got '{kind}'")
    prefix = f"{path}."
    own = {
        k.removeprefix(prefix): torch.tensor(a) for k, a in arrays.items() if k.startswith(prefix)
    }
    module.load_state_dict(own)
    return module


def _linear(step: Any, weight: Any, path: str) -> nn.Linear:
    # Checked before it is made: a description must not make us allocate what the file doesn't hold.
    shape = field(step, "shape", list)
    if weight is None or [*weight.shape] != shape[::-1]:
        raise ValueError(f"tensor '{path}.weight': expected shape {shape[::-1]}")
    outputs, inputs = weight.shape
    return nn.Linear(inputs, outputs, bias=field(step, "bias", bool))


def _activation(lo: float, hi: float) -> nn.Module:
    if lo == 0 and hi == float("inf"):
        return nn.ReLU()
    return nn.Hardtanh(lo, hi)
