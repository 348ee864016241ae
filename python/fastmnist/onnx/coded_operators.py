"""Operators on codes: QDQ and QOperator files, and rows that are quantized by their own range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmnist.onnx.building import Rows
from fastmnist.onnx.folding import Coded, coded_of
from fastmnist.onnx.graph_values import GraphValues
from fastmnist.onnx.matching import Found
from fastmnist.onnx.products import REQUANTIZE, dynamic_layer, quantizer_of
from fastmnist.onnx.reading import Node, Unreadable
from fastmnist.onnx.values import Codes, Decoded, Product, Ranged, Value

MICROSOFT = "com.microsoft."


class CodedOperators(GraphValues):
    """Takes operators on codes."""

    def take(self, node: Node) -> None:
        """Make of an operator what it computes."""
        raise NotImplementedError

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
        about = {k: v for k, v in node.attributes.items() if k in ("alpha", "axis")}
        kind = node.kind.removeprefix(f"{MICROSOFT}QLinear")
        self.take(Node(kind, (name,), (f"{name}/y",), about))
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
        self.take(Node(node.kind.removeprefix(f"{MICROSOFT}QLinear"), tuple(names), (result,), {}))
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
        ones = np.ones(1 if zeros is None else zeros.size, np.float32)
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


CODED_METHODS: dict[str, Callable[[Any, Node], Any]] = {
    "QuantizeLinear": CodedOperators._quantize,
    "DequantizeLinear": CodedOperators._dequantize,
    "QLinearMatMul": CodedOperators._qlinear_matmul,
    f"{MICROSOFT}QGemm": CodedOperators._qgemm,
    **{
        f"{MICROSOFT}QLinear{kind}": CodedOperators._qlinear_of_one
        for kind in ("Sigmoid", "LeakyRelu", "Softmax")
    },
    **{f"{MICROSOFT}QLinear{kind}": CodedOperators._qlinear_join for kind in ("Add", "Mul")},
    "DynamicQuantizeLinear": CodedOperators._ranged,
    "MatMulInteger": CodedOperators._integer_product,
    f"{MICROSOFT}DynamicQuantizeMatMul": CodedOperators._dynamic_matmul,
}
