"""The steps of a canonical graph as ONNX operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmnist.int8.graph import JOINS, GraphStep, NetworkGraph
from fastmnist.onnx.activations import write_activation, write_clamp
from fastmnist.onnx.formulas import LAYER_NORMS
from fastmnist.onnx.layers import write_float_layer, write_network
from fastmnist.onnx.writer import Writer

Shape = tuple[int, ...]
_JOINS = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div"}
_BY_ROW = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}


class Steps:
    """Writes steps one by one.

    Attributes
    ----------
    names : dict of int to str
        What each value is called in the file.
    pixels : dict of int to str
        The same of inputs as uint8 pixels.
    """

    def __init__(self, graph: NetworkGraph, writer: Writer) -> None:
        self.graph, self.writer = graph, writer
        self.names: dict[int, str] = {}
        self.pixels: dict[int, str] = {}
        self._count = ""

    def reshaped(self, x: str, shape: Shape, name: str) -> str:
        """The same numbers of each row in another shape; 0: as many rows as there are."""
        target = self.writer.constant("shape", np.array([0, *shape], np.int64))
        return self.writer.node("Reshape", [x, target], name)

    def write(self, step: GraphStep) -> None:
        """Put a step behind the others."""
        shape = self.graph.values[step.value].shape
        if step.kind in JOINS:
            made = self._join(step, shape)
        elif step.kind == "concat":
            parts = [self._value(o, step.name) for o in step.operands]
            made = self.writer.node("Concat", parts, step.name, axis=-1)
        else:
            made = self._of_one(step, shape)
        self.names[step.value] = made

    def _of_one(self, step: GraphStep, shape: Shape) -> str:
        """A step that reads one value. Rows of a single number are made rows of one."""
        (operand,) = step.operands
        own = self.graph.values[operand].shape
        if step.network is not None and operand in self.pixels and step.network.pixels is not None:
            x, is_codes = self.pixels[operand], True
        else:
            x, is_codes = self._value(operand, step.name), False
        by_last = step.kind not in ("activate", "clamp", "slopes", "affine", "reshape")
        if by_last and not own:
            x, own = self.reshaped(x, (1,), step.name), (1,)
        if step.network is not None:
            made = write_network(self.writer, step.network, x, is_codes=is_codes)
            return made if shape else self.reshaped(made, shape, step.name)
        made, came = self._written(step, x, own, shape)
        return made if came == shape else self.reshaped(made, shape, step.name)

    def _written(self, step: GraphStep, x: str, own: Shape, shape: Shape) -> tuple[str, Shape]:
        """What a step gives, and in which shape."""
        writer, kind, name = self.writer, step.kind, step.name
        if kind == "float":
            assert step.weight is not None
            made = write_float_layer(writer, step, x, len(own) == 1)
            return made, (*own[:-1], len(step.weight))
        if kind == "activate":
            return write_activation(writer, x, step.function, name), own
        if kind == "clamp":
            made = write_clamp(writer, x, step.clamp, name)
            return (made if made != x else writer.node("Identity", [x], name)), own
        if kind == "slopes":
            return writer.node("PRelu", [x, self._table(step, "weight", own)], name), own
        if kind == "affine":
            if len(own) in (1, 2) and (tables := self._by_channel(step, own)) is not None:
                # A BatchNorm1d, whose statistics are in these two already.
                return writer.node("BatchNormalization", [x, *tables], name, epsilon=0.0), own
            x = writer.node("Mul", [x, self._table(step, "weight", own)], name)
            return writer.node("Add", [x, self._table(step, "bias", own)], name), own
        if kind == "slice":
            bounds = [step.begin, step.begin + (shape[-1] if shape else 1), -1]
            ends = [writer.constant("bound", np.array([b], np.int64)) for b in bounds]
            return writer.node("Slice", [x, *ends], name), (*own[:-1], bounds[1] - bounds[0])
        if kind == "transpose":
            return writer.node("Transpose", [x], name, perm=[0, 2, 1]), own[::-1]
        if kind == "mean":
            return writer.node("ReduceMean", [x], name, axes=[1], keepdims=0), own[1:]
        if kind == "sum":
            return writer.node("ReduceSum", [x], name, axes=[-1], keepdims=0), own[:-1]
        if kind in _BY_ROW:
            return writer.node(_BY_ROW[kind], [x], name, axis=-1), own
        if kind == "layer_norm":
            return self._layer_norm(step, x, own[-1]), own
        if kind == "argmax":
            return writer.node("ArgMax", [x], name, axis=-1, keepdims=0), own[:-1]
        assert kind == "reshape", kind
        return self.reshaped(x, shape, name), shape

    def _by_channel(self, step: GraphStep, shape: Shape) -> list[str] | None:
        """Gain, shift, mean 0 and variance 1 of each channel; None if within one they differ."""
        names = []
        for which, array in (("weight", step.weight), ("bias", step.bias)):
            assert array is not None
            rows = np.broadcast_to(array, shape).reshape(shape[0], -1)
            if not (rows == rows[:, :1]).all():
                return None
            names.append(self.writer.constant(f"{step.name}.{which}", rows[:, 0]))
        for what, value in (("mean", 0), ("variance", 1)):
            table = np.full(shape[0], value, np.float32)
            names.append(self.writer.constant(f"{step.name}.{what}", table))
        return names

    def _table(self, step: GraphStep, which: str, shape: Shape) -> str:
        array: Any = step.weight if which == "weight" else step.bias
        spread = np.broadcast_to(array, shape)
        return self.writer.constant(f"{step.name}.{which}", spread)

    def _join(self, step: GraphStep, shape: Shape) -> str:
        operands = []
        for operand in step.operands:
            value = self.graph.values[operand]
            if value.constant is not None:  # the same for all rows: broadcast
                table = np.reshape(value.constant, shape)
                operands.append(self.writer.constant(f"{step.name}.constant", table))
            elif value.shape != shape:
                operands.append(self.reshaped(self.names[operand], shape, step.name))
            else:
                operands.append(self.names[operand])
        return self.writer.node(_JOINS[step.kind], operands, step.name)

    def _layer_norm(self, step: GraphStep, x: str, width: int) -> str:
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        has_tables = step.weight is not None
        weight = ones if step.weight is None else step.weight
        bias = zeros if step.bias is None else step.bias
        if self.writer.opset < 17:
            filled = {"x": x, "epsilon": step.epsilon, "weight": weight, "bias": bias}
            return self.writer.formula(LAYER_NORMS[0 if has_tables else 1], filled, step.name)
        tables = [self.writer.constant(f"{step.name}.weight", weight)]
        if has_tables:
            tables.append(self.writer.constant(f"{step.name}.bias", bias))
        return self.writer.node(
            "LayerNormalization", [x, *tables], step.name, axis=-1, epsilon=step.epsilon
        )

    def _value(self, operand: int, name: str) -> str:
        """A value with all its rows, also where it is a constant."""
        value = self.graph.values[operand]
        if value.constant is None:
            return self.names[operand]
        writer = self.writer
        if not self._count:
            some = self.graph.inputs[0].value
            sizes = writer.node("Shape", [self.names.get(some, self.pixels.get(some, ""))], name)
            first = [writer.constant("bound", np.array([b], np.int64)) for b in (0, 1, 0)]
            self._count = writer.node("Slice", [sizes, *first], name)
        behind = writer.constant("shape", np.array(value.shape, np.int64))
        target = writer.node("Concat", [self._count, behind], name, axis=0)
        table = writer.constant(f"{name}.constant", value.constant[None])
        return writer.node("Expand", [table, target], name)
