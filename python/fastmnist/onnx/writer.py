"""An ONNX graph in the making: nodes, constants and names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastmnist.onnx.expressions import Array, C, Number, Op, X
from fastmnist.onnx.needed import onnx_package

# From which opset on operators over dimensions take these as an input, no longer as an attribute.
_AXES_INPUT = {"ReduceSum": 13, "ReduceMin": 18, "ReduceMax": 18, "ReduceMean": 18}
_SMALL = 16  # constants of so many numbers are written once


class Writer:
    """Nodes in order, constants, and names that are each used once.

    Parameters
    ----------
    opset : int
    taken : sequence of str
        Names of the graph's inputs and outputs.
    """

    def __init__(self, opset: int, taken: Sequence[str] = ()) -> None:
        self.opset = opset
        self.onnx = onnx_package()
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._taken = set(taken)
        self._known: dict[Any, str] = {}

    def unique(self, name: str) -> str:
        """Give the name, with a number behind it where it is taken."""
        made, count = name, 1
        while made in self._taken:
            count += 1
            made = f"{name}_{count}"
        self._taken.add(made)
        return made

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Put an operator behind the others; give the name of its value."""
        given = list(inputs)
        axes = attributes.get("axes")
        if axes is not None and self.opset >= _AXES_INPUT.get(kind, 10**6):
            del attributes["axes"]
            given.append(self.constant("axes", np.array(axes, np.int64)))
        output = self.unique(f"{name}/{kind}" if name else kind)
        self.nodes.append(
            self.onnx.helper.make_node(kind, given, [output], name=output, **attributes)
        )
        return output

    def constant(self, name: str, array: Array, *, shared: bool = True) -> str:
        """Keep an array in the file; give its name. Small ones are kept once, if they may be."""
        array = np.ascontiguousarray(array)
        may = shared and array.size <= _SMALL
        key = (array.dtype.str, array.shape, array.tobytes()) if may else None
        if key is not None and key in self._known:
            return self._known[key]
        made = self.unique(name)
        self.initializers.append(self.onnx.numpy_helper.from_array(array, made))
        if key is not None:
            self._known[key] = made
        return made

    def number(self, value: float, dtype: Any = np.float32) -> str:
        """Keep a single number."""
        text = f"{value:g}" if math.isfinite(value) else str(value)
        return self.constant(f"{np.dtype(dtype).name}_{text}", np.array(value, dtype))

    def nibbles(self, name: str, array: Array) -> str:
        """Keep int8 numbers within ±8 as INT4: two a byte, the first one in the low half."""
        made = self.unique(name)
        flat = array.reshape(-1).view(np.uint8) & 15
        if len(flat) % 2:
            flat = np.append(flat, np.uint8(0))
        packed = (flat[::2] | (flat[1::2] << 4)).astype(np.uint8)
        proto = self.onnx.TensorProto(
            name=made,
            dims=array.shape,
            data_type=self.onnx.TensorProto.INT4,
            raw_data=packed.tobytes(),
        )
        self.initializers.append(proto)
        return made

    def formula(self, expression: Any, filled: Mapping[str, Any], name: str) -> str:
        """Write a formula; its holes are names of values, arrays, or plain numbers."""
        return self._formula(expression, filled, name, {})

    def _formula(
        self, expression: Any, filled: Mapping[str, Any], name: str, done: dict[int, str]
    ) -> str:
        if isinstance(expression, X):
            return str(filled[expression.name])
        if isinstance(expression, C):
            return self.constant(f"{name}/{expression.name}", _array(filled[expression.name]))
        if isinstance(expression, Number):
            return self.number(expression.value, np.dtype(expression.dtype))
        assert isinstance(expression, Op)
        if id(expression) not in done:
            inputs = [self._formula(part, filled, name, done) for part in expression.inputs]
            done[id(expression)] = self.node(expression.kind, inputs, name, **expression.attributes)
        return done[id(expression)]

    def give(self, value: str, output: str, inputs: Sequence[str]) -> None:
        """Let a value be an output of the graph, under that name."""
        made_here = any(value in node.output for node in self.nodes)
        if value in inputs or not made_here:
            self.nodes.append(self.onnx.helper.make_node("Identity", [value], [output], output))
            return
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == value:
                        names[i] = output


def _array(value: Any) -> Array:
    return value if isinstance(value, np.ndarray) else np.array(value, np.float32)
