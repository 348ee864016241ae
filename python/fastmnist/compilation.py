"""From a module to one native call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from fastmnist.canonical import QuantizedNetwork
from fastmnist.compiled import CompiledModel
from fastmnist.copies import check_module, has_hooks, plain_copy
from fastmnist.graph import (
    Graph,
    function_clamp,
    is_flatten,
    is_idle_dropout,
    keeps_rows,
    module_clamp,
    only_asks_for_sizes,
)
from fastmnist.modules import QuantizedChain
from fastmnist.planning import plan_mode, using
from fastmnist.quantization import Dynamic, Static, quantize

USE_THE_MODULE = (
    "the quantized module itself runs any model: call the result of fm.quantize(...) instead"
)


def compile(
    model: Any,
    calibration: Any = None,
    *,
    dynamic: bool = False,
    mean: Any = None,
    std: Any = None,
    max_samples: int = 512,
    batch_fn: Callable[[Any], Any] | None = None,
    plan: str | None = None,
) -> CompiledModel:
    """Turn a chain of layers into one native call.

    Parameters
    ----------
    model : torch.nn.Module
        A quantized model, or a float one with `calibration` or ``dynamic=True``. Its forward
        must be a chain of Flatten, Linear, ReLU, ReLU6, Hardtanh, Dropout, Identity and
        BatchNorm1d, modules or functions. Nothing is requantized: the answers are bit for bit
        those of the quantized module.
    calibration : optional
        Data to quantize a float model with, as for :class:`fastmnist.Static`.
    dynamic : bool
        Quantize a float model with :class:`fastmnist.Dynamic`.
    mean, std : float or sequence of float, optional
        What a pixel stands for, as for the two.
    max_samples, batch_fn
        As for :class:`fastmnist.Static`.
    plan : {"measured", "fixed"}, optional
        How kernels are chosen, as for :class:`fastmnist.CompiledModel`.

    Returns
    -------
    CompiledModel

    Raises
    ------
    TypeError, ValueError
        If `plan` is unknown; if `model` is no chain (the module that cannot be taken is named), or
        is float and neither `calibration` nor ``dynamic=True`` is given, or is quantized and one
        of them is.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> net = fm.compile(fm.NeuralNetwork(), dynamic=True)
    >>> net.predict(torch.rand(3, 784)).shape
    torch.Size([3])
    """
    plan_mode(plan)  # refused before anything is done
    options = {"calibration": calibration, "mean": mean, "std": std}
    given = [name for name, value in options.items() if value is not None]
    given += ["dynamic"] if dynamic else []
    if isinstance(model, CompiledModel):
        _refuse_options(given, "a CompiledModel")
        return model if plan in (None, model.plan) else CompiledModel(model.network, plan)
    model = check_module(model)
    with using("fixed"):  # what the modules pack is not kept
        if any(isinstance(module, QuantizedChain) for module in model.modules()):
            _refuse_options(given, "a model that is quantized already")
            quantized = plain_copy(model)
        elif dynamic and calibration is not None:
            raise ValueError("dynamic: expected calibration or dynamic=True, got both")
        elif dynamic:
            quantized = quantize(model, Dynamic(mean, std))
        elif calibration is not None:
            config = Static(calibration, mean, std, max_samples=max_samples, batch_fn=batch_fn)
            quantized = quantize(model, config)
        else:
            raise ValueError(
                "model: expected a quantized model, got a float one: give calibration=data (static "
                "int8) or dynamic=True, or quantize it first with fm.quantize"
            )
        network = network_of(quantized)
    return CompiledModel(network, plan)


def _refuse_options(given: list[str], what: str) -> None:
    if given:
        raise ValueError(f"{given[0]}: expected a float model to quantize, got {what}")


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
