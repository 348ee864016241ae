"""Whole networks: bit-equal to composed reference functions, however they are called."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from guard import EDGES, Edge, guarded, guarded_empty, guarded_read_only
from hypothesis import given
from hypothesis import strategies as st
from oracle import INF, KINDS, Kind, RandomNetwork, assert_same_bits, random_network

from fastmnist import _core

WIDTHS = [(7, 3), (64, 16), (12, 33, 5), (65, 70, 17, 10), (3, 9, 1, 4, 2), (96, 130, 65, 2)]


@pytest.fixture(autouse=True)
def _default_threads() -> Iterator[None]:
    yield
    _core.set_num_threads(0)


def float_rows(network: RandomNetwork, rows: int, seed: int = 0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, network.inputs)).astype(np.float32)


def pixel_rows(network: RandomNetwork, rows: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, network.inputs)).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_float_rows(isa: str, kind: Kind, widths: tuple[int, ...]) -> None:
    network = random_network(1, widths, kind)
    model = _core.Model(network.packed)
    for rows in (1, 2, 47, 48, 49, 100):
        x = float_rows(network, rows)
        expected = network.expected(x)
        for edge in EDGES:
            out = guarded_empty(expected.shape, np.float32, edge)
            assert model(guarded_read_only(x, edge), out=out) is out
            assert_same_bits(out, expected, (rows, edge))
        assert_same_bits(model(x), expected)
        tensor = torch.from_numpy(x)
        assert_same_bits(model(tensor).numpy(), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_rows(isa: str, kind: Kind, channels: int) -> None:
    network = random_network(2, (12, 33, 5), kind, pixels=True, channels=channels)
    model = _core.Model(network.packed)
    assert model.takes_pixels
    for rows in (1, 49, 100):
        x = pixel_rows(network, rows)
        expected = network.expected(x)
        for edge in EDGES:
            assert_same_bits(model(guarded(x, edge)), expected)
        assert_same_bits(model(torch.from_numpy(x).reshape(rows, 3, 2, 2)).numpy(), expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.lists(st.integers(1, 80), min_size=2, max_size=5).map(tuple),
    kind=st.sampled_from(KINDS),
    rows=st.integers(1, 60),
    edge=st.sampled_from(EDGES),
)
def test_any_network(
    isa: str, seed: int, widths: tuple[int, ...], kind: Kind, rows: int, edge: Edge
) -> None:
    network = random_network(seed, widths, kind, pixels=True)
    model = _core.Model(network.packed)
    x, pixels = float_rows(network, rows, seed), pixel_rows(network, rows, seed)
    assert_same_bits(model(guarded(x, edge)), network.expected(x))
    assert_same_bits(model(guarded(pixels, edge)), network.expected(pixels))


@pytest.mark.parametrize("kind", KINDS)
def test_batch_splits(isa: str, kind: Kind) -> None:
    network = random_network(3, (65, 70, 10), kind)
    model = _core.Model(network.packed)
    x = float_rows(network, 60)
    whole = model(x)
    for size in range(1, 60):
        parts = [model(x[first : first + size]) for first in range(0, 60, size)]
        assert_same_bits(np.concatenate(parts), whole, size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pixels", [False, True])
def test_thread_counts(isa: str, kind: Kind, pixels: bool) -> None:
    # 256*200 + 200*30 products a row; a thread is woken for every 4 million of them.
    network = random_network(4, (256, 200, 30), kind, pixels=True)
    model = _core.Model(network.packed)
    x = pixel_rows(network, 500) if pixels else float_rows(network, 500)
    one_by_one = np.concatenate([model(x[i : i + 1]) for i in range(500)])
    assert_same_bits(one_by_one[:3], network.expected(x[:3]))
    for threads in (1, 2, 3, 7):
        _core.set_num_threads(threads)
        for edge in EDGES:
            out = guarded_empty(one_by_one.shape, np.float32, edge)
            model(guarded(x, edge), out)
            assert_same_bits(out, one_by_one, threads)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_not_finite(isa: str, kind: Kind) -> None:
    network = random_network(5, (20, 40, 6), kind)
    model = _core.Model(network.packed)
    clean = float_rows(network, 100)
    x = clean.copy()
    x[3, 7], x[50, 0], x[51, 19], x[99, 5] = np.nan, INF, -INF, -np.nan
    x[52, 3:5] = INF, np.nan
    got = model(x)
    assert_same_bits(got, network.expected(x))
    touched = [3, 50, 51, 52, 99]
    others = np.setdiff1d(np.arange(100), touched)
    assert_same_bits(got[others], model(clean)[others])
    assert np.isnan(got[[3, 52, 99]]).all()
    if kind == "dynamic":
        assert np.isnan(got[[50, 51]]).all()
    else:  # infinity is the largest code, or the smallest
        assert np.isfinite(got[[50, 51]]).all()
        large = clean.copy()
        large[50, 0], large[51, 19] = 1e30, -1e30
        assert_same_bits(got[[50, 51]], model(large)[[50, 51]])


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_finite_rows(isa: str, kind: Kind) -> None:
    network = random_network(6, (8, 12, 3), kind)
    values = np.array([3.4e38, -3.4e38, 1e-45, -1e-45, 1.2e-38, 0.0, -0.0, 1.0], np.float32)
    x = np.stack([np.roll(values, i) for i in range(8)] + [np.full(8, v) for v in values])
    x = x.astype(np.float32)
    assert_same_bits(_core.Model(network.packed)(x), network.expected(x))


def test_dynamic_overflow_inside_is_nan(isa: str) -> None:
    layers = [
        _core.Layer(
            np.full((2, 1), 127, np.int8), np.full(2, 3e38, np.float32), None, -INF, INF, 1, 0
        ),
        _core.Layer(np.ones((1, 2), np.int8), np.ones(1, np.float32), None, -INF, INF, 1, 0),
    ]
    model = _core.Model(_core.pack(layers, "dynamic"))
    got = model(np.array([[1.0], [1e-30], [0.0]], np.float32))
    assert np.isnan(got[0, 0])
    assert np.isfinite(got[1:]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows(kind: Kind) -> None:
    network = random_network(7, (5, 4, 3), kind, pixels=True)
    model = _core.Model(network.packed)
    assert model(np.zeros((0, 5), np.float32)).shape == (0, 3)
    assert model(np.zeros((0, 5), np.uint8)).shape == (0, 3)
    assert model(torch.zeros(0, 5)).shape == (0, 3)
    assert model.predict(torch.zeros(0, 5)).shape == (0,)
    out = np.zeros((0, 3), np.float32)
    assert model(np.zeros((0, 5), np.float32), out=out) is out


def test_predict_is_arg_max() -> None:
    network = random_network(8, (9, 12, 5))
    model = _core.Model(network.packed)
    x = float_rows(network, 200)
    x[17] = np.nan
    expected = model(x).argmax(axis=1)
    assert_same_bits(model.predict(x), expected)
    got = model.predict(torch.from_numpy(x))
    assert torch.equal(got, torch.from_numpy(expected))
    assert torch.equal(got, model(torch.from_numpy(x)).argmax(1))


def test_properties() -> None:
    network = random_network(9, (9, 12, 5))
    model = _core.Model(network.packed)
    assert (model.in_features, model.out_features) == (9, 5)
    assert model.nbytes == network.packed.nbytes
    assert not model.takes_pixels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": "nonsense"}, "input: expected 'static', 'affine' or 'dynamic'"),
        ({"input": "affine"}, "multiplier, offset"),
        ({"input": "dynamic", "pixel_codes": True}, "pixels: expected a pixel table"),
        (
            {"pixel_table": np.zeros((1, 256), np.float32)},
            "pixel_table: expected a dynamic network",
        ),
        (
            {"input": "dynamic", "pixel_table": np.zeros((2, 256), np.float32)},
            "channels that divide",
        ),
        (
            {"input": "dynamic", "pixel_table": np.zeros((0, 256), np.float32)},
            "channels that divide",
        ),
        ({"input": "dynamic", "pixel_table": np.zeros((1, 255), np.float32)}, "pixel_table"),
        ({"layers": []}, "layers: expected 1 to 1024 layers"),
    ],
)
def test_pack_refuses(changes: dict[str, object], message: str) -> None:
    network = random_network(10, (9, 4))
    arguments: dict[str, object] = {"layers": [network.layers[0].native], "input": "static"}
    with pytest.raises(ValueError, match=message):
        _core.pack(**(arguments | changes))  # type: ignore[arg-type]


def test_layers_must_fit_each_other() -> None:
    first, second = random_network(11, (9, 4)), random_network(11, (5, 4))
    with pytest.raises(ValueError, match=r"layers\[1\]\.weight: expected 4 inputs"):
        _core.pack([first.layers[0].native, second.layers[0].native], "static")


@pytest.mark.parametrize(
    "scales", [(1e20, 1e19, 3e38), (1e18, 1e18, 3e38), (1e15, 1e20, 3e38), (1e10, 1e19, 1e33)]
)
def test_outputs_beyond_float32_saturate_alike(isa: str, scales: tuple[float, ...]) -> None:
    """Between two layers a number may be infinite in float32: its code is 255 everywhere."""
    x_scale, w_scale, y_scale = scales
    weight = np.ones((64, 64), np.int8)
    zeros = np.zeros(64, np.float32)
    first = _core.Layer(weight, np.full(64, w_scale, np.float32), zeros, 0.0, np.inf, x_scale, 0)
    second = _core.Layer(
        np.eye(64, dtype=np.int8),
        np.full(64, 1e-30, np.float32),
        zeros,
        -np.inf,
        np.inf,
        y_scale,
        0,
    )
    packed = _core.pack([first, second], "static", True)
    rows = np.full((40, 64), 3, np.uint8)
    got = _core.Model(packed)(rows)
    before = _core.set_isa("scalar")
    expected = _core.Model(packed)(rows)
    _core.set_isa(before)
    assert_same_bits(got, expected)
