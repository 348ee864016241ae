"""Where a layer's neurons go: what keeps them apart, and which layers read them."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils.prune import BasePruningMethod

from fastmnist.rewriting.graph import DROPOUTS, TRANSPARENT, Graph, is_flatten, is_linear

# One number in, one number out, the same for every neuron.
_ELEMENTWISE_MODULES = (
    *TRANSPARENT,
    *DROPOUTS,
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardshrink,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softshrink,
    nn.Softsign,
    nn.Tanh,
    nn.Tanhshrink,
    nn.Threshold,
)
# Functions and methods by name: torch, torch.nn.functional and Tensor call them alike.
_ELEMENTWISE_NAMES = frozenset(
    """abs abs_ alpha_dropout celu celu_ clamp clamp_ clamp_max clamp_min clip clone contiguous
    detach dropout elu elu_ exp float gelu hardshrink hardsigmoid hardswish hardtanh hardtanh_
    leaky_relu leaky_relu_ log1p logsigmoid mish neg relu relu6 relu_ selu selu_ sigmoid sigmoid_
    silu softplus softshrink softsign sqrt square tanh tanh_ tanhshrink threshold""".split()  # noqa: SIM905
)
# With plain numbers, or the same neurons, as the other operand.
_ARITHMETIC_NAMES = frozenset(
    "add add_ div div_ iadd imul isub itruediv mul mul_ pow sub sub_ truediv".split()  # noqa: SIM905
)
_MODULES_OF_FUNCTIONS = (torch, F, torch._C._nn, math, operator)


@dataclass
class Flow:
    """What follows one Linear, as far as its neurons stay apart.

    Attributes
    ----------
    layer : torch.nn.Linear
    node : torch.fx.Node
        Its call.
    between : list of torch.fx.Node
        What is done to each neuron by itself, in the order of execution.
    norms : list of torch.nn.BatchNorm1d
    readers : list of (torch.nn.Linear, torch.fx.Node)
        The layers that read the neurons, and the node that each reads.
    is_output : bool
        Whether its neurons are outputs of the model.
    blocked : str
        Why its neurons cannot be followed, in words, or "".
    """

    layer: nn.Linear
    node: fx.Node
    between: list[fx.Node] = field(default_factory=list)
    norms: list[nn.BatchNorm1d] = field(default_factory=list)
    readers: list[tuple[nn.Linear, fx.Node]] = field(default_factory=list)
    is_output: bool = False
    blocked: str = ""


def follow(graph: Graph, node: fx.Node) -> Flow:
    """Follow the neurons of the Linear that `node` calls to the layers that read them."""
    layer = graph.module(node)
    assert isinstance(layer, nn.Linear)
    flow = Flow(layer, node)
    reached = {node}
    for at in graph.nodes:  # in the order of execution
        inputs = [n for n in at.all_input_nodes if n in reached]
        if not inputs:
            continue
        module = graph.module(at)
        if at.op == "output":
            flow.is_output = True
        elif module is not None:
            _through_module(graph, flow, reached, at, module)
        elif _keeps_neurons_apart(at, reached):
            reached.add(at)
            flow.between.append(at)
        elif not _asks_for_rows(at):
            flow.blocked = flow.blocked or f"goes into '{_name(at)}'"
    if not flow.is_output and not _weights_follow(graph, node):
        flow.is_output = True  # at most a softmax or the like lies behind it
    if not flow.readers and not flow.blocked and not flow.is_output:
        flow.blocked = "is read by no Linear layer"
    return flow


def _through_module(
    graph: Graph, flow: Flow, reached: set[fx.Node], at: fx.Node, module: nn.Module
) -> None:
    width = flow.layer.out_features
    why_not = ""
    if is_linear(module) and isinstance(module, nn.Linear):
        why_not = why_shared(graph, at)
        if not why_not and module.in_features != width:
            why_not = f"has {module.in_features} inputs, not {width}: rows are rearranged before it"
        flow.readers += [] if why_not else [(module, at.all_input_nodes[0])]
    elif type(module) is nn.BatchNorm1d:
        why_not = why_shared(graph, at)
        if not why_not and module.num_features != width:
            why_not = f"normalizes {module.num_features} features, not {width}"
        if not why_not:
            flow.norms.append(module)
            flow.between.append(at)
            reached.add(at)
    elif type(module) in _ELEMENTWISE_MODULES or _is_row_flatten(module) or _is_plain_prelu(module):
        if _user_hooks(module):
            why_not = "has hooks, which see its neurons"
        else:
            reached.add(at)
            flow.between.append(at)
    else:
        why_not = f"is a {type(module).__name__}"
    if why_not:
        flow.blocked = flow.blocked or f"goes into '{at.target}', which {why_not}"


def _is_row_flatten(module: nn.Module) -> bool:
    return type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)


def _is_plain_prelu(module: nn.Module) -> bool:
    return type(module) is nn.PReLU and module.num_parameters == 1


def why_shared(graph: Graph, node: fx.Node) -> str:
    """Why the module that `node` calls cannot change its size, in words, or ""."""
    module = graph.module(node)
    assert module is not None
    if graph.calls[id(module)] > 1:
        return "is called more than once"
    if graph.names[id(module)] > 1:
        return "has two names"
    if id(module) in graph.read:
        return "has weights that forward reads itself"
    if _user_hooks(module):
        return "has hooks, which see its neurons"
    if len(node.args) != 1 or node.kwargs:
        return "is called with more than one argument"
    mine = {id(p) for p in module.parameters()}
    others = {id(p) for m in graph.root.modules() if m is not module for p in vars_of(m)}
    return "shares a weight with another layer" if mine & others else ""


def vars_of(module: nn.Module) -> list[nn.Parameter]:
    """The module's own parameters."""
    return [p for p in module._parameters.values() if p is not None]


