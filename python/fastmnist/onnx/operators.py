"""What each operator of a file becomes: one method for each kind of step that several share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fastmnist.onnx.building import Rows
from fastmnist.onnx.coded_operators import CODED_METHODS, CodedOperators
from fastmnist.onnx.elementwise import FUNCTIONS, JOINS, activation_module, module_of, prelu
from fastmnist.onnx.expressions import Array
from fastmnist.onnx.folding import fold_one
from fastmnist.onnx.formulas import parameters_of
from fastmnist.onnx.graph_values import ADVICE
from fastmnist.onnx.matching import Found
from fastmnist.onnx.norms import batch_norm, layer_norm, scaled
from fastmnist.onnx.reading import Node, Unreadable
from fastmnist.onnx.shapes import SHAPES
from fastmnist.onnx.values import Codes, Decoded, Product, Ranged, Sizes
from fastmnist.pixels import PixelNormalization


class Operators(CodedOperators):
    """Takes operators one by one, in the order of the file."""

    # ---- steps -----------------------------------------------------------------------------------

    def take(self, node: Node) -> None:
        """Make of an operator what it computes."""
        kind = node.kind
        made: Any
        arrays = [self.constant(name) for name in node.inputs]
        if arrays and all(a is not None or not n for a, n in zip(arrays, node.inputs, strict=True)):
            # Of sizes that are known only now.
            made = fold_one(node, arrays, 4096)
            if made is None:
                raise Unreadable(f"expected an input of {node} that depends on the file's input")
            self.file.constants[node.outputs[0]] = made
            return
        if (method := _METHODS.get(kind)) is not None:
            made = method(self, node)
        elif kind in SHAPES:
            made = self._shape(node)
        elif kind in JOINS:
            made = self._join(node)
        elif kind in FUNCTIONS:
            x = self.rows(node.input(0), node)
            made = self.building.call(FUNCTIONS[kind], x, shape=x.shape)
        else:
            module = module_of(node, arrays, self.file.opset)
            if module is None:
                raise Unreadable(f"expected operators of an MLP, got {node}: {ADVICE}")
            x = self.rows(node.input(0), node)
            made = self.building.layer(module, x, x.shape, kind.lower())
        if isinstance(made, Sizes) and (known := made.known()) is not None:
            self.file.constants[node.outputs[0]] = known
            return
        parts = made if isinstance(made, list) else [made]
        self._values.update(zip(node.outputs, parts, strict=False))

    def take_found(self, found: Found) -> None:
        """Make of operators that are one step what they compute together."""
        filled, node, building = found.filled, found.node, self.building
        made: Any
        if found.kind == "pixels":
            made = self._real_pixels(found)
        elif found.kind == "affine codes":
            x = self.rows(found.reads, node)
            made = Codes(x, 1.0, 0, filled["multiplier"], filled["offset"])
        elif found.kind == "dynamic":
            made = self._by_row(found)
        elif found.kind == "layer norm":
            x = self.rows(found.reads, node)
            made = layer_norm(building, x, filled, node)
        elif found.kind in ("affine", "scaler"):
            made = scaled(building, self.rows(found.reads, node), found)
        else:
            name = found.kind.split()[1]
            filled = {"p0": np.float32(1), **filled} if name == "softplus" else filled
            parameters = parameters_of(filled)
            x = self.rows(found.reads, node)
            if parameters is None:
                raise Unreadable(f"expected numbers as parameters of {name} at {node}, got arrays")
            made = activation_module(building, x, name, parameters)
        self._values[node.outputs[0]] = made

    def _real_pixels(self, found: Found) -> Rows:
        """What pixels stand for: the model's own rows, where fastmnist wrote the file."""
        value, filled = self.value(found.reads, found.node), found.filled
        is_pixels = isinstance(value, Codes) and value.are_pixels
        x = value.of if isinstance(value, Codes) and is_pixels else self.rows(found.reads, "Cast")
        told = self._pixels_of.get(self._shapes.origin(x).node) if is_pixels else None
        if told is not None and _means(told, found, x.shape):
            return Rows(x.node, x.shape)
        if is_pixels:
            x = self._raw(x)
        if found.node.kind == "Cast":
            return x
        made = self.building.call(torch.div, x, 255.0, shape=x.shape)
        for function, key in ((torch.sub, "mean"), (torch.div, "std")):
            if key in filled:
                constant = self.building.constant(filled[key], key)
                made = self.building.call(function, made, constant, shape=x.shape)
        return made

    def _raw(self, x: Rows) -> Rows:
        """uint8 rows as floats, which is then what pixels mean."""
        origin = self._shapes.origin(x).node
        raw = PixelNormalization.of_range("0..255")
        self._pixels_of[origin] = raw
        for name, value in self._values.items():
            if name in self.meaning and isinstance(value, Codes) and value.of.node is origin:
                self.meaning[name] = raw
        return self.building.method("float", x, shape=x.shape)

    def _matmul(self, node: Node) -> Rows:
        if self.constant(node.input(1)) is None:
            raise Unreadable(f"expected constant weights as the second input of {node}: {ADVICE}")
        made = self.product(node, node.input(0), node.input(1), "", True)
        self.building.takes_bias(made)
        return made

    def _gemm(self, node: Node) -> Rows:
        about = node.attributes
        if about.get("transA", 0) or self.constant(node.input(1)) is None:
            raise Unreadable(f"expected rows times constant weights of {node}, got a product of "
                             f"rows: {ADVICE}")  # fmt: skip
        alpha, beta = about.get("alpha", 1.0), about.get("beta", 1.0)
        weight, bias = node.input(1), node.input(2)
        if (alpha, beta) != (1.0, 1.0):
            if weight in self.coded and isinstance(self.value(node.input(0), node), Decoded):
                raise Unreadable(f"expected alpha and beta 1 of {node}, got {alpha:g}, {beta:g}")
            weight, bias = self._times(weight, alpha, node), self._times(bias, beta, node)
        return self.product(node, node.input(0), weight, bias, not about.get("transB", 0))

    def _times(self, name: str, factor: float, node: Node) -> str:
        """A constant times a number, under a name of its own."""
        if not name:
            return ""
        made = f"{name}/times {factor}"
        self.file.constants[made] = self.array(name, node) * np.float32(factor)
        return made

    def _join(self, node: Node) -> Any:
        one, other = node.input(0), node.input(1)
        for x, constant in ((one, other), (other, one)):
            value, array = self._values.get(x), self.constant(constant)
            if node.kind == "Mul" and isinstance(value, Ranged) and value.what == "scale":
                return self._scale(node, value, constant)
            if node.kind == "Mul" and isinstance(value, Product):
                return self._product_of_ranges(node, value, self._values.get(constant), x)
            if node.kind != "Add" or array is None or not isinstance(value, Rows):
                continue
            if self.matcher.readers.get(x, 0) == 1 and self.building.add_bias(value, array):
                return value
        return self._shapes.join(node, [self._operand(name, node) for name in (one, other)])

    def _operand(self, name: str, node: Node) -> Rows | Array | Sizes:
        array = self.constant(name)
        if array is not None:
            return array
        value = self.value(name, node)
        return value if isinstance(value, Sizes) else self.rows(name, node)

    # ---- shapes and the rest ---------------------------------------------------------------------

    def _shape(self, node: Node) -> Any:
        arrays = [self.constant(name) for name in node.inputs]
        values = [
            self._values.get(name) if array is None else None
            for name, array in zip(node.inputs, arrays, strict=True)
        ]
        first = values[0] if values else None
        if isinstance(first, Codes | Decoded) and node.kind in ("Reshape", "Flatten", "Identity"):
            codes = first if isinstance(first, Codes) else first.codes
            moved = self._shapes.take(node, [codes.of, *values[1:]], arrays)
            made = Codes(moved, codes.scale, codes.zero_point, codes.multiplier, codes.offset,
                         codes.are_pixels)  # fmt: skip
            if isinstance(first, Codes):
                return made
            return Decoded(made, first.scale, first.zero_point)
        ready: list[Any] = []
        for name, value, array in zip(node.inputs, values, arrays, strict=True):
            keep = value if array is not None or isinstance(value, Sizes) or not name else None
            ready.append(keep if keep is not None or array is not None or not name
                         else self.rows(name, node))  # fmt: skip
        return self._shapes.take(node, ready, arrays)

    def _cast(self, node: Node) -> Any:
        value = self.value(node.input(0), node)
        if (
            isinstance(value, Codes)
            and value.are_pixels
            and node.attributes.get("to") in (1, 10, 11)
        ):
            return self._raw(value.of)
        if isinstance(value, Rows) and not value.is_index:
            if node.attributes.get("to") not in (1, 10, 11, 16):
                raise Unreadable(f"expected floats of {node}, got a cast to another type: {ADVICE}")
            return value
        return value

    def _batch_norm(self, node: Node) -> Rows:
        arrays = [self.array(node.input(i), node) for i in range(1, 5)]
        return batch_norm(self.building, self.rows(node.input(0), node), arrays, node)

    def _layer_norm(self, node: Node) -> Rows:
        x = self.rows(node.input(0), node)
        axis = node.attributes.get("axis", -1)
        over = x.shape[axis if axis < 0 else axis - 1 :] if axis else ()
        filled = {"epsilon": node.attributes.get("epsilon", 1e-5), "over": over}
        filled["weight"] = self.array(node.input(1), node)
        if node.input(2):
            filled["bias"] = self.array(node.input(2), node)
        return layer_norm(self.building, x, filled, node)

    def _scaler(self, node: Node) -> Rows:
        offset, scale = (
            np.array(node.attributes.get(key, default), np.float32)
            for key, default in (("offset", (0.0,)), ("scale", (1.0,)))
        )
        filled = {"mean": offset, "factor": scale}
        found = Found("scaler", filled, node.input(0), node)
        return scaled(self.building, self.rows(node.input(0), node), found)

    def _prelu(self, node: Node) -> Rows:
        x = self.rows(node.input(0), node)
        return prelu(self.building, x, self.constant(node.input(1)), node)

    def _same(self, node: Node) -> Any:
        return self.value(node.input(0), node)


def _means(told: PixelNormalization, found: Found, shape: tuple[int, ...]) -> bool:
    """Whether operators compute what pixels are said to stand for."""
    filled = found.filled
    if found.node.kind == "Cast":
        return told.is_raw
    if "mean" not in filled:
        return told.is_identity
    size = int(np.prod(shape))
    if size % told.channels:
        return False
    wanted = told.per_feature(size)
    for key, values in zip(("mean", "std"), wanted, strict=True):
        got = filled[key]
        spread = got if got.size == 1 else np.broadcast_to(got, shape).reshape(-1)
        if not np.array_equal(
            np.broadcast_to(spread.reshape(-1), (size,)), values.astype(np.float32)
        ):
            return False
    return True


_METHODS: dict[str, Callable[[Any, Node], Any]] = {
    "MatMul": Operators._matmul,
    "Gemm": Operators._gemm,
    **CODED_METHODS,
    "Cast": Operators._cast,
    "PRelu": Operators._prelu,
    "BatchNormalization": Operators._batch_norm,
    "LayerNormalization": Operators._layer_norm,
    "ai.onnx.ml.Scaler": Operators._scaler,
    "ai.onnx.ml.ZipMap": Operators._same,
    "Dropout": Operators._same,
}  # fmt: skip
