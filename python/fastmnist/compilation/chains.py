"""A quantized torch model read as one chain of layers."""

from __future__ import annotations

from torch import nn

from fastmnist.int8.network import QuantizedNetwork
from fastmnist.layers.linear import is_float_linear, is_int8_linear
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.steps import Kind, Step

USE_THE_MODULE = (
    "the quantized module itself runs any model: call the result of fm.quantize(...) instead"
)
# What changes no value of a row: codes are handed on as they are.
_SILENT = {Kind.FLATTEN, Kind.ROWS, Kind.PASS, Kind.DROPOUT}


def network_of(model: nn.Module) -> QuantizedNetwork:
    """Read a quantized model as one chain of layers.

    Raises
    ------
    ValueError
        Naming the module or operation that is no part of such a chain.
    """
    _check_no_hooks("", model)
    if is_int8_linear(model):
        return model.network()
    graph, why_not = Graph.of(model)
    if graph is None:
        raise ValueError(
            f"model: expected a chain of layers, got a forward that torch.fx cannot trace "
            f"({why_not}): {USE_THE_MODULE}"
        )
    chain, why_not = graph.chain()
    if why_not:
        raise ValueError(f"model: {why_not}: {USE_THE_MODULE}")
    network: QuantizedNetwork | None = None
    for step in chain:
        network = _append(step, network)
    if network is None:
        raise ValueError(f"model: expected int8 layers, got none: {USE_THE_MODULE}")
    return network


def _check_no_hooks(name: str, module: nn.Module) -> None:
    if has_hooks(module):
        where = f"'{name}'" if name else "the model itself"
        raise ValueError(
            f"model: expected no hooks, got one on {where}, or a __call__ of its own, which one "
            f"native call would not run: remove it; or {USE_THE_MODULE}"
        )


def _append(step: Step, network: QuantizedNetwork | None) -> QuantizedNetwork | None:
    """The network with one more step; None while it has no layer."""
    if step.module is not None:
        _check_no_hooks(step.path, step.module)
    if step.kind in _SILENT:
        return network
    if is_int8_linear(step.module) and step.kind is Kind.INT8:
        layer = step.module.network()
        if network is not None and network.outputs != layer.inputs:
            raise ValueError(
                f"model: expected '{step.path}' to take the {network.outputs} outputs of the "
                f"layer before it, got one of {layer.inputs} inputs: {USE_THE_MODULE}"
            )
        return layer if network is None else network.then(layer)
    if step.clamp is not None and network is not None:
        return network.clamped(step.clamp)
    kind = f" ({type(step.module).__name__})" if step.module is not None else ""
    why = "it is a float layer" if is_float_linear(step.module) else "it is no part of such a chain"
    raise ValueError(
        f"model: expected a chain of Flatten, Linear, ReLU, ReLU6, Hardtanh, Dropout, Identity and "
        f"BatchNorm1d, got '{step.name}'{kind}: {why}; {USE_THE_MODULE}"
    )
