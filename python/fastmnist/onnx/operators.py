"""What each operator of a file becomes: one method for each kind of step that several share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from fastmnist.onnx.building import Building, Rows
from fastmnist.onnx.elementwise import FUNCTIONS, JOINS, activation_module, module_of
from fastmnist.onnx.expressions import Array
from fastmnist.onnx.folding import Coded, coded_of
from fastmnist.onnx.formulas import parameters_of
from fastmnist.onnx.matching import Found, Matcher
from fastmnist.onnx.norms import batch_norm, layer_norm, scaled
from fastmnist.onnx.products import (
    REQUANTIZE,
    dynamic_layer,
    float_layer,
    int8_layer,
    quantizer_of,
    rows_of,
)
from fastmnist.onnx.reading import File, Node, Port, Unreadable
from fastmnist.onnx.shapes import SHAPES, Shapes
from fastmnist.onnx.values import Codes, Decoded, Product, Ranged, Sizes, Value
from fastmnist.pixels import PixelNormalization

_UINT8 = 2
_MS = "com.microsoft."
ADVICE = (
    "export the part of Linear layers and activations alone; ONNX Runtime runs the whole file"
)


class Operators:
    """Takes operators one by one, in the order of the file.

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
        pixels: Mapping[str, PixelNormalization],
    ) -> None:
        self.file, self.matcher = file, matcher
        self.coded, self.told = coded, pixels
        self.building = Building()
        self.meaning: dict[str, PixelNormalization | None] = {}
        self._pixels_of: dict[Any, PixelNormalization | None] = {}  # by the input's node
        self._values: dict[str, Value] = {}
        self._as_rows: dict[str, Rows] = {}
        self._shapes = Shapes(self.building)

    # ---- values ----------------------------------------------------------------------------------

    def enter(self, port: Port, shape: tuple[int, ...]) -> None:
        """Take an input."""
        rows = self.building.input(port.name, shape)
        self.meaning[port.name] = self._pixels_of[rows.node] = self.told.get(port.name)
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

    # ---- steps -----------------------------------------------------------------------------------

    def take(self, node: Node) -> None:
        """Make of an operator what it computes."""
        kind = node.kind
        if (method := _METHODS.get(kind)) is not None:
            made: Any = method(self, node)
        elif kind in SHAPES:
            made = self._shape(node)
        elif kind in JOINS:
            made = self._join(node)
        elif kind in FUNCTIONS:
            x = self.rows(node.input(0), node)
            made = self.building.call(FUNCTIONS[kind], x, shape=x.shape)
        else:
            module = module_of(node, [self.constant(name) for name in node.inputs], self.file.opset)
            if module is None:
                raise Unreadable(f"expected operators of an MLP, got {node}: {ADVICE}")
            x = self.rows(node.input(0), node)
            made = self.building.layer(module, x, x.shape, kind.lower())
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

    def _by_row(self, found: Found) -> Rows:
        filled, node = found.filled, found.node
        codes, sums = filled["weight"], filled["sums"]
        same = codes.ndim == 2 and codes.dtype == np.int8
        if not same or not np.array_equal(codes.sum(axis=0, dtype=np.int64), sums.reshape(-1)):
            raise Unreadable(f"expected the sums of int8 weights at {node}, got others")
        scale = filled["weight_scale"].astype(np.float32).reshape(-1)
        weight = Coded(codes.T.astype(np.int32), scale, 0)
        x = self.rows(found.reads, node)
        pixels = self._pixels_of.get(self._shapes.origin(x).node)
        name = self._name_of(self._integer_weight(found)) or "linear"
        bias = filled.get("bias")
        return dynamic_layer(self.building, x, weight, bias, name, node, pixels)

    def _integer_weight(self, found: Found) -> str:
        weight = found.filled["weight"]
        names = (name for name, array in self.file.constants.items() if array is weight)
        return next(names, "")

    def _name_of(self, name: str) -> str:
        """What a layer is called, by its weights' name."""
        for ending in ("_quantized", "_Transposed", "_DequantizeLinear_Output", ".weight"):
            name = name.removesuffix(ending)
        return name.removesuffix("/weight").removesuffix("/DequantizeLinear").removesuffix(".weight")

    # ---- products --------------------------------------------------------------------------------

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
        names = [node.input(1), node.input(2)]
        if (alpha, beta) != (1.0, 1.0):
            if names[0] in self.coded and isinstance(self.value(node.input(0), node), Decoded):
                raise Unreadable(f"expected alpha and beta 1 of {node}, got {alpha:g}, {beta:g}")
            for i, factor in enumerate((alpha, beta)):
                if names[i]:
                    scaled_one = self.array(names[i], node) * np.float32(factor)
                    names[i] = f"{names[i]}/times"
                    self.file.constants[names[i]] = scaled_one
        return self.product(node, node.input(0), *names, not about.get("transB", 0))

    def _join(self, node: Node) -> Any:
        one, other = node.input(0), node.input(1)
        for x, constant in ((one, other), (other, one)):
            value, array = self._values.get(x), self.constant(constant)
            if node.kind == "Mul" and isinstance(value, Ranged) and value.what == "scale":
                return self._scale(node, value, constant)
            if node.kind == "Mul" and isinstance(value, Product):
                return self._product_of_ranges(node, value, self._values.get(constant), x)
            if node.kind == "Add" and array is not None and isinstance(value, Rows):
                if self.matcher.readers.get(x, 0) == 1 and self.building.add_bias(value, array):
                    return value
        return self._shapes.join(node, [self._operand(name, node) for name in (one, other)])

    def _operand(self, name: str, node: Node) -> Rows | Array | Sizes:
        array = self.constant(name)
        if array is not None:
            return array
        value = self.value(name, node)
        return value if isinstance(value, Sizes) else self.rows(name, node)

    # ---- codes -----------------------------------------------------------------------------------

    def _quantize(self, node: Node) -> Codes:
        value = self.value(node.input(0), node)
        scale, zero = (self.constant(node.input(i)) for i in (1, 2))
        step, zero_point = quantizer_of(scale, zero, node)
        if isinstance(value, Decoded) and (value.scale, value.zero_point) == (step, zero_point):
            return value.codes
        return Codes(self.rows(node.input(0), node), step, zero_point)

    def _dequantize(self, node: Node) -> Decoded:
        value = self.value(node.input(0), node)
        if not isinstance(value, Codes):
            raise Unreadable(f"expected codes for {node}, got floats")
        scale, zero = (self.constant(node.input(i)) for i in (1, 2))
        return Decoded(value, *quantizer_of(scale, zero, node))

    def _decoded(self, node: Node, x: int) -> Decoded:
        """Codes, scale and zero point that stand one behind the other among the inputs."""
        value = self.value(node.input(x), node)
        if not isinstance(value, Codes):
            raise Unreadable(f"expected codes for {node}, got floats")
        arrays = [self.constant(node.input(i)) for i in (x + 1, x + 2)]
        return Decoded(value, *quantizer_of(arrays[0], arrays[1], node))

    def _coded(self, node: Node, first: int, axis: int) -> str:
        """Constant codes with scale and zero point behind them, as a weight; give its name."""
        names = [node.input(first + i) for i in range(3)]
        arrays = [self.array(name, node) if name else None for name in names]
        made = coded_of(Node(node.kind, node.inputs, node.outputs, {"axis": axis}), arrays)
        assert isinstance(self.coded, dict)
        self.coded[names[0]] = made
        self.file.constants[f"{names[0]}/real"] = made.values
        self.coded[f"{names[0]}/real"] = made
        return f"{names[0]}/real"

    def _qlinear_matmul(self, node: Node) -> Codes:
        self._values[f"{node.outputs[0]}/x"] = self._decoded(node, 0)
        weight = self._coded(node, 3, 1)
        rows = self.product(node, f"{node.outputs[0]}/x", weight, "", True)
        return self._coded_result(node, rows, 6)

    def _qgemm(self, node: Node) -> Codes | Rows:
        about = node.attributes
        if about.get("transA", 0) or about.get("alpha", 1.0) != 1.0:
            raise Unreadable(f"expected rows times weights of {node}, got transA or alpha")
        x = self._decoded(node, 0)
        self._values[f"{node.outputs[0]}/x"] = x
        by_row = bool(about.get("transB", 0))
        weight = self._coded(node, 3, 0 if by_row else 1)
        bias = ""
        if node.input(6):
            scale = np.float32(x.scale) * self.coded[weight].scale
            bias = f"{node.outputs[0]}/bias"
            self.file.constants[bias] = self.array(node.input(6), node) * scale
        rows = self.product(node, f"{node.outputs[0]}/x", weight, bias, not by_row)
        return self._coded_result(node, rows, 7) if node.input(7) else rows

    def _coded_result(self, node: Node, rows: Rows, first: int) -> Codes:
        scale, zero = (self.constant(node.input(first + i)) for i in (0, 1))
        return Codes(rows, *quantizer_of(scale, zero, node))

    def _qlinear_of_one(self, node: Node) -> Codes:
        """An activation from codes to codes."""
        name = f"{node.outputs[0]}/x"
        self._values[name] = self._decoded(node, 0)
        plain = Node(node.kind.removeprefix(f"{_MS}QLinear"), (name,), (f"{name}/y",),
                     {k: v for k, v in node.attributes.items() if k in ("alpha", "axis")})  # fmt: skip
        self.take(plain)
        return self._coded_result(node, self.rows(f"{name}/y", node), 3)

    def _qlinear_join(self, node: Node) -> Codes:
        names = []
        for i in (0, 3):
            name = f"{node.outputs[0]}/{i}"
            if self.constant(node.input(i)) is not None:
                self.file.constants[name] = self.file.constants[self._coded(node, i, 0)]
            else:
                self._values[name] = self._decoded(node, i)
            names.append(name)
        result = f"{node.outputs[0]}/y"
        self.take(Node(node.kind.removeprefix(f"{_MS}QLinear"), tuple(names), (result,), {}))
        return self._coded_result(node, self.rows(result, node), 6)

    def _ranged(self, node: Node) -> list[Value]:
        x = self.rows(node.input(0), node)
        return [Ranged(x, what) for what in ("codes", "scale", "zero point")]

    def _integer_product(self, node: Node) -> Product:
        x, zero = self.value(node.input(0), node), self._values.get(node.input(2))
        right = isinstance(x, Ranged) and isinstance(zero, Ranged) and zero.of is x.of
        if not right or x.what != "codes" or zero.what != "zero point":  # type: ignore[union-attr]
            raise Unreadable(
                f"expected {node} of what DynamicQuantizeLinear gives, got others: {REQUANTIZE}"
            )
        codes, zeros = self.array(node.input(1), node), self.constant(node.input(3))
        ones = np.ones(1, np.float32)
        return Product(x.of, coded_of(Node(node.kind, (), node.outputs, {"axis": 1}),
                                      [codes, ones, None if zeros is None else zeros]))  # fmt: skip

    def _scale(self, node: Node, value: Ranged, name: str) -> Ranged:
        times = self.array(name, node).astype(np.float32)
        return Ranged(value.of, "scale", times if value.times is None else value.times * times)

    def _product_of_ranges(self, node: Node, value: Product, scale: Any, name: str) -> Rows:
        if not isinstance(scale, Ranged) or scale.of is not value.of or scale.times is None:
            raise Unreadable(f"expected the scales of rows and weights at {node}, got others")
        weight = Coded(value.weight.codes.T, scale.times.reshape(-1), 0)
        pixels = self._pixels_of.get(self._shapes.origin(value.of).node)
        made = self.matcher.node_of(name)
        while made is not None and made.kind != "MatMulInteger":
            made = self.matcher.node_of(made.input(0))
        label = self._name_of(made.input(1)) if made is not None else "linear"
        rows = dynamic_layer(self.building, value.of, weight, None, label, node, pixels)
        self.building.takes_bias(rows)
        return rows

    def _dynamic_matmul(self, node: Node) -> Rows:
        x, weight = self.rows(node.input(0), node), self.array(node.input(1), node)
        arrays = [weight, self.array(node.input(2), node), self.constant(node.input(3))]
        coded = coded_of(Node(node.kind, (), node.outputs, {"axis": 1}), arrays).transposed()
        label, bias = self._name_of(node.input(1)), self.constant(node.input(4))
        return dynamic_layer(self.building, x, coded, bias, label, node, None)

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
        if isinstance(value, Codes) and value.are_pixels and node.attributes.get("to") in (1, 10, 11):
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
        if not np.array_equal(np.broadcast_to(spread.reshape(-1), (size,)), values.astype(np.float32)):
            return False
    return True


