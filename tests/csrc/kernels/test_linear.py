"""The linear kernels of every instruction set against the native reference, bit by bit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from guard import EDGES, Edge, guarded, guarded_empty
from oracle import (
    NONE,
    RELU,
    RELU6,
    RandomLayer,
    assert_same_bits,
    random_layer,
    round_to_float32,
)

from fastmnist import _core

# Tiles: 16 outputs a panel, 4 panels a group; 4 inputs a block, padded to 64; 6, 2 and 1 rows
# (AVX-512) or 4 and 1 (AVX2). Each size with its neighbours, and primes.
OUTPUTS = (1, 2, 13, 15, 16, 17, 31, 33, 47, 48, 49, 63, 64, 65, 79, 97, 127, 129)
INPUTS = (1, 2, 3, 4, 5, 7, 11, 31, 63, 64, 65, 67, 127, 128, 129, 131)
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 17)


@dataclass(frozen=True)
class Setting:
    """One choice of everything that is no size."""

    dtype: type
    bounds: tuple[float, float]
    bias: bool
    zero_point: int
    per_row: bool
    edge: Edge


SETTINGS = [
    Setting(*choice)
    for choice in itertools.product(
        (np.float32, np.uint8),
        (NONE, RELU, RELU6),
        (True, False),
        (0, 1, 128, 255),
        (False, True),
        EDGES,
    )
]


def shuffled_settings(seed: int) -> Iterator[Setting]:
    """Give all settings, in another order, again and again."""
    order = np.random.default_rng(seed).permutation(len(SETTINGS))
    return (SETTINGS[i] for i in itertools.cycle(order))


def check(
    rng: np.random.Generator,
    layer: RandomLayer,
    codes: Any,
    setting: Setting,
) -> None:
    """Compare kernel and reference on guarded arrays."""
    rows, outputs = len(codes), len(layer.weight)
    count = rows if setting.per_row else 1
    scale = rng.uniform(0.001, 0.1, count).astype(np.float32)
    zero_point = np.full(count, setting.zero_point, np.int32)
    if setting.per_row:
        zero_point = rng.permutation(np.resize([setting.zero_point, 0, 255, 77], count))
        zero_point = zero_point.astype(np.int32)
    out_scale, out_zero_point = float(np.float32(rng.uniform(0.005, 0.05))), setting.zero_point
    packed = guarded(_core.pack([layer.native], "static"), setting.edge)
    out = guarded_empty((rows, outputs), setting.dtype, setting.edge)
    out[...] = 111
    expected = np.zeros((rows, outputs), setting.dtype)
    guarded_codes = guarded(codes, setting.edge)
    output = (out_scale, out_zero_point)
    _core.linear(guarded_codes, packed, scale, zero_point, out, *output)
    _core.reference_linear(layer.native, codes, scale, zero_point, expected, *output)
    assert_same_bits(out, expected, (codes.shape, outputs, setting))


def check_random(
    rng: np.random.Generator, rows: int, inputs: int, outputs: int, setting: Setting
) -> None:
    layer = random_layer(rng, inputs, outputs, bias=setting.bias, bounds=setting.bounds)
    codes = rng.integers(0, 256, (rows, inputs)).astype(np.uint8)
    check(rng, layer, codes, setting)


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_every_size_of_tile(isa: str, outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    settings = shuffled_settings(outputs)
    for inputs, rows in itertools.product(INPUTS, ROWS):
        check_random(rng, rows, inputs, outputs, next(settings))


def test_every_setting(isa: str) -> None:
    rng = np.random.default_rng(0)
    for setting in SETTINGS:
        check_random(rng, 13, 67, 83, setting)


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [
        (129, 784, 96),
        (129, 96, 256),
        (61, 256, 10),
        (48, 4096, 127),
        (7, 4093, 1000),
        (129, 509, 1),
    ],
)
def test_large_layers(isa: str, rows: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(rows)
    settings = shuffled_settings(inputs)
    for _ in range(4):
        check_random(rng, rows, inputs, outputs, next(settings))


@pytest.mark.parametrize("outputs", [1, 10, 15, 16])
def test_many_rows_of_few_outputs(isa: str, outputs: int) -> None:
    """Last layers: tiles of rows take turns, up to four at a time, and there may be fewer left."""
    rng = np.random.default_rng(outputs)
    settings = shuffled_settings(outputs)
    rows = (16, 17, 31, 32, 33, 48, 49, 63, 64, 65, 81, 130)
    for inputs, count in itertools.product((3, 63, 64, 65, 128, 131, 256), rows):
        check_random(rng, count, inputs, outputs, next(settings))


@pytest.mark.parametrize("codes_are", ["0 and 255", "255", "0"])
def test_extreme_weights_and_codes(isa: str, codes_are: str) -> None:
    rng = np.random.default_rng(1)
    values = {"0 and 255": [0, 255], "255": [255], "0": [0]}[codes_are]
    for (rows, inputs, outputs), setting in zip(
        itertools.product((1, 6, 9), (3, 64, 129, 1021), (1, 16, 65)),
        shuffled_settings(1),
        strict=False,
    ):
        layer = random_layer(
            rng, inputs, outputs, bias=setting.bias, bounds=setting.bounds, extreme=True
        )
        codes = rng.choice(np.array(values, np.uint8), (rows, inputs))
        check(rng, layer, codes, setting)


def plain_layer(weight: Any, scale: float = 1.0, bias: float = 0.0) -> RandomLayer:
    """Make a layer with one scale and one bias for all outputs."""
    outputs = len(weight)
    return RandomLayer(
        weight=np.asarray(weight, np.int8),
        weight_scale=np.full(outputs, scale, np.float32),
        bias=np.full(outputs, bias, np.float32),
        bounds=NONE,
        input_scale=1.0,
        input_zero_point=0,
    )


def run_plain(layer: RandomLayer, codes: Any, zero_point: int = 0) -> Any:
    """Run the active kernels with an input scale of 1."""
    out = guarded_empty((len(codes), len(layer.weight)), np.float32)
    packed = guarded(_core.pack([layer.native], "static"))
    one = np.ones(1, np.float32)
    _core.linear(guarded(codes), packed, one, np.full(1, zero_point, np.int32), out)
    return out


@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize("zero_point", [0, 255])
def test_the_longest_sum_is_exact(isa: str, weight: int, zero_point: int) -> None:
    inputs = 65536
    for rows in (1, 6):
        codes = np.full((rows, inputs), 255, np.uint8)
        out = run_plain(plain_layer(np.full((17, inputs), weight)), codes, zero_point)
        total = inputs * weight * (255 - zero_point)
        assert -(2**31) <= total < 2**31
        assert np.all(out == np.float32(total))


def test_more_inputs_than_int32_can_sum_are_refused() -> None:
    with pytest.raises(ValueError, match="65536 inputs"):
        _core.pack([plain_layer(np.ones((1, 65537))).native], "static")


@pytest.mark.parametrize("pair", [(127, 127), (-128, -128), (127, -128)])
def test_pair_sums_do_not_saturate(isa: str, pair: tuple[int, int]) -> None:
    # 255 * 127 + 255 * 127 = 64,770 does not fit the 16 bits of VPMADDUBSW.
    for inputs in (2, 4, 6, 64):
        weight = np.tile(np.array(pair), (16, inputs // 2))
        for codes in ([255, 255], [255, 254], [1, 255]):
            x = np.tile(np.array(codes, np.uint8), (7, inputs // 2))
            expected = x.astype(np.int64) @ weight.T
            assert np.array_equal(run_plain(plain_layer(weight), x), expected)


def test_each_product_by_itself(isa: str) -> None:
    # All 256 codes times all 256 weights, in every one of the four positions of a block.
    codes = np.arange(256, dtype=np.uint8)
    weight = np.arange(-128, 128)
    for position in range(4):
        x = np.zeros((256, 4), np.uint8)
        x[:, position] = codes
        w = np.full((256, 4), 99)
        w[:, position] = weight
        got = run_plain(plain_layer(w), x)
        assert np.array_equal(got, codes.astype(np.int64)[:, None] * weight)


def double_rounding_cases() -> list[tuple[int, float, float]]:
    """Find code, scale and bias for which a float64 sum, rounded to float32, is not the fma.

    The product is an odd integer of 25 bits: half way between two float32. A bias far below
    float64's last bit then decides which is nearer, and float64 loses it.
    """
    rng = np.random.default_rng(3)
    cases = []
    while len(cases) < 200:
        code = int(rng.integers(1, 128)) * 2 + 1
        low, high = -(-(2**24) // code), (2**25 - 1) // code
        scale = int(rng.integers(low, min(high, 2**24 - 1) + 1)) | 1
        if not 2**24 < code * scale < 2**25:
            continue
        shift = 2.0 ** float(rng.integers(-60, 20))
        bias = float(rng.choice([-1.0, 1.0])) * 2.0 ** float(rng.integers(-60, -30)) * shift
        sum64 = np.float64(code) * (scale * shift) + bias
        true = round_to_float32(_exact(code, scale * shift, bias))
        if np.float32(sum64) != true:
            cases.append((code, scale * shift, bias))
    return cases


def _exact(a: float, b: float, c: float) -> Any:
    from fractions import Fraction

    return Fraction(a) * Fraction(b) + Fraction(c)


def test_multiply_and_add_round_once(isa: str) -> None:
    for code, scale, bias in double_rounding_cases():
        layer = plain_layer(np.ones((3, 1)), scale, bias)
        out = run_plain(layer, np.full((2, 1), code, np.uint8))
        expected = round_to_float32(_exact(code, scale, bias))
        assert_same_bits(out, np.full((2, 3), expected, np.float32), (code, scale, bias))


@pytest.mark.parametrize("bounds", [NONE, RELU, RELU6, (-1.0, 1.0), (-0.0, 0.0), (2.0, 2.0)])
def test_special_values_of_the_epilogue(isa: str, bounds: tuple[float, float]) -> None:
    tiny = float(np.float32(1e-45))
    scales = np.array([1, 2**-149, 1e-40, 1e-38, 1e30, 3e38, 1e-20], np.float32)
    biases = np.array([0, -0.0, tiny, -tiny, 1e-38, -1e38, 3.4e38, -3.4e38, 6, -6], np.float32)
    grid = [(s, b) for s in scales for b in biases]
    outputs = len(grid)
    rng = np.random.default_rng(5)
    layer = RandomLayer(
        weight=rng.integers(-128, 128, (outputs, 9)).astype(np.int8),
        weight_scale=np.array([s for s, _ in grid], np.float32),
        bias=np.array([b for _, b in grid], np.float32),
        bounds=bounds,
        input_scale=1.0,
        input_zero_point=0,
    )
    codes = rng.integers(0, 256, (5, 9)).astype(np.uint8)
    codes[1] = 0
    for x_scale, zero_point in itertools.product((1e-30, 1e-5, 1.0, 1e10, 1e38), (0, 128)):
        arguments = (codes, np.full(1, x_scale, np.float32), np.full(1, zero_point, np.int32))
        for dtype in (np.float32, np.uint8):
            out = guarded_empty((5, outputs), dtype)
            expected = np.zeros((5, outputs), dtype)
            packed = guarded(_core.pack([layer.native], "static"))
            _core.linear(codes, packed, *arguments[1:], out, 0.5, 7)
            _core.reference_linear(layer.native, *arguments, expected, 0.5, 7)
            assert_same_bits(out, expected, (x_scale, zero_point, dtype))


def test_no_rows(isa: str) -> None:
    layer = plain_layer(np.ones((3, 5)))
    out = run_plain(layer, np.zeros((0, 5), np.uint8))
    assert out.shape == (0, 3)
