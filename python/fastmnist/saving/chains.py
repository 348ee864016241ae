"""Chains of layers in a file: models that come back without their class."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fastmnist.files.fields import field
from fastmnist.files.records import Arrays, bound_to_json, clamp_from_json
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.quantized import QuantizedChain
from fastmnist.layers.quiet import Identity
from fastmnist.rewriting.graph import (
    Graph,
    function_clamp,
    is_flatten,
    is_idle_dropout,
    module_clamp,
    only_asks_for_sizes,
)

_MAX_STEPS = 4096
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
        if node.target in ("contiguous", "float"):
            return {"type": "identity"}
        if node.target in (torch.flatten, "flatten"):
            return {"type": "flatten"} if is_flatten(node) else None
        return _describe_reshape(node) if is_flatten(node) else None
    if isinstance(module, QuantizedChain):
        return {"type": "quantized", "path": path}
    if isinstance(module, FusedLinear):
        return {"type": "fused", "path": path}
    if type(module) is nn.Linear:
        return {"path": path, **describe_linear(module)}
    if type(module) is nn.BatchNorm1d and module.track_running_stats:
        return {"path": path, **describe_batchnorm(module)}
    if type(module) is nn.Dropout:
        return {"type": "dropout", "path": path, "p": module.p}
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return {"type": "flatten", "path": path}
    if type(module) in (nn.Identity, Identity):
        return {"type": "identity", "path": path}
    clamp = module_clamp(module)
    if clamp is not None:
        return {"type": "clamp", "path": path, "clamp": [bound_to_json(b) for b in clamp]}
    return None


def _describe_reshape(node: Any) -> dict[str, Any] | None:
    """``x.view(n, -1)`` flattens each row; ``x.view(-1, 784)`` makes rows of 784, however many."""
    shape = node.args[1:]
    if len(shape) == 1:
        shape = tuple(shape[0])
    if shape[1] == -1:
        return {"type": "flatten"}
    if shape[0] == -1 and isinstance(shape[1], int) and shape[1] > 0:
        return {"type": "rows", "features": shape[1]}
    return None


class Rows(nn.Module):
    """``x.view(-1, features)`` as a module."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, self.features)

    def extra_repr(self) -> str:
        return str(self.features)


def build_chain(
    steps: list[Any], replaced: dict[str, Any], arrays: Arrays, part: Part
) -> nn.Sequential:
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
        modules[name] = _build_step(step, replaced, arrays, part)
    return nn.Sequential(modules)


def _build_step(step: Any, replaced: dict[str, Any], arrays: Arrays, part: Part) -> nn.Module:
    kind = field(step, "type", str)
    if kind == "flatten":
        return nn.Flatten()
    if kind == "rows":
        return Rows(field(step, "features", int))
    if kind == "clamp":
        return _activation(*clamp_from_json(step))
    if kind == "identity":
        return Identity()
    if kind == "dropout":
        p = field(step, "p", (int, float))
        if not 0 <= p <= 1:
            raise ValueError(f"p: expected a probability, got {p}")
        return nn.Dropout(float(p))
    path = field(step, "path", str)
    if kind in ("quantized", "fused"):
        module = part(field(replaced, path, dict), f"{path}.", arrays)
        if kind == "quantized":
            return module
    elif kind == "linear":
        module = build_linear(step, arrays, f"{path}.")
    elif kind == "batchnorm":
        module = build_batchnorm(step, arrays, f"{path}.")
    else:
        raise ValueError(f"type: expected a known layer, got '{kind}'")
    prefix = f"{path}."
    own = {
        k.removeprefix(prefix): torch.tensor(a) for k, a in arrays.items() if k.startswith(prefix)
    }
    load_tensors(module, own)
    return module


def load_tensors(module: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load a state_dict that fits in names, shapes and, unlike torch's own way, dtypes.

    Raises
    ------
    ValueError, RuntimeError
        Naming the tensors that do not fit.
    """
    tensors = dict(tensors)
    for key, own in module.state_dict().items():
        if key in tensors and own.dtype == torch.bfloat16 and tensors[key].dtype == torch.int16:
            tensors[key] = tensors[key].view(torch.bfloat16)
        if key in tensors and tensors[key].dtype != own.dtype:
            raise ValueError(f"tensor '{key}': expected {own.dtype}, got {tensors[key].dtype}")
    module.load_state_dict(tensors)


def describe_linear(module: nn.Linear) -> dict[str, Any]:
    """What the tensors of a Linear leave out."""
    shape = [module.in_features, module.out_features]
    return {"type": "linear", "shape": shape, "bias": module.bias is not None}


def describe_batchnorm(module: nn.BatchNorm1d) -> dict[str, Any]:
    """What the tensors of a BatchNorm1d with running statistics leave out."""
    shape = {"features": module.num_features, "affine": module.affine}
    return {"type": "batchnorm", **shape, "eps": module.eps}


def build_batchnorm(step: Any, arrays: Arrays, prefix: str) -> nn.BatchNorm1d:
    """Make a BatchNorm1d as described; its numbers are loaded later."""
    features = field(step, "features", int)
    mean = arrays.get(f"{prefix}running_mean")
    if mean is None or mean.shape != (features,):
        raise ValueError(f"tensor '{prefix}running_mean': expected shape [{features}]")
    eps = float(field(step, "eps", (int, float)))
    return nn.BatchNorm1d(features, eps, affine=field(step, "affine", bool))


def build_linear(step: Any, arrays: Arrays, prefix: str) -> nn.Linear:
    """Make a Linear as described; its numbers are loaded later."""
    # Checked before it is made: a description must not make us allocate what the file doesn't hold.
    shape, weight = field(step, "shape", list), arrays.get(f"{prefix}weight")
    if weight is None or [*weight.shape] != shape[::-1]:
        raise ValueError(f"tensor '{prefix}weight': expected shape {shape[::-1]}")
    outputs, inputs = weight.shape
    has_bias, bias = field(step, "bias", bool), arrays.get(f"{prefix}bias")
    if 0 in weight.shape or (has_bias and (bias is None or [*bias.shape] != [outputs])):
        raise ValueError(f"tensor '{prefix}bias': expected shape [{outputs}], inputs of at least 1")
    return nn.Linear(inputs, outputs, bias=has_bias)


def _activation(lo: float, hi: float) -> nn.Module:
    if lo == 0 and hi == float("inf"):
        return nn.ReLU()
    return nn.Hardtanh(lo, hi)
