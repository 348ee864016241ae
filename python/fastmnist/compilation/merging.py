"""A graph as it was read made into one as it runs: chains joined, what does nothing left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fastmnist.int8.graph import GraphStep, Input, NetworkGraph, Value
from fastmnist.int8.network import QuantizedNetwork, compose


def merged(graph: NetworkGraph) -> NetworkGraph:
    """Join what can be one step, and number anew what is left."""
    inputs, steps, values = _inputs_as_read(graph)
    steps = _joined(steps, {*graph.outputs})
    return _renumbered(replace(graph, inputs=inputs, values=values), steps)


def _inputs_as_read(
    graph: NetworkGraph,
) -> tuple[tuple[Input, ...], list[GraphStep], tuple[Value, ...]]:
    """Let an input have the shape that all its readers give it: flattening is nothing then."""
    values, steps, inputs = [*graph.values], [*graph.steps], []
    for given in graph.inputs:
        readers = [step for step in steps if given.value in step.operands]
        shapes = {values[step.value].shape for step in readers if step.kind == "reshape"}
        only = len(shapes) == 1 and all(step.kind == "reshape" for step in readers)
        if only and not {step.value for step in readers} & {*graph.outputs}:
            (shape,) = shapes
            values[given.value] = Value(shape)
            same = {step.value: given.value for step in readers}
            steps = [_reading(step, same) for step in steps if step.value not in same]
            given = replace(given, any_shape=True)
        inputs.append(given)
    return tuple(inputs), steps, tuple(values)


def _reading(step: GraphStep, instead: dict[int, int]) -> GraphStep:
    return replace(step, operands=tuple(instead.get(o, o) for o in step.operands))


def _joined(steps: Sequence[GraphStep], outputs: set[int]) -> list[GraphStep]:
    """Put steps into the layers before them, where nothing else reads those."""
    users = Counter(operand for step in steps for operand in step.operands)
    done: dict[int, GraphStep] = {}  # by the value that it gives, in order
    for step in steps:
        before = done.get(step.operands[0])
        if before is not None and users[before.value] == 1 and before.value not in outputs:
            together = _together(before, step)
            if together is not None:
                del done[before.value]
                done[step.value] = together
                continue
        done[step.value] = step
    return [*done.values()]


def _together(before: GraphStep, step: GraphStep) -> GraphStep | None:
    """Both as one step that gives what the second one does; None where they stay two."""
    if before.kind == "int8" and before.network is not None:
        network = _network_of_both(before.network, step)
        named = before.name if step.network is None else f"{before.name} … {step.name}"
        if network is None:
            return None
        return replace(before, name=named, value=step.value, network=network)
    if before.kind not in ("float", "clamp") or before.function is not None:
        return None
    if step.kind == "clamp":
        return replace(before, value=step.value, clamp=compose(before.clamp, step.clamp))
    if step.kind == "activate" and before.kind == "float":
        return replace(before, value=step.value, function=step.function)
    return None


def _network_of_both(network: QuantizedNetwork, step: GraphStep) -> QuantizedNetwork | None:
    free = network.layers[-1].function is None
    if step.kind == "clamp" and free:
        return network.clamped(step.clamp)
    if step.kind == "activate" and free and step.function is not None:
        return network.activated(step.function)
    if step.network is None or step.network.kind == "affine":
        return None
    if (network.kind == "dynamic") != (step.network.kind == "dynamic"):
        return None  # from rows of floats, each by its own rule
    return network.then(step.network)


def _renumbered(graph: NetworkGraph, steps: Sequence[GraphStep]) -> NetworkGraph:
    """Leave out steps whose values nothing reads, and values that are gone."""
    needed = {*graph.outputs}
    kept: list[GraphStep] = []
    for step in reversed(steps):
        if step.value in needed:
            needed |= {*step.operands}
            kept.append(step)
    kept.reverse()
    order = [given.value for given in graph.inputs]
    order += sorted(v for v in needed if graph.values[v].constant is not None)
    order += [step.value for step in kept]
    number = {value: i for i, value in enumerate(order)}
    return NetworkGraph(
        tuple(graph.values[value] for value in order),
        tuple(replace(given, value=number[given.value]) for given in graph.inputs),
        tuple(replace(_reading(step, number), value=number[step.value]) for step in kept),
        tuple(number[value] for value in graph.outputs),
        graph.structure,
        graph.keyword_out,
    )
