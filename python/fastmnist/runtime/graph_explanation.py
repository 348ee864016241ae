"""What a compiled graph runs. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence

from fastmnist.display.tables import Table
from fastmnist.int8.graph import NetworkGraph
from fastmnist.runtime.explanation import explained
from fastmnist.runtime.planning import Plan


def described(graph: NetworkGraph) -> str:
    """The graph in a few words."""
    int8 = sum(len(network.layers) for network in graph.networks)
    floats = sum(step.kind == "float" for step in graph.steps)
    parts = [f"{int8} int8 layers"] if int8 else []
    parts += [f"{floats} float32 layers"] if floats else []
    return ", ".join([*parts, f"{len(graph.steps)} steps"])


def explained_graph(graph: NetworkGraph, plans: Sequence[Plan], rows: Sequence[int]) -> Table:
    raise NotImplementedError
