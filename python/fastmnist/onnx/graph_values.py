"""The values of a file as they become known, and the layers that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmnist.onnx.about import About
from fastmnist.onnx.building import Building, Rows
from fastmnist.onnx.expressions import Array
from fastmnist.onnx.folding import Coded
from fastmnist.onnx.matching import Matcher
from fastmnist.onnx.products import float_layer, int8_layer, rows_of
from fastmnist.onnx.reading import File, Node, Port, Unreadable
from fastmnist.onnx.shapes import Shapes
from fastmnist.onnx.values import Codes, Decoded, Value
from fastmnist.pixels import PixelNormalization

_UINT8 = 2
ADVICE = "export the part of Linear layers and activations alone; ONNX Runtime runs the whole file"


class GraphValues:
    """What is known of a file's values.

    Attributes
    ----------
    building : Building
    meaning : dict of str to PixelNormalization or None
        What pixels of each input stand for.
    """

    def __init__(
        self,
        file: File,
        matcher: Matcher,
        coded: Mapping[str, Coded],
        about: About,
    ) -> None:
        self.file, self.matcher = file, matcher
        self.coded, self.about = coded, about
        self.building = Building()
        self.meaning: dict[str, PixelNormalization | None] = {}
        self._pixels_of: dict[Any, PixelNormalization | None] = {}  # by the input's node
        self._values: dict[str, Value] = {}
        self._as_rows: dict[str, Rows] = {}
        self._shapes = Shapes(self.building)

    def enter(self, port: Port, shape: tuple[int, ...]) -> None:
        """Take an input."""
        rows = self.building.input(port.name, shape)
        told = self.about.pixels.get(port.name)
        self.meaning[port.name] = self._pixels_of[rows.node] = told
        if port.name in self.about.flattened and len(shape) == 1:
            rows = self._shapes.flattened(rows)
        self._shapes.note_rows(port.shape[0])
        is_uint8 = port.element == _UINT8
        self._values[port.name] = Codes(rows, 1.0, 0, are_pixels=True) if is_uint8 else rows

    def value(self, name: str, what: object) -> Any:
        """A value that depends on an input."""
        if name not in self._values:
            raise Unreadable(f"expected an input of {what} that depends on the file's input")
        return self._values[name]

    def rows(self, name: str, what: object) -> Rows:
        """A value as rows of floats."""
        value = self.value(name, what)
        if isinstance(value, Rows):
            return value
        if isinstance(value, Decoded):
            if name not in self._as_rows:
                self._as_rows[name] = rows_of(self.building, value, Node("", (), (name,), {}))
            return self._as_rows[name]
        raise Unreadable(f"expected rows of floats for {what}, got codes or sizes: {ADVICE}")

    def constant(self, name: str) -> Array | None:
        """An array, or None if the name is left out or depends on the input."""
        return self.file.constants.get(name) if name else None

    def array(self, name: str, node: Node) -> Array:
        """An array that must be constant."""
        if (found := self.constant(name)) is None:
            raise Unreadable(f"expected a constant as input '{name}' of {node}, got none")
        return found

    def _name_of(self, name: str) -> str:
        """What a layer is called, by its weights' name."""
        while (made := self.matcher.node_of(name)) is not None and made.input(0):
            name = made.input(0)  # through DequantizeLinear, or a transposition
        for ending in ("_quantized", "_Transposed", "_DequantizeLinear_Output", ".weight"):
            name = name.removesuffix(ending)
        return (
            name.removesuffix("/weight").removesuffix("/DequantizeLinear").removesuffix(".weight")
        )

    def product(self, node: Node, x_name: str, weight: str, bias: str, flip: bool) -> Rows:
        """A layer; `flip`: the weights are ``[inputs, outputs]``."""
        matrix, x = self.array(weight, node), self.value(x_name, node)
        name = self._name_of(weight)
        own_bias = self.array(bias, node) if bias else None
        coded = self.coded.get(weight)
        if isinstance(x, Decoded) and coded is not None:
            codes = coded.transposed() if flip and coded.codes.ndim == 2 else coded
            pixels = self._pixels_of.get(self._shapes.origin(x.codes.of).node)
            return int8_layer(self.building, x, codes, own_bias, name, node, pixels)
        rows = self.rows(x_name, node)
        if matrix.dtype.kind != "f" or not np.isfinite(matrix).all():
            raise Unreadable(f"expected finite float weights of {node}, got {matrix.dtype}")
        matrix = matrix.T if flip and matrix.ndim == 2 else matrix
        return float_layer(self.building, rows, matrix, own_bias, name, node)
