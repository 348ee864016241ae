"""The steps of a model: what it calls, in order, each of one kind.

This is the one list of what may stand between layers. Fusion, compilation, saving and pruning ask
for a step's kind; what they do with kinds is theirs, what is of which kind is said here.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from fastmnist.layers.batchnorm import RowNorm
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.native import torch_class
from fastmnist.layers.own_forward import has_own_forward
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.quiet import DeQuantStub, Identity, QuantStub
from fastmnist.layers.registry import kind_of
from fastmnist.rewriting.hooks import has_hooks

Clamp = tuple[float, float]
# Notes on nodes: that forward keeps the value, and the value of a constant.
KEPT, CONSTANT = "fastmnist_kept", "fastmnist_constant"


class Kind(Enum):
    """What a step does to its input."""

    INPUT = "input"
    OUTPUT = "output"
    LINEAR = "linear"  # a float Linear whose arithmetic we know
    INT8 = "int8"
    NORM = "norm"  # BatchNorm1d
    CLAMP = "clamp"  # ReLU, ReLU6, Hardtanh, as modules or functions
    ELEMENTWISE = "elementwise"  # one number in, one out, the same for every neuron
    ARITHMETIC = "arithmetic"  # + - * / with numbers or other steps
    FLATTEN = "flatten"  # each row to one dimension
    ROWS = "rows"  # to rows of a width that is written down
    PASS = "pass"  # nothing, at inference
    DROPOUT = "dropout"
    SIZES = "sizes"  # reads shapes, no values
    OTHER = "other"


@dataclass(eq=False)
class Step:
    """One call of a traced forward.

    Attributes
    ----------
    node : torch.fx.Node
    kind : Kind
    module : torch.nn.Module or None
        What it calls, of the model that was traced (not of the copy).
    inputs, users : list of Step
    clamp : (float, float) or None
        Of kind CLAMP.
    whole : str or None
        The path of the layer in parts, a LowRankLinear, that it calls a part of.
    """

    node: fx.Node
    kind: Kind
    module: nn.Module | None = None
    inputs: list[Step] = field(default_factory=list)
    users: list[Step] = field(default_factory=list)
    clamp: Clamp | None = None
    whole: str | None = None

    @property
    def is_first_part(self) -> bool:
        """Whether it is the beginning of a layer in parts, whose end is a step of its own."""
        return self.whole is not None and self.path.endswith("first")

    @property
    def path(self) -> str:
        """The name of the module that it calls, or "": functions have none."""
        return str(self.node.target) if self.module is not None else ""

    @property
    def owner(self) -> str:
        """The module whose forward makes the call."""
        around = [path for path, _ in self.node.meta.get("nn_module_stack", {}).values()]
        if self.module is not None:
            around = around[: -1 if self.whole is None else -2]
        return around[-1] if around else ""

    @property
    def is_kept(self) -> bool:
        """Whether forward keeps the value in an attribute, besides handing it on."""
        return bool(self.node.meta.get(KEPT))

    @property
    def name(self) -> str:
        """What a message calls it."""
        return self.path or str(self.node.name)

    @property
    def is_watched(self) -> bool:
        """Whether a hook runs where it is called."""
        return self.module is not None and has_hooks(self.module)

    @property
    def function(self) -> str:
        """The bare name of the function or method that it calls."""
        return str(getattr(self.node.target, "__name__", self.node.target)).rpartition(".")[2]


DROPOUTS = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
)  # fmt: skip
_PASSES = (nn.Identity, Identity, QuantStub, DeQuantStub)
_ELEMENTWISE_MODULES = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.LeakyReLU,
    nn.LogSigmoid, nn.Mish, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink, nn.Softsign,
    nn.Tanh, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
# Functions and methods by name: torch, torch.nn.functional and Tensor call them alike.
_ELEMENTWISE_NAMES = {
    "abs", "abs_", "alpha_dropout", "celu", "celu_", "clamp", "clamp_", "clamp_max", "clamp_min",
    "clip", "clone", "detach", "dropout", "elu", "elu_", "exp", "gelu", "hardshrink",
    "hardsigmoid", "hardswish", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "log1p",
    "log_sigmoid", "logsigmoid", "mish", "neg", "relu", "relu6", "relu_", "selu", "selu_",
    "sigmoid", "sigmoid_", "silu", "softplus", "softshrink", "softsign", "sqrt", "square", "tanh",
    "tanh_", "tanhshrink", "threshold",
}  # fmt: skip
_ARITHMETIC_NAMES = {
    "add", "add_", "div", "div_", "iadd", "imul", "isub", "itruediv", "mul", "mul_", "pow", "sub",
    "sub_", "truediv",
}  # fmt: skip
_MODULES_OF_FUNCTIONS = (torch, F, torch._C._nn, math, operator)

RELU: Clamp = (0.0, math.inf)
_RELU6: Clamp = (0.0, 6.0)
_CLAMP_FUNCTIONS: dict[Any, Clamp] = {
    torch.relu: RELU,
    torch.relu_: RELU,
    F.relu: RELU,
    F.relu_: RELU,
    F.relu6: _RELU6,
    "relu": RELU,
    "relu_": RELU,
}


def steps_of(graph: fx.Graph, root: nn.Module) -> list[Step]:
    """The steps of a graph that was traced of `root`, or of a copy of it."""
    steps: dict[fx.Node, Step] = {}
    for node in graph.nodes:
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        clamp = module_clamp(module) if module is not None else _function_clamp(node)
        whole = _whole_of(node, root) if module is not None else None
        step = Step(node, kind_of_step(node, module), module, clamp=clamp, whole=whole)
        for source in node.all_input_nodes:
            step.inputs.append(steps[source])
            steps[source].users.append(step)
        steps[node] = step
    return [*steps.values()]


def _whole_of(node: fx.Node, root: nn.Module) -> str | None:
    path = str(node.target).rpartition(".")[0]
    kind = kind_of(root.get_submodule(path)) if str(node.target) else None
    return path if kind is not None and kind.in_parts else None


def module_clamp(module: nn.Module | None) -> Clamp | None:
    """The bounds of an activation module that is a clamp, else None."""
    if module is not None and has_own_forward(module):
        return None
    if type(module) is nn.ReLU:
        return RELU
    if type(module) is nn.ReLU6:
        return _RELU6
    if type(module) is nn.Hardtanh:
        return float(module.min_val), float(module.max_val)
    return None


def kind_of_step(node: fx.Node, module: nn.Module | None) -> Kind:
    """What a node does, which may call a module."""
    if node.op == "placeholder":
        return Kind.INPUT
    if node.op == "output":
        return Kind.OUTPUT
    if module is not None and has_own_forward(module):
        return Kind.OTHER
    if (module_clamp(module) if module is not None else _function_clamp(node)) is not None:
        return Kind.CLAMP
    return _module_kind(module) if module is not None else _function_kind(node)


def _module_kind(module: nn.Module) -> Kind:
    if is_known_linear(module):
        return Kind.LINEAR
    cls = torch_class(module)
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return Kind.FLATTEN
    if cls is nn.PReLU and module.num_parameters == 1:
        return Kind.ELEMENTWISE
    return _MODULE_KINDS.get(cls, Kind.OTHER)


_MODULE_KINDS: dict[type, Kind] = {
    QuantizedLinear: Kind.INT8,
    nn.BatchNorm1d: Kind.NORM,
    RowNorm: Kind.NORM,
    **dict.fromkeys(_PASSES, Kind.PASS),
    **dict.fromkeys(DROPOUTS, Kind.DROPOUT),
    **dict.fromkeys(_ELEMENTWISE_MODULES, Kind.ELEMENTWISE),
}


def _function_kind(node: fx.Node) -> Kind:
    if node.op not in ("call_function", "call_method"):
        return Kind.OTHER
    if _only_asks_for_sizes(node):
        return Kind.SIZES
    if (reshaped := _reshape_kind(node)) is not None:
        return reshaped
    if node.target in ("contiguous", "float"):
        return Kind.PASS
    if node.target is F.dropout:
        training = node.kwargs.get("training", node.args[2] if len(node.args) > 2 else True)
        return Kind.DROPOUT if training is False else Kind.ELEMENTWISE
    name = str(getattr(node.target, "__name__", node.target)).rpartition(".")[2]
    if not (node.op == "call_method" or _is_torchs(node.target)):
        return Kind.OTHER
    if name in _ELEMENTWISE_NAMES:
        return Kind.ELEMENTWISE
    return Kind.ARITHMETIC if name in _ARITHMETIC_NAMES else Kind.OTHER


def _reshape_kind(node: fx.Node) -> Kind | None:
    """``flatten(x, 1)``, ``x.view(n, -1)`` flatten rows; ``x.view(-1, 784)`` makes rows of 784."""
    if node.target in (torch.flatten, "flatten"):
        start = node.kwargs.get("start_dim", node.args[1] if len(node.args) > 1 else 0)
        end = node.kwargs.get("end_dim", node.args[2] if len(node.args) > 2 else -1)
        return Kind.FLATTEN if (start, end) == (1, -1) else Kind.OTHER
    if node.target in ("view", "reshape", torch.reshape):
        sizes = reshape_sizes(node)
        if len(sizes) != 2:
            return Kind.OTHER
        return Kind.FLATTEN if sizes[1] == -1 else Kind.ROWS
    return None


def reshape_sizes(node: fx.Node) -> tuple[Any, ...]:
    """The sizes that ``view`` or ``reshape`` is given."""
    sizes = node.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    return tuple(sizes)


def _function_clamp(node: fx.Node) -> Clamp | None:
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


def _only_asks_for_sizes(node: fx.Node) -> bool:
    return node.target in ("size", "dim") or (
        node.target is getattr and node.args[1] in ("shape", "ndim")
    )


def _is_torchs(target: Any) -> bool:
    name = getattr(target, "__name__", "")
    return any(getattr(module, name, None) is target for module in _MODULES_OF_FUNCTIONS)
