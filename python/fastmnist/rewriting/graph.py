"""What follows what in a model: torch.fx's graph, and the questions that transforms ask of it.

Tracing runs ``forward`` once on symbols. Where that fails (control flow on values, ``*args``), the
transforms go layer by layer instead; :class:`Graph` is None then.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.quantized import QuantizedChain
from fastmnist.layers.quiet import DeQuantStub, Identity, QuantStub
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.rewriting.hooks import has_hooks

Clamp = tuple[float, float]

DROPOUTS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
TRANSPARENT = (nn.Identity, Identity, QuantStub, DeQuantStub, *DROPOUTS)

_RELU: Clamp = (0.0, math.inf)
_RELU6: Clamp = (0.0, 6.0)
_CLAMP_FUNCTIONS: dict[Any, Clamp] = {
    torch.relu: _RELU,
    torch.relu_: _RELU,
    F.relu: _RELU,
    F.relu_: _RELU,
    F.relu6: _RELU6,
    "relu": _RELU,
    "relu_": _RELU,
}


def is_linear(module: nn.Module | None) -> bool:
    """Whether the module is a Linear whose arithmetic we know (no subclass with its own)."""
    known = type(module) in (nn.Linear, FusedLinear, SimulatedLinear)
    return known and "forward" not in vars(module)  # nor an instance with its own


def module_clamp(module: nn.Module | None) -> Clamp | None:
    """The bounds of an activation module that is a clamp, else None."""
    if type(module) is nn.ReLU:
        return _RELU
    if type(module) is nn.ReLU6:
        return _RELU6
    if type(module) is nn.Hardtanh:
        return float(module.min_val), float(module.max_val)
    return None


def keeps_rows(module: nn.Module | None) -> bool:
    """Whether the module, at inference, does no more than to flatten each row."""
    if type(module) is nn.Flatten and not has_hooks(module):
        return (module.start_dim, module.end_dim) == (1, -1)
    return is_transparent(module)


def is_transparent(module: nn.Module | None) -> bool:
    """Whether the module does nothing at inference, and no hook of it does."""
    return module is not None and type(module) in TRANSPARENT and not has_hooks(module)


class _Tracer(fx.Tracer):
    """Goes into containers and users' classes, never into layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if has_hooks(m):
            return True  # they see real values only, and nothing is moved across them
        if isinstance(m, nn.Sequential):
            return False
        return isinstance(
            m, FusedLinear | QuantizedChain | Identity | QuantStub | DeQuantStub
        ) or super().is_leaf_module(m, module_qualified_name)


def _defaults(root: nn.Module) -> dict[str, Any]:
    parameters = inspect.signature(root.forward).parameters
    return {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}


def _steps(graph: fx.Graph) -> list[tuple[str, str]]:
    """What is called, in order; not fx's own checks that an argument has its default."""
    calls = [n for n in graph.nodes if n.op.startswith("call_")]
    checks = [n for n in calls if "assert" in str(getattr(n.target, "__name__", n.target))]
    checked = {argument for n in checks for argument in n.all_input_nodes}
    return [
        (n.op, str(n.target))
        for n in calls
        if n not in checks and not (n in checked and set(n.users) <= set(checks))
    ]


