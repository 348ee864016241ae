"""What a compiled graph runs: a drawing, its memory, its int8 layers. Free of torch."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import fastmnist._core as _core
from fastmnist.display.tables import Table
from fastmnist.int8.graph import NetworkGraph
from fastmnist.runtime.explanation import checked_rows, explained_parts
from fastmnist.runtime.graph_packing import pack_graph
from fastmnist.runtime.graph_picture import picture
from fastmnist.runtime.graph_tree import shape_text, tree, what
from fastmnist.runtime.layer_table import LayerTable
from fastmnist.runtime.planning import Plan

_LINE = 64  # bytes, of the cache
_COLUMNS = ["step", "what", "reads", "gives", "memory of a row"]


class GraphExplanation(Table):
    """A drawing of a graph, the table of its steps, and the kernels of each int8 part.

    Attributes
    ----------
    tree : str
        The graph in text.
    svg : str
        The graph as a picture, shown in notebooks.
    int8 : LayerTable or None
        The int8 layers of all parts, as :meth:`fastmnist.CompiledModel.explain` gives them for a
        chain; None where there are none.
    """

    def __init__(self, title: str, tree: str, svg: str, int8: LayerTable | None) -> None:
        super().__init__(title, _COLUMNS)
        self.tree, self.svg, self.int8 = tree, svg, int8

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        yield Text(self.tree)
        yield from super().__rich_console__(console, options)
        if self.int8 is not None:
            yield self.int8

    def _repr_html_(self) -> str:
        int8 = "" if self.int8 is None else self.int8._repr_html_()
        text = f"<details><summary>as text</summary><pre>{html.escape(self.tree)}</pre></details>"
        return f"{self.svg}{text}{super()._repr_html_()}{int8}"

    def plot(self) -> Any:
        """Draw how long each int8 layer takes in a matplotlib Figure.

        Raises
        ------
        ValueError
            If there are no int8 layers; the graph itself is drawn in `svg`.
        ImportError
            If matplotlib is not installed.
        """
        if self.int8 is None:
            raise ValueError("plot: expected a graph with int8 layers, got none: see .svg")
        return self.int8.plot()

    def to_markdown(self) -> str:
        """Return the drawing and all tables as GitHub Markdown."""
        int8 = [] if self.int8 is None else [self.int8.to_markdown()]
        return "\n".join([f"```text\n{self.tree}\n```\n", super().to_markdown(), *int8])

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the picture as plain lists and text."""
        int8 = None if self.int8 is None else self.int8.to_dict()
        return {**super().to_dict(), "tree": self.tree, "int8": int8}


def described(graph: NetworkGraph) -> str:
    """The graph in a few words."""
    goes_in = ", ".join(str(graph.values[given.value].size) for given in graph.inputs)
    comes_out = ", ".join(str(graph.values[value].size) for value in graph.outputs)
    int8 = sum(len(network.layers) for network in graph.networks)
    floats = sum(step.kind == "float" for step in graph.steps)
    others = sum(step.kind not in ("int8", "float") for step in graph.steps)
    parts = [f"{goes_in} → {comes_out}"]
    parts += [_count(int8, "int8 layer")] if int8 else []
    parts += [_count(floats, "float32 layer")] if floats else []
    parts += [_count(others, "other step")] if others else []
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def explained_graph(
    graph: NetworkGraph, plans: Sequence[Plan], rows: Sequence[int]
) -> GraphExplanation:
    """See :meth:`fastmnist.CompiledModel.explain`."""
    rows = checked_rows(rows)
    parts = [*zip(graph.networks, plans, strict=True)]
    isa = _core.cpu_info()["isa"]
    title = f"int8 layers, plan: {plans[0].mode}, kernels up to {isa}" if parts else ""
    int8 = explained_parts(parts, rows, title) if parts else None
    scratch, block, places = _core.graph_memory(pack_graph(graph, "fixed").packed)
    table = GraphExplanation(described(graph), tree(graph), picture(graph), int8)
    number = {step.value: i for i, step in enumerate(graph.steps)}
    names = {given.value: given.name for given in graph.inputs}
    for i, step in enumerate(graph.steps):
        reads = [
            "a constant"
            if graph.values[o].constant is not None
            else names.get(o) or f"#{number[o]}"
            for o in step.operands
        ]
        place, offset = places[step.value]
        size = 4 * graph.values[step.value].size
        memory = f"bytes {offset:,} to {offset + size - 1:,}" if place == "scratch" else place
        table.row(
            f"#{i} {step.name}",
            what(graph, step),
            ", ".join(dict.fromkeys(reads)),
            shape_text(graph.values[step.value].shape),
            memory,
        )
    apart = [graph.values[s.value].size for s in graph.steps if places[s.value][0] == "scratch"]
    lines = sum(-(-4 * size // _LINE) * _LINE for size in apart)
    table.note(
        f"memory between steps: {scratch:,} bytes a row, in lines of {_LINE}, planned once (each "
        f"value apart would take {lines:,}); up to {block} rows go through all steps together"
        + ("; int8 parts take codes beside it" if parts else "")
    )
    table.note("the tree above begins with the outputs; what a step reads stands below it")
    for given in graph.inputs:
        told = "refused" if given.pixels is None else f"pixel p stands for {given.pixels.formula}"
        table.note(f"uint8 rows of {given.name}: {told}")
    return table
