"""Empty neurons, which compressed files leave out of chains of int8 layers.

There it costs no bit. The sums of float layers round otherwise once some of their terms are gone,
zeros or not: those :func:`fastmnist.prune` removes, where it is asked to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from fastmnist.compilation.graphs import network_of
from fastmnist.int8.empty_neurons import without_empty_neurons
from fastmnist.int8.network import QuantizedLayer, QuantizedNetwork
from fastmnist.layers.linear import is_int8_linear
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.steps import Kind
from fastmnist.rewriting.swapping import put


def leave_out_empty_neurons(model: nn.Module) -> None:
    """Remove them from a plain copy itself, where a trace shows who reads them.

    They stay where the model's own code asks for the widths, as a ``view(-1, 96)`` between does.
    """
    layers = _chain_of_int8(model)
    answers = _answers(model, layers)
    if answers is None:
        return
    _shrink(model, layers)
    if (now := _answers(model, layers)) is None or not torch.equal(answers, now):
        for path, layer in layers.items():
            put(model, path, layer)


def _answers(model: nn.Module, layers: Mapping[str, QuantizedLinear]) -> Tensor | None:
    """Outputs for two rows; None where there is nothing to call, or the model refuses them."""
    for first in layers.values():
        rows = torch.linspace(0, 1, 2 * first.in_features).view(2, -1)
        with torch.no_grad():
            try:
                outputs = model(rows)
            except Exception:  # a user's forward may raise anything for other widths
                return None
        return outputs if isinstance(outputs, Tensor) else None
    return None


def _chain_of_int8(model: nn.Module) -> dict[str, QuantizedLinear]:
    """The layers of a model that is a chain of nothing but int8 ones, each called once."""
    graph, _ = Graph.of(model)
    if graph is None:
        return {}
    chain, why_not = graph.chain()
    layers = {s.path: s.module for s in chain if is_int8_linear(s.module) and s.kind is Kind.INT8}
    steps = sum(step.kind is Kind.INT8 for step in chain)
    others = any(step.kind in (Kind.LINEAR, Kind.CLAMP, Kind.NORM, Kind.OTHER) for step in chain)
    if why_not or others or len({id(layer) for layer in layers.values()}) < max(2, steps):
        return {}
    return layers


def _shrink(model: nn.Module, layers: Mapping[str, QuantizedLinear]) -> None:
    try:
        network = network_of(model)
    except ValueError:  # hooks, or static beside dynamic: somebody else's business
        return
    smaller = without_empty_neurons(network)
    for (path, layer), left in zip(layers.items(), smaller.layers, strict=True):
        own = layer.network()
        if left.weight.shape != own.layers[0].weight.shape:
            put(model, path, _like(layer, own, left))


def _like(layer: QuantizedLinear, own: QuantizedNetwork, left: QuantizedLayer) -> QuantizedLinear:
    network = replace(own, layers=(replace(left, name=layer.name),))
    made = QuantizedLinear(network, bias=layer.bias is not None, follows_norm=layer.follows_norm)
    made.kept = layer.kept.holds_of(left.weight)
    return made