def _user_hooks(module: nn.Module) -> bool:
    """Whether anybody listens; masks do not."""
    pre = module._forward_pre_hooks.values()
    return bool(
        any(not isinstance(hook, BasePruningMethod) for hook in pre)
        or module._forward_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _keeps_neurons_apart(node: fx.Node, reached: set[fx.Node]) -> bool:
    """Whether a function or method does to each neuron what it would do to it alone."""
    name = _name(node)
    if is_flatten(node):
        # A width that is written down would be another one afterwards.
        return name not in ("view", "reshape") or _last_size(node) == -1
    if not reached.issuperset(node.all_input_nodes):
        return False  # a sum of two layers, a factor for each neuron
    known = node.op == "call_method" or _is_torchs(node.target)
    return known and (name in _ELEMENTWISE_NAMES or name in _ARITHMETIC_NAMES)


def _last_size(node: fx.Node) -> Any:
    sizes = node.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    return sizes[-1]


def _is_torchs(target: Any) -> bool:
    name = getattr(target, "__name__", "")
    return any(getattr(module, name, None) is target for module in _MODULES_OF_FUNCTIONS)


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target)).rpartition(".")[2]


def _asks_for_rows(node: fx.Node) -> bool:
    """Whether a node reads nothing but the number of rows or of dimensions."""
    if node.target == "dim" or (node.target is getattr and node.args[1] == "ndim"):
        return True
    if node.target == "size" and len(node.args) == 2:
        return bool(node.args[1] == 0)
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        return all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)
    return False


def _weights_follow(graph: Graph, node: fx.Node) -> bool:
    """Whether anything that holds tensors comes after the node, on any way to the outputs."""
    seen, waiting = {node}, [*node.users]
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        module = graph.module(at)
        if module is not None and module.state_dict():
            return True
        if any(n.op == "get_attr" for n in at.all_input_nodes):
            return True
        waiting += at.users
    return False


def constants(graph: Graph, flow: Flow) -> dict[fx.Node, torch.Tensor]:
    """What each node between gives where the layer gives its bias alone, ``[1, width]``.

    In eval mode; that is what a neuron without weights gives for every row.
    """
    layer = flow.layer
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
    row = bias[None]
    clamp = getattr(layer, "clamp", None)  # of a FusedLinear
    values = {flow.node: row if clamp is None else row.clamp(*clamp)}
    for node in flow.between:
        module = graph.module(node)
        before = values[next(n for n in node.all_input_nodes if n in values)]
        if module is not None:
            values[node] = module(before.clone()).detach()
        elif is_flatten(node) or "dropout" in _name(node):
            values[node] = before
        else:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n].clone())
            if node.op == "call_method":
                values[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            else:
                assert callable(node.target)
                values[node] = node.target(*args, **kwargs)
    return values
