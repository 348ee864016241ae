"""A graph drawn in text: from its outputs up to its inputs, a step a line. Free of torch.

What a step reads stands below it, in the same column; where it joins several values, all but the
oldest one are branches, and a value that was drawn already is named only::

    y [10]
    └─ #7 head: int8 32 → 10
       #6 add [32]
       ├─ #5 fc2: int8 64 → 32
       │  #4 fc1: int8 32 → 64, GELU
       │  #3 norm: layer_norm [32]
       │  → #2 (below)
       #2 stem: int8 20 → 32
       x [20]
"""

from __future__ import annotations

from collections.abc import Iterator

from fastmnist.int8.graph import GraphStep, NetworkGraph


def tree(graph: NetworkGraph) -> str:
    """The drawing, as lines of text."""
    return "\n".join(_Drawing(graph).lines())


def what(graph: NetworkGraph, step: GraphStep) -> str:
    """A step in a few words: its kind, its sizes, what follows inside of it."""
    if step.network is not None:
        layers = step.network.layers
        widths = " → ".join(str(n) for n in (layers[0].inputs, *(la.outputs for la in layers)))
        functions = [name for name in (layer.activation for layer in layers) if name]
        text = f"int8 {step.network.kind} {widths}"
        return f"{text} ({', '.join(functions)})" if functions else text
    if step.kind == "float" and step.weight is not None:
        outputs, inputs = step.weight.shape
        text = f"float32 {inputs} → {outputs}"
        return f"{text} ({step.activation})" if step.activation else text
    if step.kind in ("activate", "clamp"):
        return step.activation
    if step.kind == "slice":
        end = step.begin + graph.values[step.value].width
        return f"slice {step.begin}:{end}"
    constants = [o for o in step.operands if graph.values[o].constant is not None]
    return f"{step.kind} a constant" if constants else step.kind


def shape_text(shape: tuple[int, ...]) -> str:
    """``[3, 7]``; of a number alone ``[]``."""
    return f"[{', '.join(map(str, shape))}]"


class _Drawing:
    """What was drawn already, and how."""

    def __init__(self, graph: NetworkGraph) -> None:
        self._graph = graph
        self._number = {step.value: i for i, step in enumerate(graph.steps)}
        self._inputs = {given.value: given.name for given in graph.inputs}
        self._drawn: set[int] = set()

    def lines(self) -> Iterator[str]:
        """All outputs, one after the other."""
        structure = self._graph.structure
        for i, value in enumerate(self._graph.outputs):
            name = structure[i] if isinstance(structure, tuple) else "output"
            if structure in ("tuple", "list"):
                name = f"output {i}"
            yield f"{name} {shape_text(self._graph.values[value].shape)}"
            first, rest = "└─ ", "   "
            for line in self._below(value):
                yield first + line
                first = rest

    def _below(self, value: int | None) -> Iterator[str]:
        """The step that gives a value, and everything that it reads."""
        while value is not None:
            if value in self._inputs:
                yield f"{self._inputs[value]} {shape_text(self._graph.values[value].shape)}"
                return
            number = self._number[value]
            if value in self._drawn:
                yield f"→ #{number}"
                return
            self._drawn.add(value)
            step = self._graph.steps[number]
            label = what(self._graph, step)
            named = "" if step.name.rpartition(".")[2] == label else f"{step.name}: "
            yield f"#{number} {named}{label} {shape_text(self._graph.values[value].shape)}"
            read = sorted(
                {o for o in step.operands if self._graph.values[o].constant is None},
                key=lambda o: self._number.get(o, -1),
            )
            value = read[0] if read else None
            for branch in reversed(read[1:]):
                first, rest = "├─ ", "│  "
                for line in self._below(branch):
                    yield first + line
                    first = rest
