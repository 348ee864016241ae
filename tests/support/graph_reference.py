"""What a NetworkGraph computes, in NumPy: step by step, on the functions of int8/reference*.py."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from oracle import codes_by_row

from fastmnist.int8 import reference, reference_functions
from fastmnist.int8.activation import NAMES, Activation, elu
from fastmnist.int8.graph import GraphStep, Input, NetworkGraph, Value
from fastmnist.int8.network import NO_CLAMP, QuantizedLayer, QuantizedNetwork
from fastmnist.pixels import PixelNormalization
from fastmnist.runtime.packing import pixel_table

F32 = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


def run_graph(graph: NetworkGraph, inputs: Sequence[Array]) -> list[Array]:
    """Its outputs, ``[N, ...]`` each."""
    rows = len(inputs[0])
    values: dict[int, Array] = {}
    for i, value in enumerate(graph.values):
        if value.constant is not None:
            values[i] = np.broadcast_to(value.constant, (rows, *value.shape))
    for given, x in zip(graph.inputs, inputs, strict=True):
        if x.dtype == np.uint8:
            assert given.pixels is not None
            table = pixel_table(given.pixels)
            flat = x.reshape(rows, len(table), -1)
            x = np.stack([table[c][flat[:, c]] for c in range(len(table))], 1)
        values[given.value] = x.reshape(rows, *graph.values[given.value].shape)
    for step in graph.steps:
        shape = (rows, *graph.values[step.value].shape)
        with np.errstate(all="ignore"):
            given_values = [values[operand] for operand in step.operands]
            values[step.value] = _run(step, given_values, shape).reshape(shape)
    return [values[value] for value in graph.outputs]


def _run(step: GraphStep, operands: list[Array], shape: tuple[int, ...]) -> Array:
    x = operands[0]
    last = x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x.reshape(-1, 1)
    kind = step.kind
    if kind == "int8":
        assert step.network is not None
        return run_network(step.network, last)
    if kind == "float":
        assert step.weight is not None
        y = reference.float_linear(last, step.weight, step.bias, *step.clamp)
        return y if step.function is None else reference_functions.activate(y, step.function)
    if kind == "activate":
        assert step.function is not None
        return reference_functions.activate(x, step.function)
    if kind == "clamp":
        return reference._clamp(x, *step.clamp)
    if kind in ("slopes", "affine"):
        assert step.weight is not None
        weight = np.broadcast_to(step.weight, x.shape)
        if kind == "slopes":
            return reference_functions.prelu(x, weight)
        assert step.bias is not None
        return reference_functions.affine(x, weight, np.broadcast_to(step.bias, x.shape))
    if kind in ("add", "subtract", "multiply", "divide"):
        other = operands[1].reshape(x.shape)
        both: Array = getattr(np, kind)(x, other)
        return both
    if kind == "concat":
        return np.concatenate(operands, axis=-1)
    if kind == "slice":
        return x[..., step.begin : step.begin + shape[-1]]
    if kind == "transpose":
        return x.transpose(0, 2, 1)
    if kind == "mean":
        total = x[:, 0].copy()
        for p in range(1, x.shape[1]):
            total += x[:, p]
        return total / np.float32(x.shape[1])
    if kind == "sum":
        sums = np.zeros(len(last), np.float32)
        for n in range(last.shape[1]):
            sums += last[:, n]
        return sums
    if kind == "softmax":
        return reference_functions.softmax(last)
    if kind == "log_softmax":
        return reference_functions.log_softmax(last)
    if kind == "layer_norm":
        return reference_functions.layer_norm(last, step.weight, step.bias, step.epsilon)
    if kind == "argmax":
        return last.argmax(axis=1)
    assert kind == "reshape"
    return x


def run_network(network: QuantizedNetwork, x: F32) -> F32:
    """A chain of int8 layers, ``[rows, inputs]`` to ``[rows, outputs]``."""
    first = network.layers[0]
    if network.kind == "dynamic":
        return _dynamic(network, x)
    if network.kind == "affine":
        assert network.multiplier is not None
        assert network.offset is not None
        codes = reference.quantize_affine(x, network.multiplier, network.offset)
    else:
        codes = reference.quantize(x, first.input_scale, first.input_zero_point)
    for i, layer in enumerate(network.layers):
        scale, zero_point = np.float32(layer.input_scale), np.int32(layer.input_zero_point)
        y = _layer(layer, codes, scale, zero_point)
        if i + 1 < len(network.layers):
            after = network.layers[i + 1]
            codes = reference.quantize(y, after.input_scale, after.input_zero_point)
    y[np.isnan(x).any(axis=1)] = np.nan
    return y


def _dynamic(network: QuantizedNetwork, x: F32) -> F32:
    bad = np.zeros(len(x), bool)
    for layer in network.layers:
        bad |= ~np.isfinite(x).all(axis=1)
        x = np.where(bad[:, None], np.float32(0), x)
        x = _layer(layer, *codes_by_row(x))
    x[bad] = np.nan
    return x


def _layer(layer: QuantizedLayer, codes: Any, scale: Any, zero_point: Any) -> F32:
    y = reference.linear_f32(
        codes, layer.weight, layer.weight_scale, layer.bias, scale, zero_point, *layer.clamp
    )
    return y if layer.function is None else reference_functions.activate(y, layer.function)


# ---- random ones ---------------------------------------------------------------------------------

_CLAMPS = (NO_CLAMP, (0.0, math.inf), (0.0, 6.0), (-0.5, 1.25))
_PARAMETERS = {"leaky_relu": (0.1, 0.0, 0.0), "elu": elu(0.7).parameters, "softplus": (1.5, 9.0, 0)}


class RandomGraph:
    """A graph of steps of every kind, joined at random."""

    def __init__(self, seed: int, steps: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.values: list[Value] = []
        self.steps: list[GraphStep] = []
        self.readable: list[int] = []
        self.inputs: list[int] = []
        for _ in range(self.below(1, 4)):
            shape = self.shape()
            self.inputs.append(self.value(shape))
        while len(self.steps) < steps:
            self.add_a_step()

    def below(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def shape(self) -> tuple[int, ...]:
        width = self.below(1, 40)
        return (width,) if self.rng.random() < 0.6 else (self.below(1, 6), width)

    def floats(self, *shape: int) -> F32:
        return self.rng.normal(size=shape).astype(np.float32)

    def function(self, share: float = 1.0) -> Activation | None:
        if self.rng.random() >= share:
            return None
        name = NAMES[self.below(0, len(NAMES))]
        return Activation(name, _PARAMETERS.get(name, (0.0, 0.0, 0.0)))

    def clamp(self) -> tuple[float, float]:
        return _CLAMPS[self.below(0, len(_CLAMPS))]

    def value(self, shape: tuple[int, ...], constant: F32 | None = None) -> int:
        self.values.append(Value(shape, constant))
        number = len(self.values) - 1
        if constant is None:
            self.readable.append(number)
        return number

    def step(self, kind: str, operands: list[int], shape: tuple[int, ...], **about: Any) -> None:
        value = self.value(shape)
        if kind == "argmax":
            self.readable.remove(value)
        name = f"{kind} {len(self.steps)}"
        self.steps.append(GraphStep(kind, name, tuple(operands), value, **about))

    def network(self, inputs: int) -> QuantizedNetwork:
        kind = ("static", "affine", "dynamic")[self.below(0, 3)]
        widths = [inputs, *(self.below(1, 40) for _ in range(self.below(1, 4)))]
        layers = []
        for i, (k, n) in enumerate(itertools.pairwise(widths)):
            layers.append(
                QuantizedLayer(
                    f"layer {i}",
                    self.rng.integers(-127, 128, (n, k)).astype(np.int8),
                    self.rng.uniform(0.5, 2.0, n).astype(np.float32) / np.float32(127 * k**0.5),
                    self.floats(n),
                    self.clamp(),
                    1.0 if kind == "dynamic" else float(np.float32(self.rng.uniform(0.01, 0.04))),
                    0 if kind == "dynamic" else self.below(0, 256),
                    function=self.function(0.5),
                )
            )
        affine = kind == "affine"
        return QuantizedNetwork(
            tuple(layers),
            kind,
            self.rng.uniform(-60, 60, inputs).astype(np.float32) if affine else None,
            self.rng.uniform(0, 255, inputs).astype(np.float32) if affine else None,
        )

    def add_a_step(self) -> None:
        """Put a step of any kind behind the others, if the value drawn serves."""
        x = self.readable[self.below(0, len(self.readable))]
        shape = self.values[x].shape
        width, size = shape[-1], self.values[x].size
        kinds = ["int8"] * 4 + ["float"] * 2 + ["activate"] * 2 + ["join"] * 5 + [
            "clamp", "slopes", "affine", "concat", "concat", "slice", "transpose", "mean", "sum",
            "softmax", "log_softmax", "layer_norm", "argmax", "reshape",
        ]  # fmt: skip
        kind = kinds[self.below(0, len(kinds))]
        if kind == "int8":
            network = self.network(width)
            self.step("int8", [x], (*shape[:-1], network.outputs), network=network)
        elif kind == "float":
            outputs = self.below(1, 40)
            self.step(
                "float", [x], (*shape[:-1], outputs), weight=self.floats(outputs, width),
                bias=self.floats(outputs), clamp=self.clamp(), function=self.function(0.5),
            )  # fmt: skip
        elif kind == "activate":
            self.step("activate", [x], shape, function=self.function())
        elif kind == "join":
            kind = ("add", "subtract", "multiply", "divide")[self.below(0, 4)]
            others = [v for v in self.readable if self.values[v].shape == shape]
            if self.rng.random() < 0.3:
                others = [self.value(shape, self.floats(*shape))]
            pair = [x, others[self.below(0, len(others))]]
            self.step(kind, pair[:: 1 if self.rng.random() < 0.5 else -1], shape)
        elif kind == "clamp":
            self.step("clamp", [x], shape, clamp=self.clamp())
        elif kind == "slopes":
            self.step("slopes", [x], shape, weight=self.floats(*shape))
        elif kind == "affine":
            self.step("affine", [x], shape, weight=self.floats(*shape), bias=self.floats(*shape))
        elif kind == "concat":
            parts = [v for v in self.readable if self.values[v].shape[:-1] == shape[:-1]]
            drawn = [x, *(parts[self.below(0, len(parts))] for _ in range(self.below(0, 20)))]
            total = sum(self.values[v].width for v in drawn)
            if total <= 300:
                self.step("concat", drawn, (*shape[:-1], total))
        elif kind == "slice":
            begin = self.below(0, width)
            self.step("slice", [x], (*shape[:-1], self.below(1, width - begin + 1)), begin=begin)
        elif kind == "transpose" and len(shape) == 2:
            self.step("transpose", [x], shape[::-1])
        elif kind == "mean" and len(shape) == 2:
            self.step("mean", [x], shape[1:])
        elif kind == "sum":
            self.step("sum", [x], shape[:-1] or (1,))
        elif kind in ("softmax", "log_softmax"):
            self.step(kind, [x], shape)
        elif kind == "layer_norm":
            tables = self.rng.random() < 0.5
            self.step(
                "layer_norm", [x], shape, weight=self.floats(width) if tables else None,
                bias=self.floats(width) if tables else None, epsilon=float(np.float32(1e-5)),
            )  # fmt: skip
        elif kind == "argmax":
            self.step("argmax", [x], shape[:-1] or (1,))
        elif kind == "reshape":
            positions = [p for p in (1, 2, 3, 5) if size % p == 0]
            p = positions[self.below(0, len(positions))]
            self.step("reshape", [x], (size,) if p == 1 else (p, size // p))

    def graph(self) -> NetworkGraph:
        """What was put together; inputs that nobody reads are added to what is."""
        read = {operand for step in self.steps for operand in step.operands}
        for x in self.inputs:
            if x not in read:
                self.step("reshape", [x], self.values[x].shape)
        made = [step.value for step in self.steps]
        read = {operand for step in self.steps for operand in step.operands}
        # Every end, so that nothing is for nothing, and some of what is read again.
        outputs = [v for v in made if v not in read]
        others = [v for v in made if v in read]
        self.rng.shuffle(others)
        outputs = (outputs + others[: self.below(0, 3)])[:16]
        pixels = PixelNormalization((0.3,), (0.5,))
        inputs = [
            Input(
                f"x{i}", x, pixels if self.rng.random() < 0.3 else None,
                any_shape=len(self.values[x].shape) == 1,
            )
            for i, x in enumerate(self.inputs)
        ]  # fmt: skip
        structure = "tuple" if len(outputs) > 1 else None
        return NetworkGraph(
            tuple(self.values), tuple(inputs), tuple(self.steps), tuple(outputs), structure
        )
