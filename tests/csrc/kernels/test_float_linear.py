"""Float32 layers of every instruction set: the reference's bits, and nothing outside the arrays."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from guard import EDGES, Edge, guarded, guarded_empty
from hypothesis import given
from hypothesis import strategies as st
from oracle import FLT_MAX, FLT_MIN, INF, NONE, RELU, RELU6, assert_same_bits, round_to_float32

from fastmnist import _core
from fastmnist.int8 import reference

F32 = npt.NDArray[np.float32]
TINY = float(np.float32(1e-45))
SPECIAL = np.array(
    [0, -0.0, INF, -INF, np.nan, TINY, -TINY, FLT_MIN, -FLT_MIN, FLT_MAX, -FLT_MAX], np.float32
)
SEEDS = st.integers(0, 2**32 - 1)


def draw(rng: np.random.Generator, shape: tuple[int, ...], special: float) -> F32:
    values = rng.normal(size=shape).astype(np.float32)
    return np.where(rng.random(shape) < special, rng.choice(SPECIAL, shape), values)


def check(
    rng: np.random.Generator,
    rows: int,
    inputs: int,
    outputs: int,
    edge: Edge,
    special: float = 0.0,
    bounds: tuple[float, float] = NONE,
) -> None:
    x = draw(rng, (rows, inputs), special)
    weight = draw(rng, (outputs, inputs), special / 4)
    bias = draw(rng, (outputs,), special) if rng.integers(0, 3) else None
    layers = _core.FloatLayers([(weight, bias, *bounds)])
    assert_same_bits(layers.weight(0), weight)
    expected = np.empty((rows, outputs), np.float32)
    _core.reference_float_linear(x, weight, bias, *bounds, expected)
    out = guarded_empty((rows, outputs), np.float32, edge)
    layers.run(guarded(x, edge), out)
    assert_same_bits(out, expected, (rows, inputs, outputs, special, bounds))


@pytest.mark.parametrize("edge", EDGES)
def test_every_number_of_rows(isa: str, edge: Edge) -> None:
    rng = np.random.default_rng(0)
    for rows in range(1, 41):
        for outputs in (1, 10, 16, 17, 70):
            check(rng, rows, 9, outputs, edge)


@pytest.mark.parametrize("edge", EDGES)
def test_every_number_of_outputs(isa: str, edge: Edge) -> None:
    rng = np.random.default_rng(1)
    for outputs in range(1, 101):
        for rows in (1, 2, 3, 5, 8):
            check(rng, rows, 5, outputs, edge)


@given(SEEDS, st.integers(1, 40), st.integers(1, 300), st.integers(1, 100), st.sampled_from(EDGES))
def test_any_shape(isa: str, seed: int, rows: int, inputs: int, outputs: int, edge: Edge) -> None:
    rng = np.random.default_rng(seed)
    special = float(rng.choice([0.0, 0.01, 0.3]))
    bounds = (NONE, RELU, RELU6)[seed % 3]
    check(rng, rows, inputs, outputs, edge, special, bounds)


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 4096, 100), (40, 4096, 33), (200, 1025, 10), (20, 1, 50)]
)
def test_long_chains(isa: str, rows: int, inputs: int, outputs: int) -> None:
    check(np.random.default_rng(inputs), rows, inputs, outputs, "last", bounds=RELU)


def test_rows_that_lie_apart(isa: str) -> None:
    rng = np.random.default_rng(2)
    for rows, inputs, outputs in itertools.product((1, 4, 13), (1, 7, 300), (3, 16, 50)):
        wide_x, wide_out = draw(rng, (rows, inputs + 5), 0.0), np.full((rows, outputs + 3), 7.0)
        wide_out = wide_out.astype(np.float32)
        weight, bias = draw(rng, (outputs, inputs), 0.0), draw(rng, (outputs,), 0.0)
        expected = np.empty((rows, outputs), np.float32)
        x = np.ascontiguousarray(wide_x[:, :inputs])
        _core.reference_float_linear(x, weight, bias, *RELU, expected)
        _core.FloatLayers([(weight, bias, *RELU)]).run(wide_x[:, :inputs], wide_out[:, :outputs])
        assert_same_bits(wide_out[:, :outputs].copy(), expected)
        assert (wide_out[:, outputs:] == 7).all()


def test_a_row_does_not_depend_on_others(isa: str) -> None:
    rng = np.random.default_rng(3)
    x, weight = draw(rng, (70, 1200), 0.0), draw(rng, (90, 1200), 0.0)
    layers = _core.FloatLayers([(weight, None, *NONE)])
    together = np.empty((70, 90), np.float32)
    layers.run(x, together)
    for rows in (1, 2, 3, 4, 7, 31):
        alone = np.empty((rows, 90), np.float32)
        layers.run(x[:rows], alone)
        assert_same_bits(alone, together[:rows])


def test_layers_in_a_row(isa: str) -> None:
    rng = np.random.default_rng(4)
    widths = (30, 96, 20, 10, 1)
    parts = [(draw(rng, (n, k), 0.0), draw(rng, (n,), 0.0)) for k, n in itertools.pairwise(widths)]
    layers = _core.FloatLayers([(weight, bias, *RELU) for weight, bias in parts])
    for rows in (1, 33, 2):
        x = draw(rng, (rows, 30), 0.0)
        out = np.empty((rows, 1), np.float32)
        layers.run(x, out)
        for weight, bias in parts:
            after = np.empty((rows, len(weight)), np.float32)
            _core.reference_float_linear(x, weight, bias, *RELU, after)
            x = after
        assert_same_bits(out, x)


@pytest.mark.parametrize("bounds", [NONE, RELU, RELU6])
def test_reference_is_the_numpy_reference(bounds: tuple[float, float]) -> None:
    rng = np.random.default_rng(5)
    for rows, inputs, outputs in itertools.product((1, 5), (1, 3, 64, 257), (1, 17)):
        for special in (0.0, 0.02):
            x, weight = draw(rng, (rows, inputs), special), draw(rng, (outputs, inputs), special)
            for bias in (None, draw(rng, (outputs,), special)):
                out = np.empty((rows, outputs), np.float32)
                _core.reference_float_linear(x, weight, bias, *bounds, out)
                assert_same_bits(out, reference.float_linear(x, weight, bias, *bounds))


def test_reference_rounds_once_a_product() -> None:
    rng = np.random.default_rng(6)
    x, weight, bias = draw(rng, (3, 40), 0.0), draw(rng, (4, 40), 0.0), draw(rng, (4,), 0.0)
    got = reference.float_linear(x, weight, bias)
    for (m, n), value in np.ndenumerate(got):
        acc = np.float32(0)
        for a, b in zip(x[m], weight[n], strict=True):
            acc = round_to_float32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(acc)))
        assert value == round_to_float32(Fraction(float(acc)) + Fraction(float(bias[n])))


def test_what_is_refused() -> None:
    weight, bias = np.zeros((3, 2), np.float32), np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="at least one"):
        _core.FloatLayers([])
    with pytest.raises(ValueError, match="bias: expected 3 values"):
        _core.FloatLayers([(weight, bias[:2], *NONE)])
    with pytest.raises(ValueError, match="layers: expected 3 inputs"):
        _core.FloatLayers([(weight, bias, *NONE), (weight, bias, *NONE)])
    layers = _core.FloatLayers([(weight, bias, *NONE)])
    x, out = np.zeros((4, 2), np.float32), np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"x: expected float32 \[rows, 2\]"):
        layers.run(out, out)
    with pytest.raises(ValueError, match=r"out: expected float32 \[4, 3\]"):
        layers.run(x, out[:3])
