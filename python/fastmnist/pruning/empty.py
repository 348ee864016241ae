"""Empty neurons, which pruning leaves behind: removed for good, without loss.

A neuron whose incoming weights are all zero gives one number for every row: what its activation
makes of its bias. That number times its outgoing weights goes into the biases of the layers that
read it. One whose outgoing weights are all zero gives nothing. Either way it can go; and where it
goes others may become empty, so that layers are looked at until none is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fastmnist.layers.linear import is_known_linear
from fastmnist.pruning.flow import Flow, constants, follow, why_shared
from fastmnist.pruning.shrinking import move_constants, shrink
from fastmnist.pruning.targets import own_weight
from fastmnist.rewriting.changes import OTHER, SHRUNK, Change
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.selection import check_not_prepared
from fastmnist.rewriting.steps import Kind


@dataclass
class _Layer:
    """A Linear whose neurons can be followed to all that reads them."""

    name: str
    flow: Flow
    width: int


def remove_empty_neurons(root: nn.Module, norms_apart: Collection[str] = ()) -> list[Change]:
    """Remove empty neurons from a float model itself; return what was done, and what was not.

    Inputs and outputs of the model stay, and so do neurons of which a trace does not show that only
    Linear layers read them. One neuron stays where all of a layer's are empty. A model that cannot
    be traced stays as it is. `norms_apart` names layers behind which rows showed a BatchNorm1d that
    normalizes another dimension.
    """
    check_not_prepared(root)  # observers know how many neurons there were
    graph, _ = Graph.of(root)
    if graph is None:
        return []
    modes = [(module, module.training) for module in root.modules()]
    root.eval()  # a neuron's constant is that of inference
    try:
        with torch.no_grad():
            layers, done = _followed(graph, norms_apart)
            while any(_remove(layer) for layer in layers):
                pass
    finally:
        for module, mode in modes:
            module.training = mode
    for layer in layers:
        left = layer.flow.layer.out_features
        if left < layer.width:
            why = "those that gave nothing, or a constant, are gone"
            done.append(Change(layer.name, SHRUNK, layer.width, left, why))
    return done


def _followed(graph: Graph, norms_apart: Collection[str]) -> tuple[list[_Layer], list[Change]]:
    """The layers whose neurons can go, and of others those that have empty ones."""
    layers: list[_Layer] = []
    stuck: list[Change] = []
    for step in graph.steps:
        layer = step.module
        if step.kind is not Kind.LINEAR or not is_known_linear(layer):
            continue
        flow = follow(graph, step)
        if flow.is_output:
            continue
        why = why_shared(graph, step)
        why = f"it {why}" if why else flow.blocked and f"what it gives {flow.blocked}"
        if flow.norms and step.path in norms_apart:
            why = "what it gives goes into a BatchNorm1d that normalizes another dimension"
        if not why and not all(map(_has_own, [layer, *(reader for reader, _ in flow.readers)])):
            why = "its weights, or those of what reads it, are computed"
        if not why:
            layers.append(_Layer(step.path, flow, layer.out_features))
        elif n := int(_without_inputs(layer).sum()):
            stays = "1 empty neuron stays" if n == 1 else f"{n} empty neurons stay"
            stuck.append(Change(step.path, OTHER, after=f"{stays}, as {why}"))
    return layers, stuck


def _has_own(layer: nn.Linear) -> bool:
    return own_weight(layer) is not None and not parametrize.is_parametrized(layer)


def _without_inputs(layer: nn.Linear) -> Tensor:
    return (layer.weight == 0).all(1)


def _remove(layer: _Layer) -> bool:
    """Remove the empty neurons of one layer; say whether there were any that could go."""
    flow = layer.flow
    constant = _without_inputs(flow.layer)
    unread = torch.stack([(reader.weight == 0).all(0) for reader, _ in flow.readers]).all(0)
    gone = unread | (constant & _is_movable(flow, constant))
    if bool(gone.all()):
        gone[0] = False  # a layer has one neuron at least
    if not bool(gone.any()):
        return False
    move_constants(flow, gone & ~unread)
    shrink(flow, (~gone).nonzero().flatten(), layer.name)
    return True


def _is_movable(flow: Flow, constant: Tensor) -> Tensor:
    """Which constants every reader can do without: they are 0, or go into its bias."""
    movable = constant.clone()
    if not bool(constant.any()):
        return movable
    values = constants(flow)
    for reader, step in flow.readers:
        value = values[step][0]
        takes = reader._parameters.get("bias") is not None  # not one under a mask
        weighted = reader.weight[:, constant] * value[constant]
        if not takes or not bool(torch.isfinite(weighted).all()):
            movable &= value == 0
    return movable
