"""Hidden layers have AMX kernels of their own: every way they take gives the reference's bits.

They choose by the number of inputs (up to 128 the weights stay in tiles), by the rows (what is left
of a strip, a block, a turn of lines) and by where in a cache line rows begin.
"""

from __future__ import annotations

import itertools
from typing import Any

import guard
import numpy as np
import pytest
import torch

import fastmnist as fm
from fastmnist import _core

RUNNABLE = [rung["isa"] for rung in fm.cpu_info()["ladder"] if not rung["why_not"]]
INFINITY = float("inf")

pytestmark = pytest.mark.skipif("amx_int8" not in RUNNABLE, reason="this machine has no AMX")


@pytest.fixture(autouse=True)
def amx() -> Any:
    before = _core.set_isa("amx_int8")
    yield
    _core.set_isa(before)


def layer_of(inputs: int, outputs: int, zero_point: int, clamp: tuple[float, float]) -> Any:
    random = np.random.default_rng(inputs * 1000 + outputs)
    weight = random.integers(-127, 128, (outputs, inputs), dtype=np.int8)
    scale = (random.random(outputs, dtype=np.float32) + 0.5) * np.float32(1e-3)
    bias = random.standard_normal(outputs).astype(np.float32)
    return _core.Layer(weight, scale, bias, *clamp, 0.02, zero_point)


def check(layer: Any, codes: Any, zero_point: int, bounded: bool, out_zero_point: int) -> None:
    """All kernels of the set on these codes where they are, against the reference."""
    packed = _core.pack([layer], "static")
    scale = np.array([0.02], np.float32)
    zero = np.array([zero_point], np.int32)
    outputs = layer_outputs(packed)
    expected = np.zeros((len(codes), outputs), np.uint8)
    _core.reference_linear(layer, codes, scale, zero, expected, 0.01, out_zero_point)
    for kernel in _core.layer_kernels(packed, 0, len(codes), codes_out=True):
        for edge in guard.EDGES:
            out = guard.guarded_empty(expected.shape, np.uint8, edge)
            out[...] = 77
            _core.linear(codes, packed, scale, zero, out, 0.01, out_zero_point, bounded, kernel)
            assert (out == expected).all(), (kernel, edge)


def layer_outputs(packed: Any) -> int:
    return int(np.frombuffer(packed[64:72].tobytes(), np.uint32)[1])


def codes_of(rows: int, inputs: int) -> Any:
    return np.random.default_rng(rows).integers(0, 256, (rows, inputs), dtype=np.uint8)


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 31, 32, 33, 47, 49, 80, 129])
@pytest.mark.parametrize("inputs", [1, 16, 63, 64, 65, 96, 127, 128])
def test_weights_that_stay(rows: int, inputs: int) -> None:
    for outputs, zero_point in ((32, 0), (96, 7), (256, 0)):
        layer = layer_of(inputs, outputs, zero_point, (0.0, INFINITY))
        for edge in guard.EDGES:
            check(layer, guard.guarded(codes_of(rows, inputs), edge), zero_point, True, 0)


@pytest.mark.parametrize("rows", [17, 32, 33, 63, 64, 95, 127, 128, 129, 161, 256, 300])
@pytest.mark.parametrize("inputs", [129, 144, 160, 176, 192, 193, 272, 288, 784])
def test_blocks_and_lines(rows: int, inputs: int) -> None:
    """Rows of 16 modulo 64 inputs are read by lines, in fours; of 32 in twos; others are not."""
    for outputs, zero_point in ((16, 7), (32, 0), (48, 0), (96, 7)):
        layer = layer_of(inputs, outputs, zero_point, (0.0, INFINITY))
        for edge in guard.EDGES:
            check(layer, guard.guarded(codes_of(rows, inputs), edge), zero_point, True, 0)


@pytest.mark.parametrize("offset", [0, 1, 8, 15, 16, 32, 48, 63])
@pytest.mark.parametrize("inputs", [144, 160, 784])
def test_rows_begin_anywhere_in_a_line(inputs: int, offset: int) -> None:
    """With as few bytes around the rows as can be: those before and behind cannot be touched."""
    rows = 260
    layer = layer_of(inputs, 64, 0, (0.0, INFINITY))
    values = codes_of(rows, inputs)
    behind = guard.guarded_empty((rows * inputs + offset,), np.uint8, "first")
    behind[offset:] = values.reshape(-1)
    check(layer, behind[offset:].reshape(rows, inputs), 0, True, 0)
    before = guard.guarded_empty((rows * inputs + offset,), np.uint8, "last")
    before[: rows * inputs] = values.reshape(-1)
    check(layer, before[: rows * inputs].reshape(rows, inputs), 0, True, 0)


@pytest.mark.parametrize("clamp", [(0.0, INFINITY), (0.0, 0.7), (-INFINITY, INFINITY), (-0.3, 0.6)])
@pytest.mark.parametrize("out_zero_point", [0, 90])
@pytest.mark.parametrize("inputs", [96, 784])
def test_bounds_and_zero_points(
    inputs: int, out_zero_point: int, clamp: tuple[float, float]
) -> None:
    for zero_point in (0, 200):
        layer = layer_of(inputs, 64, zero_point, clamp)
        check(layer, codes_of(150, inputs), zero_point, clamp[1] == INFINITY, out_zero_point)


def test_whole_networks_by_any_number_of_rows() -> None:
    """Pixels in place, wherever they begin, in blocks that follow each other."""
    torch.manual_seed(0)
    layers = [784, 96, 256, 64, 10]
    modules: list[torch.nn.Module] = []
    for a, b in itertools.pairwise(layers):
        modules += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model = torch.nn.Sequential(torch.nn.Flatten(), *modules[:-1])
    pixels = torch.randint(0, 256, (700, 784), dtype=torch.uint8)
    net = fm.compile(fm.quantize(model, fm.Static(calibration=pixels)))
    _core.set_isa("scalar")
    expected = net(pixels.numpy())
    _core.set_isa("amx_int8")
    for edge in guard.EDGES:
        for rows in (127, 128, 129, 256, 389, 700):
            assert (net(guard.guarded(pixels[:rows].numpy(), edge)) == expected[:rows]).all()
    for offset in (0, 1, 16, 48):
        buffer = np.zeros(700 * 784 + 64 + offset, np.uint8)
        start = -buffer.ctypes.data % 64 + offset
        for rows in (127, 128, 129, 256, 389, 700):
            x = buffer[start : start + rows * 784].reshape(rows, 784)
            x[...] = pixels[:rows].numpy()
            assert (net(x) == expected[:rows]).all(), (offset, rows)
