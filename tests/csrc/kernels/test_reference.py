"""The native reference against NumPy's, and NumPy's against exact arithmetic."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    FLT_MAX,
    FLT_MIN,
    INF,
    NONE,
    RELU,
    RELU6,
    assert_same_bits,
    random_layer,
    round_to_float32,
)
from test_linear import double_rounding_cases

from fastmnist import _core
from fastmnist.int8 import reference

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TINY = float(np.float32(1e-45))
SPECIAL = [0.0, -0.0, 1.0, -1.0, TINY, -TINY, FLT_MIN, -FLT_MIN, FLT_MAX, -FLT_MAX, 255.0]


def test_round_to_float32_is_what_the_hardware_does() -> None:
    rng = np.random.default_rng(0)
    values = np.ldexp(rng.normal(size=2000), rng.integers(-170, 140, 2000))
    with np.errstate(over="ignore"):
        for value in values:
            assert_same_bits(round_to_float32(Fraction(float(value))), np.float32(value))


@given(FINITE, FINITE, FINITE)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    got = reference.fma(np.float32(a), np.float32(b), np.float32(c))
    if exact == 0:
        assert got == 0
    else:
        assert_same_bits(np.asarray(got), np.asarray(round_to_float32(exact)), (a, b, c))


def test_fma_of_special_values() -> None:
    for a, b, c in itertools.product(SPECIAL, repeat=3):
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        got = reference.fma(np.float32(a), np.float32(b), np.float32(c))
        assert got == round_to_float32(exact), (a, b, c)
    for a, b, c in [(INF, 0.0, 1.0), (INF, 1.0, -INF), (np.nan, 1.0, 1.0), (1.0, 1.0, np.nan)]:
        assert np.isnan(reference.fma(np.float32(a), np.float32(b), np.float32(c)))
    assert reference.fma(np.float32(INF), np.float32(2), np.float32(1)) == INF


def test_fma_where_float64_would_round_twice() -> None:
    cases = double_rounding_cases()
    assert len(cases) == 200
    for a, b, c in cases:
        got = reference.fma(np.float32(a), np.float32(b), np.float32(c))
        assert got == round_to_float32(Fraction(a) * Fraction(b) + Fraction(c))


@pytest.mark.parametrize("bounds", [NONE, RELU, RELU6])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_numpy_reference(bounds: tuple[float, float], bias: bool) -> None:
    rng = np.random.default_rng(1)
    for rows, inputs, outputs in itertools.product((1, 5), (1, 3, 64, 257), (1, 17)):
        layer = random_layer(rng, inputs, outputs, bias=bias, bounds=bounds)
        codes = rng.integers(0, 256, (rows, inputs)).astype(np.uint8)
        scale = rng.uniform(0.001, 0.1, rows).astype(np.float32)
        zero_point = rng.choice([0, 1, 128, 255], rows).astype(np.int32)
        arguments = (codes, layer.weight, layer.weight_scale, layer.bias, scale, zero_point)
        got = np.zeros((rows, outputs), np.float32)
        _core.reference_linear(layer.native, codes, scale, zero_point, got)
        assert_same_bits(got, reference.linear_f32(*arguments, *bounds))
        got_codes = np.zeros((rows, outputs), np.uint8)
        _core.reference_linear(layer.native, codes, scale, zero_point, got_codes, 0.02, 100)
        assert_same_bits(got_codes, reference.linear_u8(*arguments, 0.02, 100, *bounds))


def test_linear_is_the_correctly_rounded_sum() -> None:
    rng = np.random.default_rng(2)
    layer = random_layer(rng, 100, 40)
    assert layer.bias is not None
    codes = rng.integers(0, 256, (10, 100)).astype(np.uint8)
    scale, zero_point = np.float32(0.037), 93
    got = reference.linear_f32(
        codes, layer.weight, layer.weight_scale, layer.bias, scale, np.int32(zero_point)
    )
    acc = (codes.astype(int) - zero_point) @ layer.weight.T.astype(int)
    for (m, n), value in np.ndenumerate(got):
        product = Fraction(float(scale * layer.weight_scale[n]))
        exact = int(acc[m, n]) * product + Fraction(float(layer.bias[n]))
        assert value == round_to_float32(exact)
    # And in real numbers: two more roundings, of the product of scales and of nothing else.
    real = acc * (float(scale) * layer.weight_scale.astype(np.float64)) + layer.bias
    assert np.all(np.abs(got - real) <= 2.0**-23 * (np.abs(real) + np.abs(real - layer.bias)))


def test_quantize_rounds_ties_to_even_and_saturates() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, 254.5, 255.5, 3e38, -3e38, INF, -INF, np.nan, -0.0, TINY])
    x = x.astype(np.float32)
    out = np.zeros(x.size, np.uint8)
    assert _core.quantize(x, 1.0, 0, out)
    assert out.tolist() == [0, 2, 2, 0, 254, 255, 255, 0, 255, 0, 0, 0, 0]
    assert not _core.quantize(x[:10].copy(), 1.0, 10, out[:10])
    assert out[:10].tolist() == [10, 12, 12, 10, 255, 255, 255, 0, 255, 0]


@given(FINITE, FINITE)
def test_quantizer_of_range(a: float, b: float) -> None:
    lo, hi = min(a, b), max(a, b)
    scale, zero_point = _core.quantizer_of_range(lo, hi)
    expected_scale, expected_zero_point = reference.quantizer_from_range(lo, hi)
    assert_same_bits(np.float32(scale), np.float32(expected_scale))
    assert zero_point == expected_zero_point
    assert 0 <= zero_point <= 255
    assert scale >= FLT_MIN
    # Zero has a code of its own, and the ends lie within half a step of the covered range.
    assert reference.dequantize(np.uint8(zero_point), scale, zero_point) == 0
    if (scale, zero_point) != (1.0, 0):
        ends = reference.dequantize(np.array([0, 255], np.uint8), scale, zero_point)
        step = float(scale) * 0.5001
        assert float(ends[0]) <= min(lo, 0.0) + step
        assert float(ends[1]) >= max(hi, 0.0) - step


@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [
        (0.0, 0.0, (1.0, 0)),
        (-0.0, 0.0, (1.0, 0)),
        (TINY, TINY, (1.0, 0)),
        (-FLT_MIN, FLT_MIN, (1.0, 0)),
        (0.0, 254 * FLT_MIN, (1.0, 0)),
        (0.0, 255 * FLT_MIN, (FLT_MIN, 0)),
        (-255.0, 0.0, (1.0, 255)),
        (-5.0, -3.0, (float(np.float32(5) / np.float32(255)), 255)),
        (3.0, 5.0, (float(np.float32(5) / np.float32(255)), 0)),
        (0.0, FLT_MAX, (float(np.float32(FLT_MAX) / np.float32(255)), 0)),
        (-FLT_MAX, FLT_MAX, (float(np.float32(FLT_MAX) / np.float32(255)) * 2, 128)),
        (-FLT_MAX, 0.0, (float(np.float32(FLT_MAX) / np.float32(255)), 255)),
    ],
)
def test_ends_of_ranges(lo: float, hi: float, expected: tuple[float, int]) -> None:
    assert _core.quantizer_of_range(lo, hi) == expected
    assert reference.quantizer_from_range(lo, hi) == expected


@pytest.mark.parametrize("lo_hi", [(np.nan, 1.0), (0.0, np.nan), (-INF, 0.0), (0.0, INF)])
def test_a_range_is_finite(lo_hi: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        _core.quantizer_of_range(*lo_hi)


@given(st.lists(st.lists(FINITE, min_size=5, max_size=5), min_size=1, max_size=4))
def test_quantize_weights(rows: list[list[float]]) -> None:
    weight = np.array(rows, np.float32)
    codes, scale = _core.quantize_weights(weight)
    expected_codes, expected_scale = reference.quantize_weights(weight)
    assert_same_bits(codes, expected_codes)
    assert_same_bits(scale, expected_scale)
    assert codes.min() >= -127
    normal = scale >= FLT_MIN
    with np.errstate(over="ignore"):
        back = codes[normal].astype(np.float64) * scale[normal, None].astype(np.float64)
        assert np.all(np.abs(back - weight[normal]) <= 0.5001 * scale[normal, None])


def test_weights_of_special_rows() -> None:
    weight = np.array(
        [
            [0, 0],
            [-0.0, 0],
            [127, -127],
            [FLT_MAX, -FLT_MAX],
            [FLT_MIN, 0],
            [TINY, -TINY],
            [0.5, 1.5],
        ],
        np.float32,
    )
    codes, scale = _core.quantize_weights(weight)
    expected_codes, expected_scale = reference.quantize_weights(weight)
    assert_same_bits(codes, expected_codes)
    assert_same_bits(scale, expected_scale)
    assert scale[0] == scale[1] == scale[2] == scale[5] == 1
    assert codes[2].tolist() == codes[3].tolist() == [127, -127]