_METHODS: dict[str, Callable[[Operators, Node], Any]] = {
    "MatMul": Operators._matmul,
    "Gemm": Operators._gemm,
    "QuantizeLinear": Operators._quantize,
    "DequantizeLinear": Operators._dequantize,
    f"{_MS}QuantizeLinear": Operators._quantize,
    f"{_MS}DequantizeLinear": Operators._dequantize,
    "QLinearMatMul": Operators._qlinear_matmul,
    f"{_MS}QGemm": Operators._qgemm,
    **{f"{_MS}QLinear{kind}": Operators._qlinear_of_one
       for kind in ("Sigmoid", "LeakyRelu", "Softmax")},
    **{f"{_MS}QLinear{kind}": Operators._qlinear_join for kind in ("Add", "Mul")},
    "DynamicQuantizeLinear": Operators._ranged,
    "MatMulInteger": Operators._integer_product,
    f"{_MS}DynamicQuantizeMatMul": Operators._dynamic_matmul,
    "Cast": Operators._cast,
    "BatchNormalization": Operators._batch_norm,
    "LayerNormalization": Operators._layer_norm,
    "ai.onnx.ml.Scaler": Operators._scaler,
    "ai.onnx.ml.ZipMap": Operators._same,
    "Dropout": Operators._same,
}  # fmt: skip
