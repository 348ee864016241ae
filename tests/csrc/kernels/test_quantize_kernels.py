"""quantize, quantize_affine, dequantize and row_range of every instruction set."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from guard import EDGES, Edge, guarded, guarded_empty
from hypothesis import given
from hypothesis import strategies as st
from oracle import FLT_MAX, FLT_MIN, INF, assert_same_bits

from fastmnist import _core
from fastmnist.int8 import reference

F32 = npt.NDArray[np.float32]
LENGTHS = (*range(71), 127, 257, 1009, 4099)
ANY = st.floats(width=32)
SCALES = st.floats(width=32, min_value=FLT_MIN, max_value=FLT_MAX, allow_subnormal=False)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TINY = float(np.float32(1e-45))
EXTREMES = [0, -0.0, INF, -INF, np.nan, -np.nan, TINY, FLT_MIN, -FLT_MIN, FLT_MAX, -FLT_MAX]
TIES = [0.5, 1.5, 2.5, -0.5, 127.5, 254.5, 255.5]
SPECIAL = np.array([*EXTREMES, -TINY, *TIES], np.float32)


def check_quantize(x: F32, scale: float, zero_point: int, edge: Edge) -> None:
    out = guarded_empty(x.shape, np.uint8, edge)
    had_nan = _core.quantize(guarded(x, edge), scale, zero_point, out)
    assert_same_bits(out, reference.quantize(x, scale, zero_point), (x, scale, zero_point))
    assert had_nan == bool(np.isnan(x).any())


def check_affine(x: F32, multiplier: F32, offset: F32, edge: Edge) -> None:
    out = guarded_empty(x.shape, np.uint8, edge)
    arrays = (guarded(a, edge) for a in (x, multiplier, offset))
    had_nan = _core.quantize_affine(*arrays, out)
    assert_same_bits(out, reference.quantize_affine(x, multiplier, offset), (x, multiplier, offset))
    assert had_nan == bool(np.isnan(x).any())


def check_row_range(x: F32, edge: Edge) -> None:
    lo, hi, finite = _core.row_range(guarded(x, edge))
    known = x[~np.isnan(x)]
    assert (lo, hi) == (min(0.0, *known.tolist(), 0.0), max(0.0, *known.tolist(), 0.0))
    # Zero is +0 whatever zeros came.
    assert lo != 0 or math.copysign(1, lo) == 1
    assert hi != 0 or math.copysign(1, hi) == 1
    assert finite == bool(np.isfinite(x).all())


@pytest.mark.parametrize("edge", EDGES)
def test_every_length(isa: str, edge: Edge) -> None:
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        plain = rng.normal(scale=3, size=n).astype(np.float32)
        wild = np.where(rng.random(n) < 0.2, rng.choice(SPECIAL, n), plain)
        multiplier = rng.uniform(-60, 60, n).astype(np.float32)
        offset = rng.uniform(-20, 270, n).astype(np.float32)
        for x in (plain, wild):
            for zero_point in (0, 1, 128, 255):
                check_quantize(x, 0.02, zero_point, edge)
            check_affine(x, multiplier, offset, edge)
            check_row_range(x, edge)
        codes = rng.integers(0, 256, n).astype(np.uint8)
        out = guarded_empty((n,), np.float32, edge)
        for zero_point in (0, 3, 128, 255):
            _core.dequantize(guarded(codes, edge), 0.3, zero_point, out)
            assert_same_bits(out, reference.dequantize(codes, 0.3, zero_point))


def test_unaligned_starts(isa: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(scale=3, size=200).astype(np.float32)
    multiplier, offset = x[::-1].copy() * 10, x + 100
    for start in range(17):
        for stop in (start, start + 1, start + 15, start + 37, 200):
            part = slice(start, stop)
            out = np.full(220, 9, np.uint8)
            codes = out[start : start + stop - start]
            _core.quantize(x[part], 0.02, 7, codes)
            assert_same_bits(codes, reference.quantize(x[part], 0.02, 7))
            _core.quantize_affine(x[part], multiplier[part], offset[part], codes)
            expected = reference.quantize_affine(x[part], multiplier[part], offset[part])
            assert_same_bits(codes, expected)
            back = np.full(220, 9, np.float32)
            _core.dequantize(codes, 0.02, 7, back[start:stop])
            assert_same_bits(back[start:stop], reference.dequantize(expected, 0.02, 7))
            assert np.all(out[:start] == 9)
            assert np.all(out[stop:] == 9)
            assert np.all(back[:start] == 9)
            assert np.all(back[stop:] == 9)


@given(st.lists(ANY, max_size=40), SCALES, st.integers(0, 255), st.sampled_from(EDGES))
def test_quantize_any_floats(
    isa: str, values: list[float], scale: float, zero_point: int, edge: Edge
) -> None:
    x = np.array(values, np.float32)
    check_quantize(x, scale, zero_point, edge)
    check_row_range(x, edge)


@given(st.lists(st.tuples(ANY, FINITE, FINITE), max_size=40), st.sampled_from(EDGES))
def test_quantize_affine_any_floats(
    isa: str, values: list[tuple[float, float, float]], edge: Edge
) -> None:
    x, multiplier, offset = (np.array([v[i] for v in values], np.float32) for i in range(3))
    check_affine(x, multiplier, offset, edge)


@given(st.binary(max_size=70), SCALES, st.integers(0, 255))
def test_dequantize_any_codes(isa: str, data: bytes, scale: float, zero_point: int) -> None:
    codes = np.frombuffer(data, np.uint8)
    out = guarded_empty(codes.shape, np.float32)
    _core.dequantize(guarded(codes), scale, zero_point, out)
    with np.errstate(over="ignore"):
        assert_same_bits(out, reference.dequantize(codes, scale, zero_point))


def test_saturation_ties_and_special_values(isa: str) -> None:
    for scale in (1.0, 0.5, FLT_MIN, 1e-30, 1e30, FLT_MAX):
        for zero_point in (0, 1, 128, 255):
            check_quantize(SPECIAL, scale, zero_point, "last")
            with np.errstate(over="ignore"):
                halves = (np.arange(-600, 600, dtype=np.float32) + 0.5) * np.float32(scale)
            check_quantize(halves, scale, zero_point, "first")
    for multiplier in (1.0, -1.0, 0.0, FLT_MAX, TINY):
        factor = np.full(SPECIAL.shape, multiplier, np.float32)
        for offset in (0.0, 127.5, 255.5, -FLT_MAX, FLT_MAX):
            check_affine(SPECIAL, factor, np.full(SPECIAL.shape, offset, np.float32), "last")


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, INF, 1e-40])
def test_scales_are_checked(scale: float) -> None:
    x, out = np.zeros(3, np.float32), np.zeros(3, np.uint8)
    with pytest.raises(ValueError, match="scale: expected a finite, normal, positive number"):
        _core.quantize(x, scale, 0, out)
    with pytest.raises(ValueError, match="scale: expected a finite, normal, positive number"):
        _core.dequantize(out, scale, 0, x)


@pytest.mark.parametrize("zero_point", [-1, 256, 2**31 - 1])
def test_zero_points_are_checked(zero_point: int) -> None:
    x, out = np.zeros(3, np.float32), np.zeros(3, np.uint8)
    with pytest.raises(ValueError, match="zero_point: expected 0 to 255"):
        _core.quantize(x, 1.0, zero_point, out)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros(3, np.float64),
        np.zeros(3, ">f4"),
        np.zeros(6, np.float32)[::2],
        [0.0, 1.0, 2.0],
    ],
    ids=["float64", "big-endian", "strided", "list"],
)
def test_native_functions_convert_nothing(x: Any) -> None:
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _core.quantize(x, 1.0, 0, np.zeros(3, np.uint8))


def test_outputs_are_checked() -> None:
    x = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="out"):
        _core.quantize(x, 1.0, 0, np.zeros(4, np.uint8))
    frozen = np.zeros(3, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="not writ"):
        _core.quantize(x, 1.0, 0, frozen)
