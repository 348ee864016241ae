"""Which operators of a file are one step together: looked for before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastmnist.onnx.about import KEY
from fastmnist.onnx.expressions import Array, C, Filled, Op, X, find, op
from fastmnist.onnx.formulas import ACTIVATIONS, AFFINE_CODES, DYNAMIC, LAYER_NORMS, PIXELS
from fastmnist.onnx.reading import File, Node

_x = X()
# By kind: the first that is found holds.
_KINDS: dict[str, list[Op]] = {
    "dynamic": DYNAMIC,
    "layer norm": LAYER_NORMS,
    "affine codes": [AFFINE_CODES],
    "pixels": PIXELS,
    **{f"activation {name}": formulas for name, formulas in ACTIVATIONS.items()},
    # torch's softplus, whose beta is 1
    "activation softplus 1": [
        op("Where", op("Greater", _x, C("p1")), _x, op("Softplus", _x)),
    ],
    "affine": [op("Add", op("Mul", _x, C("gain")), C("shift"))],
    "scaler": [op("Div", op("Sub", _x, C("mean")), C("deviation"))],
}
_SHAPES = ("Reshape", "Flatten", "Identity")
_BY_ROOT: dict[str, list[tuple[str, Op]]] = {}
for _kind, _formulas in _KINDS.items():
    for _formula in _formulas:
        _BY_ROOT.setdefault(_formula.kind, []).append((_kind, _formula))


@dataclass(frozen=True, eq=False)
class Found:
    """Operators that are one step: what, what its holes are, and what it reads."""

    kind: str
    filled: Filled
    reads: str
    node: Node


class Matcher:
    """A file, as formulas are looked for in it."""

    def __init__(self, file: File) -> None:
        self.file = file
        self._made_by = {name: node for node in file.nodes for name in node.outputs if name}
        self.readers: dict[str, int] = {}
        for node in file.nodes:
            for name in node.inputs:
                self.readers[name] = self.readers.get(name, 0) + 1
        for port in file.outputs:
            self.readers[port.name] = self.readers.get(port.name, 0) + 1

    def node_of(self, name: str) -> Node | None:
        """The operator that gives a value."""
        return self._made_by.get(name)

    def producer(self, name: str) -> tuple[str, tuple[str, ...], Mapping[str, Any]] | None:
        node = self._made_by.get(name)
        if node is None or node.outputs[0] != name:
            return None
        return node.kind, node.inputs, node.attributes

    def constant(self, name: str) -> Array | None:
        return self.file.constants.get(name)

    def found(self, node: Node) -> Found | None:
        """What ends with this operator."""
        for kind, formula in _BY_ROOT.get(node.kind, ()):
            filled = find(self, node.outputs[0], formula)
            if filled is None:
                continue
            reads = filled.get("x", filled.get("pixels"))
            assert isinstance(reads, str)
            if kind == "pixels" and not self._is_input(reads):
                continue
            if kind in ("affine", "scaler") and not self._is_norm(node, reads):
                continue
            return Found(kind, filled, reads, node)
        return None

    def _is_input(self, name: str) -> bool:
        """Whether it is an input of the file, perhaps in another shape."""
        while (node := self._made_by.get(name)) is not None and node.kind in _SHAPES:
            name = node.inputs[0]
        return name in {port.name for port in self.file.inputs}

    def _is_norm(self, node: Node, reads: str) -> bool:
        """Whether a product and a sum are a norm: not in our files, which say so; and not where
        something else reads what stands between, which is computed anyway then."""
        if KEY in self.file.about:
            return False
        between = [name for name in node.inputs if name not in self.file.constants]
        return len(between) == 1 and self.readers.get(between[0], 0) == 1 and between[0] != reads
