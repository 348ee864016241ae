"""Sparse weights: the same bits as dense ones whatever the mask, and nothing outside the arrays."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from guard import EDGES, Edge, guarded, guarded_empty
from hypothesis import given
from hypothesis import strategies as st
from kernel_checks import check_kernels
from oracle import RELU, RandomLayer, assert_same_bits, random_layer

from fastmnist import _core

FORMS = ["bounded", "int16", "bitmask", "picks", "windows32", "windows64"]
SHARES = (0.0, 0.3, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)
# Windows are 128 inputs, groups of blocks 64, panels 16 outputs; 8 and 4 rows at once, 16 and 32 by
# tiles, more by panels that were decoded whole.
INPUTS = (1, 3, 4, 63, 64, 65, 127, 128, 129, 193, 300)
OUTPUTS = (1, 15, 16, 17, 33, 64, 70)
ROWS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 70)


def check(layer: RandomLayer, rows: int, edge: Edge, seed: int, what: object = "") -> None:
    """Compare every kernel that reads the layer, in any of the forms, with the reference."""
    check_kernels(layer, rows, edge, seed, FORMS, what=what)


def with_zeros(layer: RandomLayer, share: float, rng: np.random.Generator) -> RandomLayer:
    layer.weight[rng.random(layer.weight.shape) < share] = 0
    return layer


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_every_size(isa: str, outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    shares, rows = itertools.cycle(SHARES), itertools.cycle(ROWS)
    for i, inputs in enumerate(INPUTS * 3):
        share = next(shares)
        layer = with_zeros(random_layer(rng, inputs, outputs, bounds=RELU), share, rng)
        check(layer, next(rows), EDGES[i % 2], i, share)


@pytest.mark.parametrize("share", SHARES)
def test_every_number_of_rows(isa: str, share: float) -> None:
    rng = np.random.default_rng(3)
    layer = with_zeros(random_layer(rng, 257, 50), share, rng)
    for rows in ROWS:
        check(layer, rows, EDGES[rows % 2], rows)


@pytest.mark.parametrize(("inputs", "outputs"), [(4096, 64), (4093, 130), (784, 96), (65536, 17)])
def test_large_layers(isa: str, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(inputs)
    for share, rows in ((0.5, 2), (0.95, 1), (0.99, 18), (0.8, 40)):
        if inputs * outputs * rows > 4_000_000 and isa == "scalar":
            rows = 1
        check(with_zeros(random_layer(rng, inputs, outputs), share, rng), rows, "last", rows)


def test_empty_outputs_and_inputs(isa: str) -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.9):
        layer = with_zeros(random_layer(rng, 200, 48), share, rng)
        layer.weight[[0, 5, 16, 17, 47]] = 0  # outputs
        layer.weight[32:] = 0  # a whole panel
        layer.weight[:, [0, 1, 63, 199]] = 0  # inputs
        layer.weight[:, 64:140] = 0  # more than a window's half
        for rows in (1, 4, 20):
            check(layer, rows, "last", rows)


def test_only_the_last_input_or_only_one_output(isa: str) -> None:
    for inputs in (1, 127, 128, 129, 65536):
        layer = random_layer(np.random.default_rng(1), inputs, 20)
        layer.weight[:, :-1] = 0
        check(layer, 2, "last", 1)
        layer = random_layer(np.random.default_rng(2), inputs, 20)
        layer.weight[np.arange(20) != 11] = 0
        check(layer, 1, "first", 2)


def test_the_longest_sum_is_exact(isa: str) -> None:
    """Dense enough to reach the largest int32, in both sparse forms."""
    for weight in (-128, 127):
        layer = random_layer(np.random.default_rng(3), 65536, 16)
        layer.weight[:] = weight
        codes = np.full((1, 65536), 255, np.uint8)
        packed = _core.pack([layer.native], "static", forms=[FORMS])
        one, zero = np.ones(1, np.float32), np.zeros(1, np.int32)
        expected = np.zeros((1, 16), np.float32)
        _core.reference_linear(layer.native, codes, one, zero, expected)
        for kernel in _core.layer_kernels(packed, 0, 1):
            out = np.zeros((1, 16), np.float32)
            _core.linear(codes, packed, one, zero, out, kernel=kernel)
            assert_same_bits(out, expected, kernel)


@st.composite
def masked_layers(draw: st.DrawFn) -> RandomLayer:
    """Masks of rectangles, lines, single weights and noise: what no random share would make."""
    inputs, outputs = draw(st.integers(1, 300)), draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    layer = random_layer(rng, inputs, outputs, extreme=draw(st.booleans()))
    keep = rng.random((outputs, inputs)) < draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
    for _ in range(draw(st.integers(0, 4))):
        n, k = draw(st.integers(0, outputs - 1)), draw(st.integers(0, inputs - 1))
        height, width = draw(st.integers(1, outputs)), draw(st.integers(1, inputs))
        keep[n : n + height, k : k + width] = draw(st.booleans())
    layer.weight[~keep] = 0
    return layer


@given(layer=masked_layers(), rows=st.integers(1, 40), seed=st.integers(0, 1000))
def test_any_mask(isa: str, layer: RandomLayer, rows: int, seed: int) -> None:
    check(layer, rows, EDGES[seed % 2], seed)


def network(forms: list[list[str]] | None = None) -> tuple[Any, Any]:
    rng = np.random.default_rng(4)
    layers = [
        with_zeros(random_layer(rng, k, n, bounds=RELU), share, rng)
        for k, n, share in ((200, 64, 0.9), (64, 130, 0.5), (130, 10, 0.0))
    ]
    return _core.pack([layer.native for layer in layers], "static", True, forms=forms), layers


def test_forms_that_may_pay_are_packed(isa: str) -> None:
    packed, _ = network()
    read = {kernel.form for kernel in _core.linear_kernels()} & {*FORMS}
    sparse = read - {"bounded", "int16"}
    forms = [{*_core.layer_forms(packed, i)} for i in range(3)]
    assert all("dense" in f and f - {"dense"} <= read for f in forms)
    assert [bool(f & sparse) for f in forms] == [bool(sparse), "bitmask" in sparse, False]
    plain, _ = network([[], [], []])
    assert plain.size <= packed.size
    kernels = _core.layer_kernels(packed, 2, 9, codes_out=True)
    dense = [kernel for kernel in kernels if kernel.form not in FORMS]
    assert _core.layer_kernels(plain, 0, 9) == dense


def test_networks_in_all_forms_are_equal(isa: str) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (150, 200), dtype=np.uint8)
    plain = _core.Model(network([[], [], []])[0])
    for forms in (None, [FORMS] * 3, [["picks"], ["bitmask"], []]):
        packed, _ = network(forms)
        model = _core.Model(packed)
        for rows in (1, 2, 9, 33, 150):
            assert_same_bits(model(pixels[:rows]), plain(pixels)[:rows], (forms, rows))
        for i in range(3):
            for expected, got in zip(plain.unpack(i), model.unpack(i), strict=True):
                assert_same_bits(got, expected)


def test_a_plan_may_name_any_kernel(isa: str) -> None:
    """One whose weights are not there is replaced by the rule, never run."""
    pixels = np.random.default_rng(6).integers(0, 256, (70, 200), dtype=np.uint8)
    expected = _core.Model(network([[], [], []])[0])(pixels)
    for forms in ([[], [], []], [FORMS] * 3):
        for kernel in _core.linear_kernels():
            packed, _ = network(forms)
            _core.set_plan(packed, [[kernel] * 8] * 3, 32)
            for rows in (1, 8, 70):
                assert_same_bits(_core.Model(packed)(pixels[:rows]), expected[:rows], kernel)


def test_foreign_bytes_do_no_harm(isa: str) -> None:
    """Sizes that do not fit are refused; anything else gives numbers, and touches nothing else."""
    rng = np.random.default_rng(7)
    layer = with_zeros(random_layer(rng, 300, 70), 0.8, rng)
    good = _core.pack([layer.native], "static", forms=[FORMS])
    dense = _core.pack([layer.native], "static", forms=[[]]).size
    one, zero = np.ones(1, np.float32), np.zeros(1, np.int32)
    codes = guarded(rng.integers(0, 256, (33, 300), dtype=np.uint8))
    ran = 0
    for trial in range(150):
        bytes_ = good.copy()
        if trial % 3 == 0:  # anywhere, the section's header included
            at = rng.integers(dense, bytes_.size, 20)
            bytes_[at] = rng.integers(0, 256, 20)
        elif trial % 3 == 1:  # everything behind the header
            bytes_[dense + 64 :] = rng.integers(0, 256, bytes_.size - dense - 64)
        else:
            bytes_[dense + 64 :] = 255
        packed = guarded(bytes_, EDGES[trial % 2])
        try:
            _core.layer_kernels(packed, 0, 1)
        except ValueError:
            continue
        for rows in (1, 3, 33):
            for kernel in _core.layer_kernels(packed, 0, rows, codes_out=True):
                out = guarded_empty((rows, 70), np.uint8)
                _core.linear(codes[:rows], packed, one, zero, out, kernel=kernel)
                ran += 1
    assert ran > 100


def test_sections_that_lie_about_their_sizes_are_refused() -> None:
    rng = np.random.default_rng(8)
    layer = with_zeros(random_layer(rng, 300, 70), 0.8, rng)
    good = _core.pack([layer.native], "static", forms=[FORMS])
    at = _core.pack([layer.native], "static", forms=[[]]).size
    for form in FORMS:  # their sections follow each other, each with its count first
        for value in (0, 1, 2**31, 2**63, 2**64 - 1):
            packed = good.copy()
            if packed.view(np.uint64)[at // 8] == value:
                continue  # the truth: 16 bits a weight leave nothing to count
            packed.view(np.uint64)[at // 8] = value
            with pytest.raises(ValueError, match="weights"):
                _core.layer_kernels(packed, 0, 1)
        at += _core.layer_forms(good, 0)[form]
    assert at == good.size


def test_unknown_forms_are_refused() -> None:
    layer = random_layer(np.random.default_rng(0), 4, 4)
    with pytest.raises(ValueError, match=r"one of bounded, .*, windows64"):
        _core.pack([layer.native], "static", forms=[["csr"]])
    with pytest.raises(ValueError, match="one list per layer"):
        _core.pack([layer.native], "static", forms=[])
