"""What a compiled model keeps of its canonical form: everything except the packed numbers.

The packed form already holds the weights, in another order. Placeholders here have their shapes and
take no memory; the weights are unpacked on request.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import fastmnist._core as _core
from fastmnist.int8.graph import GraphStep, NetworkGraph
from fastmnist.int8.network import QuantizedLayer, QuantizedNetwork


def hollow_network(network: QuantizedNetwork) -> QuantizedNetwork:
    """The network without its weights."""
    return replace(network, layers=tuple(_hollow_layer(layer) for layer in network.layers))


def hollow_graph(graph: NetworkGraph) -> NetworkGraph:
    """The graph without the weights of its layers; tables and constants are few, and stay."""
    return replace(graph, steps=tuple(_hollow_step(step) for step in graph.steps))


def filled_network(model: _core.Model, network: QuantizedNetwork, first: int) -> QuantizedNetwork:
    """The reverse, from the model's layers from `first` on."""
    layers = []
    for i, layer in enumerate(network.layers, first):
        weight, weight_scale, bias = model.unpack(i)
        layers.append(replace(layer, weight=weight, weight_scale=weight_scale, bias=bias))
    return replace(network, layers=tuple(layers))


def filled_graph(model: _core.Model, graph: NetworkGraph) -> NetworkGraph:
    """The reverse, from the packed graph."""
    return replace(graph, steps=tuple(_filled_steps(model, graph)))


def _filled_steps(model: _core.Model, graph: NetworkGraph) -> Iterator[GraphStep]:
    first = 0
    for i, step in enumerate(graph.steps):
        if step.network is not None:
            yield replace(step, network=filled_network(model, step.network, first))
            first += len(step.network.layers)
        elif step.kind == "float":
            weight, bias = model.unpack_floats(i)
            yield replace(step, weight=weight, bias=bias)
        else:
            yield step


def _hollow_step(step: GraphStep) -> GraphStep:
    if step.network is not None:
        return replace(step, network=hollow_network(step.network))
    if step.kind == "float":
        return replace(step, weight=_shape_of(step.weight), bias=_shape_of(step.bias))
    return step


def _hollow_layer(layer: QuantizedLayer) -> QuantizedLayer:
    return replace(
        layer,
        weight=_shape_of(layer.weight),
        weight_scale=_shape_of(layer.weight_scale),
        bias=_shape_of(layer.bias),
    )


def _shape_of(array: npt.NDArray[Any] | None) -> Any:
    assert array is not None
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)
