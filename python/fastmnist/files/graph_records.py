"""A graph as plain JSON and arrays, and back, trusting neither.

The arrays of step `i` are called ``steps.<i>.…``: of an int8 part those of its layers
(:mod:`fastmnist.files.records`), else ``weight`` and ``bias``; a value that is the same for all
rows is ``values.<i>``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist.files.fields import required_field, required_tensor
from fastmnist.files.records import (
    Arrays,
    clamp_from_json,
    clamp_to_json,
    function_from_json,
    function_to_json,
    network_arrays,
    network_from,
    network_from_arrays,
    network_to_json,
    pixels_from_json,
    pixels_to_json,
)
from fastmnist.int8.graph import KINDS, GraphStep, Input, NetworkGraph, Value
from fastmnist.int8.network import F32, NO_CLAMP, QuantizedNetwork

_MOST = 4096  # steps, and values beside theirs
_MOST_NUMBERS = 1 << 26  # of a value
_STRUCTURES = (None, "tuple", "list")
_Arrays = Mapping[str, npt.NDArray[Any]]


# ---- to JSON -------------------------------------------------------------------------------------


def graph_arrays(graph: NetworkGraph, prefix: str) -> Arrays:
    """All numbers of a graph."""
    arrays: Arrays = {}
    for i, value in enumerate(graph.values):
        if value.constant is not None:
            arrays[f"{prefix}values.{i}"] = np.ascontiguousarray(value.constant)
    for i, step in enumerate(graph.steps):
        if _twin(graph, i) is not None:
            continue
        if step.network is not None:
            arrays |= network_arrays(step.network, f"{prefix}steps.{i}.")
        for name, array in (("weight", step.weight), ("bias", step.bias)):
            if array is not None:
                arrays[f"{prefix}steps.{i}.{name}"] = np.ascontiguousarray(array)
    return arrays


def graph_to_json(graph: NetworkGraph) -> dict[str, Any]:
    """What :func:`graph_arrays` leaves out."""
    structure = graph.structure
    return {
        "values": [
            {"shape": [*value.shape], **({"constant": True} if value.constant is not None else {})}
            for value in graph.values
        ],
        "inputs": [
            {
                "name": given.name,
                "value": given.value,
                "pixels": pixels_to_json(given.pixels),
                "any_shape": given.any_shape,
            }
            for given in graph.inputs
        ],
        "steps": [_step_to_json(step, _twin(graph, i)) for i, step in enumerate(graph.steps)],
        "outputs": [*graph.outputs],
        **({"keyword_out": True} if graph.keyword_out else {}),
        "structure": [*structure] if isinstance(structure, tuple) else structure,
    }


def _twin(graph: NetworkGraph, i: int) -> int | None:
    """The first step with the very numbers of step `i`, as of a layer that is called twice."""
    step = graph.steps[i]
    if step.network is None and step.weight is None and step.bias is None:
        return None
    same = (k for k in range(i) if _have_same_numbers(graph.steps[k], step))
    return next(same, None)


def _have_same_numbers(one: GraphStep, other: GraphStep) -> bool:
    if one.kind != other.kind or (one.network is None) != (other.network is None):
        return False
    if one.network is not None and other.network is not None:
        if network_to_json(one.network) != network_to_json(other.network):
            return False
        ours, theirs = network_arrays(one.network, ""), network_arrays(other.network, "")
        return ours.keys() == theirs.keys() and all(
            np.array_equal(ours[key], theirs[key]) for key in ours
        )
    pairs = ((one.weight, other.weight), (one.bias, other.bias))
    return all(
        a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs
    )


def _step_to_json(step: GraphStep, twin: int | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": step.kind,
        "name": step.name,
        "operands": [*step.operands],
        "value": step.value,
    }
    if twin is not None:
        told["numbers_of"] = twin
    elif step.network is not None:
        told["network"] = network_to_json(step.network)
    if step.clamp != NO_CLAMP:
        told["clamp"] = clamp_to_json(step.clamp)
    told |= function_to_json(step.function)
    if step.kind == "layer_norm":
        told["epsilon"] = float(step.epsilon)
    if step.begin:
        told["begin"] = step.begin
    return told


# ---- from JSON -----------------------------------------------------------------------------------


def graph_from_arrays(arrays: _Arrays, prefix: str, description: Any) -> NetworkGraph:
    """Rebuild a graph; that its sizes fit together is checked where it is packed.

    Raises
    ------
    ValueError
        Naming the tensor or field that is missing or not as it should be.
    """
    values = [
        _value(arrays, f"{prefix}values.{i}", told)
        for i, told in enumerate(_some(description, "values"))
    ]
    inputs = [_input(told) for told in _some(description, "inputs")]
    steps: list[GraphStep] = []
    for i, told in enumerate(_some(description, "steps")):
        steps.append(_step(arrays, f"{prefix}steps.{i}.", told, steps))
    outputs = [_index(value, "outputs") for value in _some(description, "outputs")]
    structure = description.get("structure")
    if isinstance(structure, list) and all(isinstance(key, str) for key in structure):
        structure = tuple(structure)
        if len(structure) != len(outputs):
            raise ValueError(f"structure: expected {len(outputs)} keys, got {len(structure)}")
    elif structure not in _STRUCTURES:
        raise ValueError(f"structure: expected tuple, list or keys, got {structure!r}")
    graph = NetworkGraph(
        tuple(values),
        tuple(inputs),
        tuple(steps),
        tuple(outputs),
        structure,
        description.get("keyword_out") is True,
    )
    _check_indexes(graph)
    return graph


def compiled_to(network: QuantizedNetwork | NetworkGraph) -> tuple[dict[str, Any], Arrays]:
    """Give a compiled model's description and arrays."""
    if isinstance(network, NetworkGraph):
        return {"type": "compiled", "graph": graph_to_json(network)}, graph_arrays(
            network, "graph."
        )
    told = {"type": "compiled", "network": network_to_json(network)}
    return told, network_arrays(network, "network.")


