"""The share of zeros from which sparse weights are faster: measured per shape. Free of torch."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

import fastmnist._core as _core
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.runtime.planning import ROWS, Times, layer_times

# What is measured: random masks, as unstructured pruning makes them, with these shares of zeros.
ZEROS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
_NOISE = 0.97
NEVER = 2.0


@dataclass(frozen=True)
class Shape:
    """What a layer's speed depends on."""

    inputs: int
    outputs: int
    codes_out: bool  # its outputs are codes of the next layer, uint8
    per_row: bool  # a scale per row
    zeros_seen: bytes | None = None  # of each input: rows with zeros may go by faster dense kernels


def shapes_of(network: QuantizedNetwork) -> list[Shape]:
    """What the speed of each layer depends on."""
    last = len(network.layers) - 1
    dynamic = network.kind == "dynamic"
    return [
        Shape(
            layer.inputs,
            layer.outputs,
            i < last and not dynamic,
            dynamic,
            None if layer.input_zeros is None else layer.input_zeros.tobytes(),
        )
        for i, layer in enumerate(network.layers)
    ]


def break_even(shape: Shape) -> dict[int, float]:
    """Find, per class of rows, the least share of zeros at which a sparse kernel wins.

    Parameters
    ----------
    shape : Shape
        The layer's inputs and outputs, whether those are codes, and the zeros that it was seen
        to be given.

    Returns
    -------
    dict of int to float
        For each of :data:`~fastmnist.runtime.planning.ROWS` one of :data:`ZEROS`, at which and
        above which the best sparse kernel was faster than the best dense one by more than the
        noise (3 %); :data:`NEVER` where there is none. Remembered as plans are; measured it
        takes some milliseconds for small layers, and a few seconds for 4096 x 4096.
    """
    return _break_even(shape, tuple(_core.linear_kernels()))


@functools.cache
def _break_even(shape: Shape, kernels: tuple[_core.Kernel, ...]) -> dict[int, float]:
    found = dict.fromkeys(ROWS, NEVER)
    lost: set[int] = set()
    for zeros in reversed(ZEROS):
        times = _synthetic_times(shape, zeros)
        for rows, by_kernel in zip(ROWS, times, strict=True):
            if _sparse_wins(by_kernel) and rows not in lost:
                found[rows] = zeros
            else:
                lost.add(rows)
        if len(lost) == len(ROWS):
            break
    return found


def _synthetic_times(shape: Shape, zeros: float) -> list[Times]:
    """µs of each kernel for a layer of this shape, of which a random share of weights is zero."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (shape.outputs, shape.inputs), dtype=np.int8)
    weight[rng.random(weight.shape, np.float32) < zeros] = 0
    ones = np.full(shape.outputs, 1e-3, np.float32)
    seen = None if shape.zeros_seen is None else np.frombuffer(shape.zeros_seen, np.uint8)
    layers = [_core.Layer(weight, ones, None, 0.0, math.inf, 0.01, 0, seen)]
    if shape.codes_out:  # a layer that takes them
        last = np.zeros((1, shape.outputs), np.int8)
        layers.append(_core.Layer(last, ones[:1], None, -math.inf, math.inf, 0.01, 0))
    return layer_times(_core.pack(layers, "dynamic" if shape.per_row else "static"), 0)


def _sparse_wins(times: Times) -> bool:
    sparse = [time for kernel, time in times.items() if kernel.is_sparse]
    dense = [time for kernel, time in times.items() if not kernel.is_sparse]
    return bool(sparse) and min(sparse) < _NOISE * min(dense)
