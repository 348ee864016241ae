"""Weights of few values and few bits: the same bits as dense ones, in nibbles and in sums of 16."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from guard import EDGES, Edge
from kernel_checks import check_kernels
from oracle import RELU, RandomLayer, assert_same_bits, random_layer

from fastmnist import _core

# Pairs of blocks are 8 inputs, groups 64, sums of 16 bits 8 quads, 32 inputs; panels 16 outputs.
INPUTS = (1, 3, 4, 5, 8, 9, 31, 32, 33, 63, 64, 65, 127, 130, 145, 193, 300)
OUTPUTS = (1, 8, 15, 16, 17, 33, 64, 70)
ROWS = (1, 2, 3, 5, 6, 7, 8, 9, 16, 17, 31, 33, 70)


def table(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Values that weights are drawn from."""
    if kind == "4 bits":
        return np.arange(-7, 8, dtype=np.int8)
    if kind == "-8":
        return np.arange(-8, 8, dtype=np.int8)
    if kind == "5 bits":
        return np.array([-16, -15, -3, 0, 1, 15, 16], np.int8)
    if kind == "largest":
        return np.array([-128, 127], np.int8)
    if kind == "without 0":
        return np.array([-100, -3, 5, 127], np.int8)
    values = rng.choice(np.setdiff1d(np.arange(-128, 128), 0), 15, replace=False)
    return np.append(values, 0).astype(np.int8)


KINDS = ("4 bits", "-8", "5 bits", "largest", "without 0", "clusters")


def with_values(layer: RandomLayer, kind: str, rng: np.random.Generator) -> RandomLayer:
    layer.weight[:] = rng.choice(table(rng, kind), layer.weight.shape)
    return layer


def check(layer: RandomLayer, rows: int, edge: Edge, seed: int, what: object = "") -> set[str]:
    """Compare every kernel that reads the layer with the reference; give their names."""
    return check_kernels(layer, rows, edge, seed, ["nibbles"], zeros=0.4, what=what)


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_every_size(isa: str, outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    kinds, rows = itertools.cycle(KINDS), itertools.cycle(ROWS)
    for i, inputs in enumerate(INPUTS * 3):
        kind = next(kinds)
        layer = with_values(random_layer(rng, inputs, outputs, bounds=RELU), kind, rng)
        check(layer, next(rows), EDGES[i % 2], i, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_rows(isa: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    layer = with_values(random_layer(rng, 261, 50), kind, rng)
    names = set().union(*(check(layer, rows, EDGES[rows % 2], rows) for rows in ROWS))
    assert any("nibbles" in name for name in names)
    if isa == "avx2" and kind in ("4 bits", "-8"):
        assert any("4-bit" in name for name in names)


@pytest.mark.parametrize(("inputs", "outputs"), [(4096, 64), (4093, 130), (784, 96), (65536, 17)])
def test_large_layers(isa: str, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(inputs)
    for kind, rows in (("4 bits", 2), ("clusters", 1), ("largest", 18), ("4 bits", 40)):
        if inputs * outputs * rows > 4_000_000 and isa == "scalar":
            rows = 1
        check(with_values(random_layer(rng, inputs, outputs), kind, rng), rows, "last", rows)


@pytest.mark.parametrize("weight", [-128, 127, -16, 16, -8, 8, 7])
def test_the_longest_sum_is_exact(isa: str, weight: int) -> None:
    """All codes and weights at their largest: no sum of 16 bits may saturate."""
    layer = random_layer(np.random.default_rng(3), 65536, 16)
    layer.weight[:] = weight
    codes = np.full((3, 65536), 255, np.uint8)
    packed = _core.pack([layer.native], "static", forms=[["nibbles"]])
    one, zero = np.ones(1, np.float32), np.zeros(1, np.int32)
    expected = np.zeros((3, 16), np.float32)
    _core.reference_linear(layer.native, codes, one, zero, expected)
    for rows in (1, 2, 3):
        for kernel in _core.layer_kernels(packed, 0, rows):
            out = np.zeros((rows, 16), np.float32)
            _core.linear(codes[:rows], packed, one, zero, out, kernel=kernel)
            assert_same_bits(out, expected[:rows], kernel)


def test_too_many_values_are_refused(isa: str) -> None:
    layer = random_layer(np.random.default_rng(4), 20, 5)
    layer.weight[:] = np.arange(1, 101).reshape(5, 20)
    with pytest.raises(
        ValueError, match=r"forms: expected nibbles for at most 16 distinct weights"
    ):
        _core.pack([layer.native], "static", forms=[["nibbles"]])
    layer.weight[:] = 0
    layer.weight[:] = np.arange(1, 101).reshape(5, 20) % 16 + 1  # and the 0 that pads
    with pytest.raises(ValueError, match="forms"):
        _core.pack([layer.native], "static", forms=[["nibbles"]])


@pytest.mark.parametrize("inputs", [64, 128, 4096])
def test_sixteen_values_without_a_zero(isa: str, inputs: int) -> None:
    """Where no input is padded, nothing needs one."""
    rng = np.random.default_rng(inputs)
    layer = random_layer(rng, inputs, 37)
    values = np.append(np.arange(-120, 120, 16), 127)
    layer.weight[:] = rng.choice(values, layer.weight.shape)
    for rows in (1, 2, 9, 40):
        names = check(layer, rows, "last", rows)
        assert any("nibbles" in name for name in names)
