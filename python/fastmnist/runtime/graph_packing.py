"""Graphs laid out for this machine's kernels: the int8 parts planned, all in one buffer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastmnist._core as _core
from fastmnist.int8.graph import Input, NetworkGraph, Value
from fastmnist.int8.network import F32
from fastmnist.runtime.packing import Packed, native_function, pixel_table
from fastmnist.runtime.planning import Plan, pack_and_plan


@dataclass(frozen=True)
class PackedGraph:
    """A graph as ``_core.Model`` takes it.

    Attributes
    ----------
    packed : uint8 array
    plans : tuple of Plan
        Of the int8 parts, in the order of their steps.
    """

    packed: Packed
    plans: tuple[Plan, ...]


def pack_graph(graph: NetworkGraph, mode: str | None = None) -> PackedGraph:
    """Lay a graph out, and choose kernels for its int8 parts."""
    plans: list[Plan] = []
    steps = []
    for step in graph.steps:
        network = None
        if step.network is not None:
            network, plan = pack_and_plan(step.network, mode)
            plans.append(plan)
        number, parameters = native_function(step.function)
        steps.append(
            _core.GraphStep(
                step.kind,
                step.operands,
                step.value,
                network,
                _contiguous(step.weight),
                _contiguous(step.bias),
                number,
                parameters,
                *step.clamp,
                step.epsilon,
                step.begin,
            )
        )
    packed = _core.pack_graph(
        [_native_value(value) for value in graph.values],
        [_native_input(graph, given) for given in graph.inputs],
        steps,
        graph.outputs,
    )
    return PackedGraph(packed, tuple(plans))


def ports_of(graph: NetworkGraph) -> dict[str, Any]:
    """How ``_core.Model`` is to name and shape what goes in and out."""
    return {
        "inputs": [
            (given.name, None if given.any_shape else graph.values[given.value].shape)
            for given in graph.inputs
        ],
        "outputs": [graph.values[value].shape for value in graph.outputs],
        "positional_out": not graph.keyword_out,
        "structure": None if graph.structure is None else Structure(graph.structure),
    }


class Structure:
    """Puts several outputs together as the model hands them back."""

    def __init__(self, how: str | tuple[str, ...]) -> None:
        self._how = how

    def __call__(self, *outputs: object) -> object:
        if self._how == "tuple":
            return outputs
        return [*outputs] if self._how == "list" else dict(zip(self._how, outputs, strict=True))

    def parts(self, out: object) -> tuple[object, ...]:
        """The arrays of an `out` that is put together in the same way.

        Raises
        ------
        TypeError, ValueError
            If it is not.
        """
        if isinstance(self._how, tuple) and isinstance(out, Mapping):
            if set(out) != set(self._how):
                keys, came = ", ".join(self._how), ", ".join(map(str, out))
                raise ValueError(f"out: expected arrays by the keys {keys}, got {came or 'none'}")
            return tuple(out[key] for key in self._how)
        if isinstance(out, tuple | list):
            return tuple(out)
        kind = "a dict" if isinstance(self._how, tuple) else "a tuple"
        raise TypeError(
            f"out: expected {kind} of arrays, one for each output, got {type(out).__name__}"
        )


def pixels_in_place(graph: NetworkGraph, given: Input) -> bool:
    """Whether only int8 networks read an input, all of which take its pixels as they are."""
    readers = [step for step in graph.steps if given.value in step.operands]
    return all(step.network is not None and step.network.pixels == given.pixels for step in readers)


def _native_input(graph: NetworkGraph, given: Input) -> tuple[int, str, F32 | None]:
    if given.pixels is None:
        return given.value, "none", None
    if pixels_in_place(graph, given):
        return given.value, "codes", None
    return given.value, "table", pixel_table(given.pixels)


def _native_value(value: Value) -> tuple[int, int, F32 | None]:
    positions = math.prod(value.shape[:-1])
    return positions, value.width, _contiguous(value.constant)


def _contiguous(array: F32 | None) -> F32 | None:
    return None if array is None else np.ascontiguousarray(array, np.float32)
