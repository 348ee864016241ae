"""A quantized torch model read as one chain of layers."""

from __future__ import annotations

from torch import fx, nn

from fastmnist.int8.network import QuantizedNetwork
from fastmnist.layers.quantized import QuantizedChain
from fastmnist.rewriting.graph import (
    Graph,
    function_clamp,
    is_flatten,
    is_idle_dropout,
    keeps_rows,
    module_clamp,
    only_asks_for_sizes,
)
from fastmnist.rewriting.hooks import has_hooks


def network_of(model: nn.Module) -> QuantizedNetwork:
    """Read a quantized model as one chain of layers.

    Raises
    ------
    ValueError
        Naming the module or operation that is no part of such a chain.
    """
    _check_no_hooks("", model)
    if isinstance(model, QuantizedChain):
        return model.network()
    graph, why_not = Graph.of(model)
    if graph is None:
        raise ValueError(
            f"model: expected a chain of layers, got a forward that torch.fx cannot trace "
            f"({why_not}): {USE_THE_MODULE}"
        )
    placeholders = [n for n in graph.nodes if n.op == "placeholder" and n.users]
    if len(placeholders) != 1:
        raise ValueError(f"model: expected one input, got {len(placeholders)}: {USE_THE_MODULE}")
    network: QuantizedNetwork | None = None
    node = placeholders[0]
    while (user := _next(node)).op != "output":
        network = _append(graph, user, network)
        node = user
    if network is None or user.args[0] is not node:
        raise ValueError(f"model: expected one output, a tensor: {USE_THE_MODULE}")
    return network


def _check_no_hooks(name: str, module: nn.Module) -> None:
    if has_hooks(module):
        where = f"'{name}'" if name else "the model itself"
        raise ValueError(
            f"model: expected no hooks, got one on {where}, which one native call would not run: "
            f"remove it; or {USE_THE_MODULE}"
        )


def _next(node: fx.Node) -> fx.Node:
    users = [user for user in node.users if not only_asks_for_sizes(user)]
    if len(users) != 1:
        raise ValueError(
            f"model: expected a chain of layers, but the value of '{node.name}' is used "
            f"{len(users)} times: {USE_THE_MODULE}"
        )
    return users[0]


def _append(
    graph: Graph, node: fx.Node, network: QuantizedNetwork | None
) -> QuantizedNetwork | None:
    """The network with one more step; None while it has no layer."""
    module = graph.module(node)
    if module is not None:
        _check_no_hooks(str(node.target), module)
    if keeps_rows(module) or is_flatten(node) or is_idle_dropout(node):
        return network
    if isinstance(module, QuantizedChain):
        if network is not None and network.outputs != module.in_features:
            raise ValueError(
                f"model: expected '{node.target}' to take the {network.outputs} outputs of the "
                f"layer before it, got one of {module.in_features} inputs: {USE_THE_MODULE}"
            )
        return module.network() if network is None else network.then(module.network())
    clamp = module_clamp(module) if module is not None else function_clamp(node)
    if clamp is not None and network is not None:
        return network.clamped(clamp)
    what = f"'{node.target}'" if module is not None else f"'{node.name}'"
    kind = f" ({type(module).__name__})" if module is not None else ""
    why = (
        "it is a float layer" if isinstance(module, nn.Linear) else "it is no part of such a chain"
    )
    raise ValueError(
        f"model: expected a chain of Flatten, Linear, ReLU, ReLU6, Hardtanh, Dropout, Identity and "
        f"BatchNorm1d, got {what}{kind}: {why}; {USE_THE_MODULE}"
    )


USE_THE_MODULE = (
    "the quantized module itself runs any model: call the result of fm.quantize(...) instead"
)
