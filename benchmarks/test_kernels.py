"""Times of each kernel on each instruction set, for people who change one.

    python -m pytest benchmarks/test_kernels.py --benchmark-group-by=func,param:shape

Needs pytest-benchmark (extra ``peers``). Every case checks its answer first. Times include the call
from Python, some 0.5 to 2 µs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.peers.description import aligned
from fastmnist import _core
from fastmnist.int8 import reference

pytest.importorskip("pytest_benchmark", reason="the extra peers brings it")

# Rows, inputs, outputs: the layers of the digits network at three batch sizes, and wide ones.
LINEAR = [
    *((rows, *layer) for rows in (1, 32, 1024) for layer in ((784, 96), (96, 256), (256, 10))),
    *((rows, width, width) for rows in (1, 16, 256) for width in (1024, 4096)),
]
SPARSE = [(1, 784, 96), *((rows, 4096, 4096) for rows in (1, 4, 16, 64))]
COUNTS = [784, 1024 * 784]
SCALE, ZERO_POINT = 1 / 255, 3


def _name(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


@pytest.fixture(params=[rung["isa"] for rung in _core.cpu_info()["ladder"]])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run on one instruction set, whose kernels serve until the case ends."""
    before = _core.cpu_info()["isa"]
    try:
        _core.set_isa(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    _core.set_isa(before)


def _values(count: int) -> npt.NDArray[np.float32]:
    return aligned(np.random.default_rng(count).random(count, np.float32))


@pytest.mark.parametrize("shape", COUNTS)
def test_quantize(benchmark: Any, isa: str, shape: int) -> None:
    x, codes = _values(shape), aligned(np.zeros(shape, np.uint8))
    _core.quantize(x, SCALE, ZERO_POINT, codes)
    np.testing.assert_array_equal(codes, reference.quantize(x, np.float32(SCALE), ZERO_POINT))
    benchmark(_core.quantize, x, SCALE, ZERO_POINT, codes)


@pytest.mark.parametrize("shape", COUNTS)
def test_quantize_affine(benchmark: Any, isa: str, shape: int) -> None:
    x, codes = _values(shape), aligned(np.zeros(shape, np.uint8))
    multiplier, offset = 255 * _values(shape), _values(shape)
    _core.quantize_affine(x, multiplier, offset, codes)
    np.testing.assert_array_equal(codes, reference.quantize_affine(x, multiplier, offset))
    benchmark(_core.quantize_affine, x, multiplier, offset, codes)


@pytest.mark.parametrize("shape", COUNTS)
def test_dequantize(benchmark: Any, isa: str, shape: int) -> None:
    codes = aligned(np.arange(shape).astype(np.uint8))
    x = aligned(np.zeros(shape, np.float32))
    _core.dequantize(codes, SCALE, ZERO_POINT, x)
    expected = (codes.astype(np.int32) - ZERO_POINT).astype(np.float32) * np.float32(SCALE)
    np.testing.assert_array_equal(x, expected)
    benchmark(_core.dequantize, codes, SCALE, ZERO_POINT, x)


@pytest.mark.parametrize("shape", COUNTS)
def test_row_range(benchmark: Any, isa: str, shape: int) -> None:
    x = _values(shape) - np.float32(0.5)
    assert _core.row_range(x) == (x.min(), x.max(), True)
    benchmark(_core.row_range, x)


def _layer(rng: Any, inputs: int, outputs: int, zeros: float = 0.0) -> _core.Layer:
    weight = rng.integers(-128, 128, (outputs, inputs)).astype(np.int8)
    weight[rng.random(weight.shape) < zeros] = 0
    scale = np.full(outputs, 1 / (127 * inputs), np.float32)
    bias = rng.normal(size=outputs).astype(np.float32)
    return _core.Layer(weight, scale, bias, 0.0, float("inf"), SCALE, 0)


def _time_linear(
    benchmark: Any,
    rng: Any,
    layer: _core.Layer,
    packed: npt.NDArray[np.uint8],
    shape: tuple[int, int, int],
    output: Any,
    kernel: _core.Kernel | None = None,
) -> None:
    rows, inputs, outputs = shape
    codes = aligned(rng.integers(0, 256, (rows, inputs)).astype(np.uint8))
    scale, zero_point = np.array([SCALE], np.float32), np.array([0], np.int32)
    out = aligned(np.zeros((rows, outputs), output))
    # As many rows as the plain loops of the reference can do in no time.
    checked = codes[: max(1, (1 << 25) // (inputs * outputs))]
    expected = np.zeros((len(checked), outputs), output)
    end = (0.02, 7) if output is np.uint8 else (1.0, 0)
    _core.reference_linear(layer, checked, scale, zero_point, expected, *end)
    arguments = (codes, packed, scale, zero_point, out, *end, False, kernel)
    _core.linear(*arguments)
    np.testing.assert_array_equal(out[: len(checked)], expected)
    benchmark(_core.linear, *arguments)


@pytest.mark.parametrize("output", [np.float32, np.uint8], ids=["f32", "u8"])
@pytest.mark.parametrize("shape", LINEAR, ids=_name)
def test_linear(benchmark: Any, isa: str, shape: tuple[int, int, int], output: Any) -> None:
    rows, inputs, outputs = shape
    if isa == "scalar" and rows * inputs * outputs > 1 << 25:
        pytest.skip("takes too long")
    rng = np.random.default_rng(shape)
    layer = _layer(rng, inputs, outputs)
    _time_linear(benchmark, rng, layer, aligned(_core.pack([layer], "static")), shape, output)


@pytest.mark.parametrize("zeros", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("form", ["bitmask", "picks"])
@pytest.mark.parametrize("shape", SPARSE, ids=_name)
def test_sparse_linear(
    benchmark: Any, isa: str, shape: tuple[int, int, int], form: str, zeros: float
) -> None:
    kernels = [kernel for kernel in _core.linear_kernels() if kernel.form == form]
    if not kernels or isa == "scalar":
        pytest.skip("this set has no such kernel, or takes too long")
    rng = np.random.default_rng(shape)
    layer = _layer(rng, *shape[1:], zeros)
    packed = aligned(_core.pack([layer], "static", forms=[[form]]))
    _time_linear(benchmark, rng, layer, packed, shape, np.uint8, kernels[-1])