@dataclass(frozen=True)
class Graph:
    """The traced graph of `root`, whose modules it names."""

    root: nn.Module
    nodes: tuple[fx.Node, ...]
    calls: Counter[int]
    names: Counter[int]
    # Modules whose weights forward reads itself, instead of calling them only.
    read: frozenset[int]

    @classmethod
    def of(cls, root: nn.Module) -> tuple[Graph | None, str]:
        """Trace `root` as it is at inference; ``(None, reason)`` where it cannot be traced."""
        modes = [(module, module.training) for module in root.modules()]
        root.eval()
        try:
            return cls._traced(root)
        finally:
            for module, training in modes:
                module.training = training

    @classmethod
    def _traced(cls, root: nn.Module) -> tuple[Graph | None, str]:
        try:
            graph = _Tracer().trace(root)
        except Exception as error:
            first_line = (str(error).strip().splitlines() or [""])[0]
            return None, f"{type(error).__name__}: {first_line}"
        if defaults := _defaults(root):
            # Symbols are never None: what forward does without these arguments is another graph.
            try:
                without = _Tracer().trace(root, concrete_args=defaults)
            except Exception:
                without = None
            if without is None or _steps(without) != _steps(graph):
                return None, f"forward does other things without {' and '.join(defaults)}"
        modules = dict(root.named_modules(remove_duplicate=False))
        called = [n for n in graph.nodes if n.op == "call_module"]
        calls = Counter(id(modules[str(n.target)]) for n in called)
        names = Counter(id(module) for module in modules.values())
        owners = {str(n.target).rpartition(".")[0] for n in graph.nodes if n.op == "get_attr"}
        # Of a model that is one layer, forward is the layer's own.
        read = frozenset(id(modules[path]) for path in owners if path in modules)
        read -= {id(root)} if is_linear(root) else set()
        return cls(root, tuple(graph.nodes), calls, names, read), ""

    def module(self, node: fx.Node | None) -> nn.Module | None:
        """The module that the node calls, if it calls one."""
        if node is None or node.op != "call_module":
            return None
        return self.root.get_submodule(str(node.target))

    def is_private(self, node: fx.Node) -> bool:
        """Whether the node's module is only called, and only here, has one name and no hooks."""
        module = self.module(node)
        return (
            module is not None
            and self.calls[id(module)] == 1
            and self.names[id(module)] == 1
            and id(module) not in self.read
            and not has_hooks(module)
            and len(node.args) == 1
            and not node.kwargs
        )

    def replace(self, node: fx.Node, module: nn.Module) -> None:
        """Put another module in the place of the one that the node calls, in the root too."""
        module.train(self.root.training)
        self.root.set_submodule(str(node.target), module)
        self.calls[id(module)] = self.names[id(module)] = 1

    def is_input(self, node: fx.Node, *, first: bool = False) -> bool:
        """Whether the node's argument is an input of the model's (its first), at most flattened."""
        before = node.args[0] if node.args else None
        while isinstance(before, fx.Node) and before.op != "placeholder":
            if not (is_flatten(before) or keeps_rows(self.module(before))):
                return False
            before = before.args[0] if before.args else None
        if first:
            return before is next(n for n in self.nodes if n.op == "placeholder")
        return isinstance(before, fx.Node)

    def sole_user(self, node: fx.Node) -> fx.Node | None:
        """The one node that consumes this node's value, if there is just one."""
        users = [*node.users]
        return users[0] if len(users) == 1 and users[0].op != "output" else None

    def next_layer(self, node: fx.Node, *, past_dropouts: bool = True) -> fx.Node | None:
        """The sole consumer, past Identity and (at inference) Dropout modules."""
        user = self.sole_user(node)
        while user is not None and is_transparent(module := self.module(user)):
            if not past_dropouts and isinstance(module, DROPOUTS):
                break
            user = self.sole_user(user)
        return user


def function_clamp(node: fx.Node) -> Clamp | None:
    """The bounds of a functional activation (``torch.relu(x)``, ``x.relu()``), else None."""
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target is F.hardtanh:
        bounds: dict[str, Any] = dict(zip(("min_val", "max_val"), node.args[1:3], strict=False))
        bounds |= node.kwargs
        lo, hi = bounds.get("min_val", -1.0), bounds.get("max_val", 1.0)
        known = isinstance(lo, int | float) and isinstance(hi, int | float)
        return (float(lo), float(hi)) if known else None
    return _CLAMP_FUNCTIONS.get(node.target)


def is_flatten(node: fx.Node) -> bool:
    """Whether the node only flattens each row: ``flatten(x, 1)``, ``x.view(n, -1)``, …"""
    if node.target in (torch.flatten, "flatten"):
        start = node.kwargs.get("start_dim", node.args[1] if len(node.args) > 1 else 0)
        end = node.kwargs.get("end_dim", node.args[2] if len(node.args) > 2 else -1)
        return (start, end) == (1, -1)
    if node.target in ("view", "reshape", torch.reshape):
        shape = node.args[1:]
        if len(shape) == 1 and isinstance(shape[0], tuple | list):
            shape = tuple(shape[0])
        return len(shape) == 2
    return node.target in ("contiguous", "float")


def only_asks_for_sizes(node: fx.Node) -> bool:
    """Whether the node reads its argument's shape, not its values."""
    return node.target in ("size", "dim") or (
        node.target is getattr and node.args[1] in ("shape", "ndim")
    )


def is_idle_dropout(node: fx.Node) -> bool:
    """Whether the node is ``F.dropout(x, training=False)``, as in eval mode."""
    if node.target is not F.dropout:
        return False
    return node.kwargs.get("training", node.args[2] if len(node.args) > 2 else True) is False