def compiled_from(description: dict[str, Any], arrays: Arrays) -> QuantizedNetwork | NetworkGraph:
    """Read one model's record as a graph, or as a chain of int8 layers.

    Raises
    ------
    ValueError
        If the record is damaged, or is neither.
    """
    if "graph" in description:
        prefix = "graph."
        if description.get("type") == "module":  # whose own tensors have the names without a dot
            prefix = ".graph."
            arrays = {**arrays, **_same(description, arrays)}
        graph = graph_from_arrays(arrays, prefix, required_field(description, "graph", dict))
        return graph.as_network() or graph
    return network_from(description, arrays)


def _same(description: dict[str, Any], arrays: Arrays) -> Arrays:
    """The graph's arrays that are the module's own."""
    found: Arrays = {}
    for key, own in required_field(description, "same", dict).items():
        if key in arrays or own not in arrays:
            raise ValueError(f"same: expected names of tensors, got '{key}' as {own!r}")
        found[key] = arrays[own]
    return found


def _some(description: Any, field: str) -> list[Any]:
    rows: list[Any] = required_field(description, field, list)
    if not 1 <= len(rows) <= 2 * _MOST:
        raise ValueError(f"{field}: expected 1 to {2 * _MOST}, got {len(rows)}")
    return rows


def _index(value: Any, field: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{field}: expected indexes, got {value!r}")
    return value


def _value(arrays: _Arrays, name: str, told: Any) -> Value:
    sizes = required_field(told, "shape", list)
    shape = tuple(_index(size, "shape") for size in sizes)
    if len(shape) > 7 or not 1 <= math.prod(shape) <= _MOST_NUMBERS:
        raise ValueError(f"shape: expected 1 to {_MOST_NUMBERS} numbers, got {sizes}")
    if told.get("constant") is not True:
        return Value(shape)
    return Value(shape, required_tensor(arrays, name, np.float32, shape))


def _input(told: Any) -> Input:
    return Input(
        required_field(told, "name", str),
        _index(told.get("value"), "value"),
        pixels_from_json(told.get("pixels")),
        required_field(told, "any_shape", bool),
    )


def _step(arrays: _Arrays, prefix: str, told: Any, before: list[GraphStep]) -> GraphStep:
    kind = required_field(told, "kind", str)
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got '{kind}'")
    epsilon = told.get("epsilon", 0.0)
    is_number = isinstance(epsilon, int | float) and not isinstance(epsilon, bool)
    if not is_number or not 0 <= epsilon <= float(np.finfo(np.float32).max):
        raise ValueError(f"epsilon: expected a finite number from 0 on, got {epsilon!r}")
    network, weight, bias = None, _table(arrays, f"{prefix}weight"), _table(arrays, f"{prefix}bias")
    if "numbers_of" in told:
        twin = _index(told["numbers_of"], "numbers_of")
        if twin >= len(before) or before[twin].kind != kind:
            raise ValueError(f"numbers_of: expected a step before this one, got {twin}")
        network, weight, bias = before[twin].network, before[twin].weight, before[twin].bias
    elif kind == "int8":
        about = required_field(told, "network", dict)
        network = network_from_arrays(arrays, prefix, about)
    return GraphStep(
        kind,
        required_field(told, "name", str),
        tuple(_index(i, "operands") for i in required_field(told, "operands", list)),
        _index(told.get("value"), "value"),
        network,
        weight,
        bias,
        function_from_json(told),
        clamp_from_json(told) if "clamp" in told else NO_CLAMP,
        float(epsilon),
        _index(told.get("begin", 0), "begin"),
    )


def _table(arrays: _Arrays, name: str) -> F32 | None:
    array = arrays.get(name)
    if array is None:
        return None
    return required_tensor(arrays, name, np.float32, (None,) * array.ndim)


def _check_indexes(graph: NetworkGraph) -> None:
    count = len(graph.values)
    named = [given.value for given in graph.inputs] + [*graph.outputs]
    for step in graph.steps:
        named += [step.value, *step.operands]
        if not step.operands:
            raise ValueError(f"operands: expected some for '{step.name}', got none")
        if step.kind == "float" and (step.weight is None or step.weight.ndim != 2):
            raise ValueError(f"weight: expected two dimensions for '{step.name}'")
    if max(named) >= count:
        raise ValueError(f"values: expected indexes below {count}, got {max(named)}")
    if not {*graph.outputs} <= {step.value for step in graph.steps}:
        raise ValueError("outputs: expected values that steps give, got others")
