"""Activations, joins, softmax and norms of every instruction set: the same bits, near float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from guard import EDGES, Edge, guarded, guarded_empty
from hypothesis import given
from hypothesis import strategies as st
from oracle import FLT_MAX, FLT_MIN, INF, assert_same_bits

from fastmnist import _core
from fastmnist.int8 import reference, reference_functions
from fastmnist.int8.activation import NAMES, Activation, celu, elu, selu

F32 = npt.NDArray[np.float32]
LENGTHS = (*range(1, 71), 127, 513, 1031)
TINY = 1e-45
SPECIAL = np.array(
    [0, 1, 3, 6, 20, 87, 88, 89, 103, 104, 105, TINY, FLT_MIN, 1e30, FLT_MAX, INF, 0.5, 1e-20],
    np.float32,
)
SPECIAL = np.concatenate([SPECIAL, -SPECIAL, np.array([np.nan, -np.nan], np.float32)])
PARAMETERS: dict[str, list[tuple[float, float, float]]] = {
    "leaky_relu": [(0.1, 0, 0), (0, 0, 0), (-2.5, 0, 0)],
    "elu": [elu().parameters, celu(0.3).parameters, selu().parameters, (0, 0.5, 2), (3e38, 0, 1)],
    "softplus": [(1, 20, 0), (0.25, 3, 0), (-2, 20, 0), (1e30, FLT_MAX, 0)],
}
ACTIVATIONS = [
    Activation(name, parameters)
    for name in NAMES
    for parameters in PARAMETERS.get(name, [(0.0, 0.0, 0.0)])
]


def activate(x: F32, activation: Activation, **options: Any) -> F32:
    out = np.empty_like(x)
    _core.activate(x, activation.number, *activation.parameters, out, **options)
    return out


def some_rows(seed: int, n: int) -> list[F32]:
    rng = np.random.default_rng(seed)
    plain = rng.normal(scale=4, size=n).astype(np.float32)
    return [plain, np.where(rng.random(n) < 0.3, rng.choice(SPECIAL, n), plain)]


def any_bits(seed: int, n: int) -> F32:
    return np.random.default_rng(seed).integers(0, 2**32, n, dtype=np.uint32).view(np.float32)


# ---- the definition, and every set against it ----------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.title)
def test_the_reference_is_the_formula(activation: Activation) -> None:
    rng = np.random.default_rng(0)
    dense = rng.uniform(-110, 110, 20_000).astype(np.float32)
    small = rng.normal(scale=2, size=20_000).astype(np.float32)
    x = np.concatenate([SPECIAL, any_bits(1, 20_000), dense, small])
    got = activate(x, activation, reference=True)
    assert_same_bits(got, reference_functions.activate(x, activation), activation)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.title)
def test_activations_of_every_set(isa: str, activation: Activation) -> None:
    x = np.concatenate([SPECIAL, any_bits(2, 5001), some_rows(3, 30_000)[0]])
    assert_same_bits(activate(x, activation), activate(x, activation, reference=True), activation)


@pytest.mark.parametrize("edge", EDGES)
def test_every_length(isa: str, edge: Edge) -> None:
    for n in LENGTHS:
        for x in some_rows(n, n):
            for activation in (ACTIVATIONS[0], Activation("gelu"), Activation("tanh")):
                out = guarded_empty((n,), np.float32, edge)
                arguments = (activation.number, *activation.parameters)
                _core.activate(guarded(x, edge), *arguments, out)
                expected = activate(x, activation, reference=True)
                assert_same_bits(out, expected, (n, activation))
                codes = guarded_empty((n,), np.uint8, edge)
                nan = _core.activate_codes(guarded(x, edge), *arguments, 0.03, 40, codes)
                assert_same_bits(codes, reference.quantize(expected, 0.03, 40), (n, activation))
                assert nan == bool(np.isnan(x).any())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.title)
def test_a_number_gives_a_number(isa: str, activation: Activation) -> None:
    """Or codes would hide what floats show, and fused and other ways would differ."""
    x = np.concatenate([SPECIAL, any_bits(4, 100_000)])
    y = activate(x, activation)
    assert_same_bits(np.isnan(y), np.isnan(x))
    codes = np.empty(x.shape, np.uint8)
    assert _core.activate_codes(x, activation.number, *activation.parameters, 0.01, 128, codes)
    assert_same_bits(codes, reference.quantize(y, 0.01, 128))


@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.sampled_from(ACTIVATIONS))
def test_any_floats(isa: str, values: list[float], activation: Activation) -> None:
    x = np.array(values, np.float32)
    assert_same_bits(activate(x, activation), reference_functions.activate(x, activation))


def test_limits() -> None:
    x = np.array([-INF, INF], np.float32)
    minus_zero = -0.0
    for name, low, high in (
        ("gelu", minus_zero, INF), ("gelu_tanh", minus_zero, INF), ("silu", minus_zero, INF),
        ("mish", minus_zero, INF), ("hardswish", minus_zero, INF), ("hardsigmoid", 0, 1),
        ("sigmoid", 0, 1), ("tanh", -1, 1), ("log_sigmoid", -INF, 0), ("softsign", -1, 1),
    ):  # fmt: skip
        expected = np.array([low, high], np.float32)
        assert_same_bits(activate(x, Activation(name), reference=True), expected, name)


# ---- joins, slopes, affine, clamp ----------------------------------------------------------------

JOINS: dict[str, Callable[[F32, F32], F32]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
}  # fmt: skip


@pytest.mark.parametrize("edge", EDGES)
def test_joins_and_the_like(isa: str, edge: Edge) -> None:
    for n in LENGTHS:
        for a, b, c in zip(some_rows(n, n), some_rows(n + 1, n), some_rows(n + 2, n), strict=True):
            x, y, z = guarded(a, edge), guarded(b, edge), guarded(c, edge)
            out = guarded_empty((n,), np.float32, edge)
            with np.errstate(all="ignore"):
                for name, join in JOINS.items():
                    _core.join(name, x, y, out)
                    assert_same_bits(out, join(a, b), (name, n))
            slopes = np.where(np.isnan(b), np.float32(0), b)
            _core.slopes(x, guarded(slopes, edge), out)
            assert_same_bits(out, reference_functions.prelu(a, slopes), n)
            _core.affine(x, y, z, out)
            assert_same_bits(out, reference_functions.affine(a, b, c), n)
            _core.clamp(x, 0.0, 6.0, out)
            low = np.where(np.float32(0) > a, np.float32(0), a)
            assert_same_bits(out, np.where(np.float32(6) < low, np.float32(6), low), n)


# ---- rows --------------------------------------------------------------------------------------


def row_cases(n: int) -> list[F32]:
    plain, wild = some_rows(n, n)
    spread = plain * np.float32(30)
    return [plain, wild, spread, np.full(n, -INF, np.float32), np.zeros(n, np.float32)]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("log", [False, True])
def test_softmax(isa: str, edge: Edge, log: bool) -> None:
    formula = reference_functions.log_softmax if log else reference_functions.softmax
    for n in LENGTHS:
        for x in row_cases(n):
            expected = formula(x[None])[0]
            out = guarded_empty((n,), np.float32, edge)
            _core.softmax(guarded(x, edge), log, out)
            assert_same_bits(out, expected, n)
            _core.softmax(x, log, out, reference=True)
            assert_same_bits(out, expected, n)
            in_place = x.copy()
            _core.softmax(in_place, log, in_place)
            assert_same_bits(in_place, expected, n)


@pytest.mark.parametrize("edge", EDGES)
def test_layer_norm(isa: str, edge: Edge) -> None:
    for n in LENGTHS:
        weight, bias = some_rows(n + 5, n)[0], some_rows(n + 6, n)[0]
        for x in row_cases(n):
            for w in (None, weight):
                for b in (None, bias):
                    expected = reference_functions.layer_norm(x[None], w, b, 1e-5)[0]
                    out = guarded_empty((n,), np.float32, edge)
                    gw, gb = (None if a is None else guarded(a, edge) for a in (w, b))
                    _core.layer_norm(guarded(x, edge), gw, gb, 1e-5, out)
                    assert_same_bits(out, expected, n)
                    _core.layer_norm(x, w, b, 1e-5, out, reference=True)
                    assert_same_bits(out, expected, n)


# ---- against float64 ---------------------------------------------------------------------------


def exact(activation: Activation, x: torch.Tensor) -> torch.Tensor:
    """Compute in float64, by formulas that lose nothing in the tails."""
    p0, p1, p2 = activation.parameters
    zero = torch.zeros((), dtype=torch.float64)
    log1p = torch.log1p(torch.exp(-x.abs()))
    e = torch.exp(x.clamp(max=40))
    formulas: dict[str, Callable[[], torch.Tensor]] = {
        "leaky_relu": lambda: torch.where(x < 0, x * p0, x),
        "elu": lambda: torch.where(x > 0, x * p0, torch.expm1(torch.minimum(x * p2, zero)) * p1),
        "gelu": lambda: x * torch.special.erfc(-x / 2**0.5) / 2,
        "gelu_tanh": lambda: x * torch.sigmoid(2 * (2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)),
        "silu": lambda: x * torch.sigmoid(x),
        "mish": lambda: x * (e * (e + 2) / (e * (e + 2) + 2)),
        "hardswish": lambda: x * (x + 3).clamp(0, 6) / 6,
        "hardsigmoid": lambda: (x + 3).clamp(0, 6) / 6,
        "sigmoid": lambda: torch.sigmoid(x),
        "tanh": lambda: torch.tanh(x),
        "softplus": lambda: torch.where(
            x * p0 > p1, x, torch.nn.functional.softplus(x, p0, threshold=50)
        ),
        "log_sigmoid": lambda: x.clamp(max=0) - log1p,
        "softsign": lambda: x / (1 + x.abs()),
    }
    return formulas[activation.name]()


# As csrc/kernels/functions.h states it: largest error in units in the last place of the larger of
# 1 and the result, and of the result itself where that is at least 2^-100.
BOUNDS = {
    "leaky_relu": (0.5, 0.5),
    "elu": (0.5, 1),
    "gelu": (1, 7),
    "gelu_tanh": (1.5, 80),
    "silu": (1.5, 3.5),
    "mish": (2, 4.5),
    "hardswish": (1.75, 2),
    "hardsigmoid": (0.5, 1),
    "sigmoid": (0.8, 2.5),
    "tanh": (1.3, 2.6),
    "softplus": (1.25, 3),
    "log_sigmoid": (1.25, 3),
    "softsign": (0.75, 1.5),
}


@pytest.mark.parametrize("name", NAMES)
def test_errors_against_float64(name: str) -> None:
    activation = Activation(name, PARAMETERS.get(name, [(0.0, 0.0, 0.0)])[0])
    every = np.arange(1, 2**32, 4099, dtype=np.uint64).astype(np.uint32).view(np.float32)
    rng = np.random.default_rng(5)
    dense = [rng.uniform(-r, r, 400_000).astype(np.float32) for r in (1, 8, 105)]
    x = np.concatenate([every[np.isfinite(every)], *dense])
    got = activate(x, activation, reference=True).astype(np.float64)
    want = exact(activation, torch.from_numpy(x).double()).numpy()
    size = np.abs(want)
    known = size < 3e38
    assert known.mean() > 0.9
    error = np.abs(got - want)[known]
    size = size[known]
    whole = np.spacing(np.maximum(size, 1).astype(np.float32))
    own = np.spacing(np.maximum(size, 2.0**-100).astype(np.float32))
    of_scale, of_result = BOUNDS[name]
    assert (error / whole).max() <= of_scale
    assert (error / own)[size >= 2.0**-100].max() <= of_result


@pytest.mark.parametrize("n", [1, 10, 50, 1000])
def test_rows_against_float64(n: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(scale=5, size=(50, n)).astype(np.float32)
    wide = torch.from_numpy(x).double()
    out = np.empty((n,), np.float32)
    for row, want_row in zip(x, wide, strict=True):
        _core.softmax(row, False, out)
        np.testing.assert_allclose(out, torch.softmax(want_row, 0).numpy(), rtol=5e-6, atol=1e-37)
        _core.softmax(row, True, out)
        np.testing.assert_allclose(out, torch.log_softmax(want_row, 0).numpy(), atol=4e-6)
        _core.layer_norm(row, None, None, 1e-5, out)
        want = torch.nn.functional.layer_norm(want_row, (n,), eps=1e-5).numpy()
        np.testing.assert_allclose(out, want, atol=2e-6)


def test_sizes_are_checked() -> None:
    x, out = np.zeros(3, np.float32), np.zeros(4, np.float32)
    with pytest.raises(ValueError, match="out: expected 3 values, as many as x has, got 4"):
        _core.activate(x, 1, 0, 0, 0, out)
    with pytest.raises(ValueError, match="function: expected a number from 0 to 13, got 14"):
        _core.activate(x, 14, 0, 0, 0, x)
