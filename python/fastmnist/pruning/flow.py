"""Where a layer's neurons go: what keeps them apart, and which layers read them."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from fastmnist.layers.linear import is_float_linear
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.steps import Kind, Step

# Steps that treat each neuron independently.
_APART = {
    Kind.CLAMP,
    Kind.DROPOUT,
    Kind.ELEMENTWISE,
    Kind.FLATTEN,  # but not ROWS: its hard-coded width would no longer fit
    Kind.PASS,
}


@dataclass
class Flow:
    """What follows one Linear, as far as its neurons stay apart.

    Attributes
    ----------
    layer : torch.nn.Linear
    step : Step
        Its call.
    between : list of Step
        What is done to each neuron by itself, in the order of execution.
    norms : list of torch.nn.BatchNorm1d
    readers : list of (torch.nn.Linear, Step)
        The layers that read the neurons, and the step whose value each reads.
    is_output : bool
        Whether its neurons are outputs of the model.
    blocked : str
        Why its neurons cannot be followed, in words, or "".
    """

    layer: nn.Linear
    step: Step
    between: list[Step] = field(default_factory=list)
    norms: list[nn.BatchNorm1d] = field(default_factory=list)
    readers: list[tuple[nn.Linear, Step]] = field(default_factory=list)
    is_output: bool = False
    blocked: str = ""


def follow(graph: Graph, step: Step) -> Flow:
    """Follow the neurons of the Linear that `step` calls to the layers that read them."""
    layer = step.module
    assert is_float_linear(layer)
    flow = Flow(layer, step)
    reached = {step}
    for at in graph.steps:  # in the order of execution
        if not any(source in reached for source in at.inputs):
            continue
        if at.kind is Kind.OUTPUT:
            flow.is_output = True
        elif at.module is not None:
            _through_module(graph, flow, reached, at, at.module)
        elif _keeps_neurons_apart(at, reached):
            reached.add(at)
            flow.between.append(at)
        elif not _asks_for_rows(at.node):
            flow.blocked = flow.blocked or f"goes into '{at.function}'"
    if not flow.is_output and not _weights_follow(step):
        flow.is_output = True  # at most a softmax or the like lies behind it
    if not flow.readers and not flow.blocked and not flow.is_output:
        flow.blocked = "is read by no Linear layer"
    return flow


def _through_module(
    graph: Graph, flow: Flow, reached: set[Step], at: Step, module: nn.Module
) -> None:
    width = flow.layer.out_features
    why_not = ""
    if at.kind is Kind.LINEAR and is_float_linear(module):
        why_not = why_shared(graph, at)
        if not why_not and module.in_features != width:
            why_not = f"has {module.in_features} inputs, not {width}: rows are rearranged before it"
        flow.readers += [] if why_not else [(module, at.inputs[0])]
    elif at.kind is Kind.NORM and isinstance(module, nn.BatchNorm1d):
        why_not = why_shared(graph, at)
        if not why_not and module.num_features != width:
            why_not = f"normalizes {module.num_features} features, not {width}"
        if not why_not:
            flow.norms.append(module)
            flow.between.append(at)
            reached.add(at)
    elif at.kind in _APART:
        if at.is_watched:
            why_not = "has hooks, which see its neurons"
        else:
            reached.add(at)
            flow.between.append(at)
    else:
        why_not = f"is a {type(module).__name__}"
    if why_not:
        flow.blocked = flow.blocked or f"goes into '{at.path}', which {why_not}"


def why_shared(graph: Graph, step: Step) -> str:
    """Why the module that `step` calls cannot change its size, in words, or ""."""
    module, node = step.module, step.node
    assert module is not None
    if graph.calls[id(module)] > 1:
        return "is called more than once"
    if graph.names[id(module)] > 1:
        return "has two names"
    if id(module) in graph.read:
        return "has weights that forward reads itself"
    if has_hooks(module):
        return "has hooks, which see its neurons"
    if len(node.args) != 1 or node.kwargs:
        return "is called with more than one argument"
    mine = {id(p) for p in module.parameters()}
    others = {id(p) for m in graph.root.modules() if m is not module for p in vars_of(m)}
    return "shares a weight with another layer" if mine & others else ""


def vars_of(module: nn.Module) -> list[nn.Parameter]:
    """The module's own parameters."""
    return [p for p in module._parameters.values() if p is not None]


def _keeps_neurons_apart(step: Step, reached: set[Step]) -> bool:
    """Whether a function or method does to each neuron what it would do to it alone."""
    if step.kind in (Kind.FLATTEN, Kind.PASS):
        return True
    # Else: a sum of two layers, a factor for each neuron.
    apart = step.kind in _APART or step.kind is Kind.ARITHMETIC
    return apart and reached.issuperset(step.inputs)


def _asks_for_rows(node: fx.Node) -> bool:
    """Whether a node reads nothing but the number of rows or of dimensions."""
    if node.target == "dim" or (node.target is getattr and node.args[1] == "ndim"):
        return True
    if node.target == "size" and len(node.args) == 2:
        return bool(node.args[1] == 0)
    if node.target == "size" or (node.target is getattr and node.args[1] == "shape"):
        return all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)
    return False


def _weights_follow(step: Step) -> bool:
    """Whether anything that holds tensors comes after the step, on any way to the outputs."""
    seen, waiting = {step}, [*step.users]
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        if at.module is not None and at.module.state_dict():
            return True
        if any(source.node.op == "get_attr" for source in at.inputs):
            return True
        waiting += at.users
    return False


def constants(flow: Flow) -> dict[Step, torch.Tensor]:
    """What each step between gives where the layer gives its bias alone, ``[1, width]``.

    In eval mode; that is what a neuron without weights gives for every row.
    """
    layer = flow.layer
    own, weight = layer.bias, layer.weight.detach()
    bias = weight.new_zeros(layer.out_features) if own is None else own.detach()
    row = bias[None]
    clamp = getattr(layer, "clamp", None)  # of a FusedLinear
    values = {flow.step: row if clamp is None else row.clamp(*clamp)}
    for step in flow.between:
        node = step.node
        before = values[next(s for s in step.inputs if s in values)]
        if step.module is not None:
            values[step] = step.module(before.clone()).detach()
        elif step.kind is Kind.FLATTEN or "dropout" in step.function:
            values[step] = before
        else:
            known = {s.node: values[s] for s in step.inputs if s in values}
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: known[n].clone())  # noqa: B023
            if node.op == "call_method":
                values[step] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
            else:
                assert callable(node.target)
                values[step] = node.target(*args, **kwargs)
    return values
