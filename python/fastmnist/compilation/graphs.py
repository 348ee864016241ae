"""A torch module read as a canonical graph: its trace, step by step."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastmnist.compilation.builder import USE_THE_MODULE, Builder, Refused
from fastmnist.compilation.merging import merged
from fastmnist.compilation.operations import check_modules, translate
from fastmnist.compilation.running import (
    CannotRun,
    Seen,
    inputs_of,
    made_up_rows,
    noise_like,
    repeated,
    run_on,
)
from fastmnist.int8.graph import GraphStep, Input, NetworkGraph
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.registry import kind_of
from fastmnist.pixels import PixelNormalization, model_pixels
from fastmnist.rewriting.graph import Graph, Traces
from fastmnist.rewriting.hooks import has_hooks
from fastmnist.rewriting.steps import Kind, Step


@dataclass(frozen=True)
class Reading:
    """A model that was read.

    Attributes
    ----------
    graph : NetworkGraph
    rows : tuple of tensors
        A few rows of noise for each input.
    outputs : list of tensors
        What the model gives for them.
    """

    graph: NetworkGraph
    rows: tuple[Any, ...]
    outputs: list[Tensor]


def read(
    model: nn.Module,
    rows: Mapping[str, Any] | None = None,
    pixels: PixelNormalization | None = None,
) -> Reading:
    """Read a model, quantized or float, as one graph.

    Parameters
    ----------
    rows : dict of str to tensor, optional
        Rows like those that it will be called with, by the names of forward's arguments.
    pixels : PixelNormalization, optional
        What a uint8 pixel stands for, where its layers do not tell.

    Raises
    ------
    ValueError
        Naming the step that cannot be part of one native call.
    """
    _check_no_hooks("", model)
    graph = _traced(model, rows)
    check_modules(graph.steps)
    given = made_up_rows(graph) if rows is None else rows
    missing = [s.node.target for s in inputs_of(graph) if given.get(str(s.node.target)) is None]
    if missing:
        raise ValueError(f"example: expected rows of '{missing[0]}', too, got none")
    for step in inputs_of(graph):
        rows_of_it = given[str(step.node.target)]
        if isinstance(rows_of_it, Tensor) and rows_of_it.shape[:1] == (0,):
            raise ValueError(
                f"example: expected at least one row of '{step.node.target}', got none"
            )
    seen = _seen(graph, given)
    noise = noise_like(given)
    if (answers := repeated(graph, model, noise)) is None:
        raise ValueError(
            "model: expected a forward that gives the same each time that it gets the same rows, "
            f"got one that does not, or that keeps something from call to call: {USE_THE_MODULE}"
        )
    builder = Builder(seen)
    inputs = []
    for step in inputs_of(graph):
        if step.node not in seen.shapes:
            raise Refused(step, "expected a tensor of rows as input")
        value = builder.value(seen.shapes[step.node])
        builder.of[step.node] = value
        inputs.append(Input(str(step.node.target), value))
    _check_writes(graph)
    for step in graph.steps:
        if step.module is not None:
            _check_no_hooks(step.path, step.module)
        _check_no_indexes(builder, step)
        is_value = step.node in seen.shapes or step.node in seen.parts or step.node in seen.uneven
        if is_value and step.users and step.kind not in (Kind.INPUT, Kind.OUTPUT, Kind.SIZES):
            builder.of[step.node] = translate(builder, step)
            _check_dtype(builder, step)
    outputs, structure = _outputs(builder, graph.steps[-1])
    whole = NetworkGraph(
        tuple(builder.values), tuple(inputs), tuple(builder.steps), outputs, structure
    )
    whole = replace(whole, keyword_out=_takes_more(model, {given.name for given in inputs}))
    made = _with_pixels(merged(whole), pixels or model_pixels(model))
    return Reading(made, tuple(noise[given.name] for given in inputs), answers)


def _takes_more(model: nn.Module, read: Collection[str]) -> bool:
    """Whether forward takes arguments by position that it does not read, or not as it was traced:
    whoever calls the network like the model must not have them written to as `out`."""
    by_position = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    parameters = inspect.signature(model.forward).parameters
    return any(p.kind in by_position and name not in read for name, p in parameters.items())


def network_of(model: nn.Module) -> QuantizedNetwork:
    """Read a quantized model as one chain of int8 layers.

    Raises
    ------
    ValueError
        Naming the step that is no part of such a chain.
    """
    network = read(as_model(model)).graph.as_network()
    if network is None:
        raise ValueError(f"model: expected a chain of int8 layers, got more: {USE_THE_MODULE}")
    return network


def as_model(model: nn.Module) -> nn.Module:
    """A layer alone is a model of one layer."""
    alone = kind_of(model) is not None or is_known_linear(model)
    return nn.Sequential(model) if alone else model


def _traced(model: nn.Module, rows: Mapping[str, Any] | None) -> Graph:
    # Optional arguments have their defaults, unless there are rows of them.
    traces = Traces.of(model)
    way = traces.ways.get("without")
    if "with" in traces.ways:
        named = {str(step.node.target) for step in inputs_of(traces.ways["with"])}
        given = {name for name, value in (rows or {}).items() if value is not None}
        if way is None or (rows is not None and named <= given):
            way = traces.ways["with"]
    if way is None:
        raise ValueError(
            f"model: expected layers and joins, got a forward that torch.fx cannot trace "
            f"({traces.why_not}): {USE_THE_MODULE}"
        )
    return way


def _seen(graph: Graph, rows: Mapping[str, Any]) -> Seen:
    try:
        return run_on(graph, rows)
    except CannotRun as error:
        shapes = {name: [*getattr(value, "shape", ())] for name, value in rows.items()}
        raise ValueError(
            f"model: expected it to run on rows of shapes {shapes}, and {error}: give example= "
            f"(rows like those that it will be called with); or {USE_THE_MODULE}"
        ) from error


def _check_no_hooks(name: str, module: nn.Module) -> None:
    if has_hooks(module):
        where = f"'{name}'" if name else "the model itself"
        raise ValueError(
            f"model: expected no hooks, got one on {where}, or a __call__ of its own, which one "
            f"native call would not run: remove it; or {USE_THE_MODULE}"
        )


def _check_dtype(builder: Builder, step: Step) -> None:
    """Refuse what is not float32, as what is multiplied with float64 is; indexes are int64."""
    dtype = builder.seen.dtypes.get(step.node, torch.float32)
    if dtype is not torch.float32 and step.function != "argmax":
        raise Refused(step, f"it gives {dtype}, and one native call computes in float32")


def _check_no_indexes(builder: Builder, step: Step) -> None:
    """Refuse to compute with what arg max gives: indexes are outputs only."""
    if step.kind is Kind.OUTPUT:
        return
    indexes = {made.value for made in builder.steps if made.kind == "argmax"}
    for source in step.inputs:
        value = builder.of.get(source.node)
        if isinstance(value, int) and value in indexes:
            raise Refused(step, f"it computes with the indexes that '{source.name}' gives")


# ---- what writes into its input ------------------------------------------------------------------

_VIEWS = {"view", "view_as", "reshape", "reshape_as", "flatten", "unflatten", "transpose",
          "swapaxes", "swapdims", "permute", "unsqueeze", "squeeze", "getitem", "chunk", "split",
          "tensor_split", "detach", "contiguous", "float"}  # fmt: skip


def _check_writes(graph: Graph) -> None:
    """Refuse a step that writes into a value that is read again, under its old name, later."""
    memory: dict[fx.Node, fx.Node] = {}  # whose memory a value lies in
    position = {step.node: i for i, step in enumerate(graph.steps)}
    written: list[Step] = []
    for step in graph.steps:
        node = step.node
        if node.kwargs.get("out") is not None:
            raise Refused(step, "it writes into out=: use the form that returns a new tensor")
        source = step.inputs[0].node if step.inputs else None
        for before in written:
            target = memory[before.node]
            for read in step.inputs:
                again = memory.get(read.node) is target and read.node is not before.node
                if again and position[read.node] < position[before.node]:
                    raise Refused(
                        before,
                        f"it writes into '{before.inputs[0].node.name}', which '{step.name}' reads "
                        "after that: use the form that returns a new tensor",
                    )
        shares = source is not None and (_writes(step) or _is_view(step))
        memory[node] = memory.get(source, source) if shares and source is not None else node
        if _writes(step):
            written.append(step)


def _is_view(step: Step) -> bool:
    if step.kind in (Kind.FLATTEN, Kind.ROWS, Kind.PASS, Kind.DROPOUT):
        return True
    if step.module is not None:
        return isinstance(step.module, nn.Flatten | nn.Unflatten)
    return step.function in _VIEWS


def _writes(step: Step) -> bool:
    if not step.inputs:
        return False
    if step.module is not None:
        return bool(getattr(step.module, "inplace", False))
    name = step.function
    by_name = (name.endswith("_") and not name.endswith("__")) or name in (
        "iadd", "isub", "imul", "itruediv",
    )  # fmt: skip
    return by_name or step.node.kwargs.get("inplace") is True


# ---- what goes in and out ------------------------------------------------------------------------


def _outputs(builder: Builder, step: Step) -> tuple[tuple[int, ...], str | tuple[str, ...] | None]:
    """The values that are handed back, each by a step of its own, and how."""
    given: Any = step.node.args[0]
    structure: str | tuple[str, ...] | None = None
    parts: list[Any] = [given]
    if isinstance(given, dict):
        if not all(isinstance(key, str) for key in given):
            raise ValueError(f"model: expected text as keys of its outputs: {USE_THE_MODULE}")
        structure, parts = tuple(given), [*given.values()]
    elif isinstance(given, tuple | list):
        structure, parts = "list" if isinstance(given, list) else "tuple", [*given]
    if not parts:
        raise ValueError(f"model: expected outputs, got none: {USE_THE_MODULE}")
    values: list[int] = []
    fresh = {made.value for made in builder.steps}
    for part in parts:
        if not isinstance(part, fx.Node) or not isinstance(builder.of.get(part), int):
            what = f"'{part.name}'" if isinstance(part, fx.Node) else repr(part)
            raise ValueError(
                f"model: expected outputs that are tensors with a row for each of the input's, "
                f"got {what}: {USE_THE_MODULE}"
            )
        value = builder.read(step, part)
        if value in values and any(s.kind == "argmax" and s.value == value for s in builder.steps):
            raise ValueError(
                f"model: expected the indexes '{part.name}' once among its outputs, got them "
                f"twice: {USE_THE_MODULE}"
            )
        if value not in fresh or value in values:
            shape = builder.shape(value)
            shaped = builder.reshaped(value, shape or (1,), part.name)
            value = builder.add("concat", part.name, [shaped], shape or (1,))
            value = builder.reshaped(value, shape, part.name)
        values.append(value)
    return tuple(values), structure


def _with_pixels(graph: NetworkGraph, told: PixelNormalization | None) -> NetworkGraph:
    """Say of each input what its pixels stand for, and of int8 parts which of them read pixels."""
    inputs = []
    reading: dict[int, PixelNormalization] = {}
    for given in graph.inputs:
        readers = [step for step in graph.steps if given.value in step.operands]
        layers = {step.network.pixels if step.network else None for step in readers}
        known = layers.pop() if len(layers) == 1 else told
        pixels = known or told
        size = graph.values[given.value].size
        if pixels is not None and size % pixels.channels:
            pixels = None
        inputs.append(replace(given, pixels=pixels))
        if pixels is not None:
            reading[given.value] = pixels
    return replace(graph, inputs=tuple(inputs), steps=tuple(_of_floats(graph, reading)))


def _of_floats(graph: NetworkGraph, reading: Mapping[int, PixelNormalization]) -> list[GraphStep]:
    """Int8 parts that read no input take no pixels."""
    steps = []
    for step in graph.steps:
        network = step.network
        if network is not None and network.pixels != reading.get(step.operands[0]):
            step = replace(step, network=replace(network, pixels=None))
        steps.append(step)
    return steps
