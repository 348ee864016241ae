"""The entropy coder of compressed files: exact, small, and nothing that it reads does harm."""

from __future__ import annotations

import tracemalloc

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastmnist._core import (
    CodedReader,
    CodedWriter,
    decode_bytes,
    decode_weights,
    encode_by_frequency,
    encode_bytes,
    encode_weights,
)


def pruned(outputs: int, inputs: int, share: float, values: int, seed: int = 0) -> np.ndarray:
    """Weights of which a share is not zero, some rows and columns holding more than others."""
    random = np.random.default_rng(seed)
    rows, columns = random.lognormal(0, 1, (outputs, 1)), random.lognormal(0, 1, (1, inputs))
    density = rows * columns
    there = random.random((outputs, inputs)) < share * density / density.mean()
    codes = np.rint(random.normal(0, values / 5, (outputs, inputs))).clip(-values // 2, values // 2)
    return np.where(there, codes, 0).astype(np.int8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (30, 49), (8, 784), (6, 300)])
@pytest.mark.parametrize(
    "make",
    [
        lambda shape: np.zeros(shape, np.int8),
        lambda shape: np.full(shape, -128, np.int8),
        lambda shape: np.resize(np.arange(-128, 127), shape).astype(np.int8),  # 255 values
        lambda shape: np.resize(np.arange(-128, 128), shape).astype(np.int8),
        lambda shape: np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8),
        lambda shape: np.random.default_rng(2).choice([-3, 4], shape).astype(np.int8),
        lambda shape: pruned(*shape, 0.05, 15),
    ],
)
def test_weights_come_back(shape, make) -> None:
    weights = make(shape)
    assert np.array_equal(decode_weights(encode_weights(weights), *shape), weights)


@given(
    hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)),
    st.integers(0, 127),
)
def test_any_weights_come_back(weights: np.ndarray, least: int) -> None:
    weights[abs(weights.astype(int)) < least] = 0
    assert np.array_equal(decode_weights(encode_weights(weights), *weights.shape), weights)


@given(st.binary(max_size=400), st.integers(1, 8))
def test_any_bytes_come_back(values: bytes, stride: int) -> None:
    assert decode_bytes(encode_bytes(values, stride), len(values), stride) == values


def test_the_coder_alone_is_as_good_as_constrictions() -> None:
    """By frequencies alone: ours learns them, that of constriction is told."""
    for weights in (
        pruned(300, 784, 0.03, 15), pruned(300, 784, 0.3, 15), pruned(64, 784, 1, 255),
        np.random.default_rng(0).integers(-8, 8, (100, 300)).astype(np.int8),
    ):  # fmt: skip
        values, symbols = np.unique(weights, return_inverse=True)
        frequencies = np.bincount(symbols.reshape(-1)) / weights.size
        encoder = constriction.stream.queue.RangeEncoder()
        model = constriction.stream.model.Categorical(frequencies, perfect=False)
        encoder.encode(symbols.reshape(-1).astype(np.int32), model)
        theirs = encoder.get_compressed().nbytes
        ours = len(encode_by_frequency(symbols.astype(np.uint8).tobytes()))
        assert ours <= 1.01 * theirs + 16
        # Where there is something to learn, all of the models together need less.
        whole = len(encode_weights(weights)) - len(values)  # with the table, which is told theirs
        assert whole <= theirs * (0.93 if (weights == 0).mean() > 0.5 else 1.005) + 16


def test_images_are_seen() -> None:
    """Neurons that look at a part of an image cost less where the coder may know its width."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28]
    weights = np.zeros((64, 28, 28), np.int8)
    for neuron in weights:
        cy, cx, sign = random.integers(4, 24), random.integers(4, 24), random.choice([-1, 1])
        near = np.hypot(y - cy, x - cx) < 5
        neuron[near & (random.random((28, 28)) < 0.4)] = 3 * sign
    flat = weights.reshape(64, 784)
    shuffled = np.ascontiguousarray(flat[:, random.permutation(784)])
    assert len(encode_weights(flat)) < 0.7 * len(encode_weights(shuffled))


def test_text_like_a_description_is_short() -> None:
    text = b'{"layer":"conv1","kind":"int8 static","checked":"rows"}'
    assert len(encode_bytes(text)) < 20
    assert len(encode_bytes(bytes(2000))) < 30


def test_records_are_seen() -> None:
    numbers = np.random.default_rng(0).normal(0, 0.1, 1000).astype(">f4").tobytes()
    assert len(encode_bytes(numbers, 4)) < 0.9 * min(
        len(encode_bytes(numbers, 3)), len(encode_bytes(numbers, 5))
    )


GOOD = encode_weights(pruned(7, 30, 0.2, 15))


def test_cut_bytes_are_refused() -> None:
    for size in range(len(GOOD)):
        with pytest.raises(ValueError, match="bytes: expected"):
            decode_weights(GOOD[:size], 7, 30)
    with pytest.raises(ValueError, match="bytes: expected"):
        decode_weights(GOOD + b"\0", 7, 30)


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(8 * len(GOOD)):
        changed = bytearray(GOOD)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="bytes: expected"):
            decode_weights(bytes(changed), 7, 30)


@given(st.binary(max_size=60), st.integers(1, 90), st.integers(1, 90), st.integers(1, 8))
def test_random_bytes_are_refused(values: bytes, outputs: int, inputs: int, stride: int) -> None:
    with pytest.raises(ValueError, match="bytes: expected"):
        decode_weights(b"\1" + values, outputs, inputs)
    with pytest.raises(ValueError, match="bytes: expected"):
        decode_bytes(b"\1" + values, outputs, stride)


@pytest.mark.parametrize(
    ("outputs", "inputs"),
    [(0, 5), (5, 0), (-1, 5), (2**31, 2**31), (2**62, 4), (10**6, 784), (7, 31), (30, 7)],
)
def test_shapes_of_others_are_refused(outputs: int, inputs: int) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="expected"):
        decode_weights(GOOD, outputs, inputs)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    with pytest.raises(ValueError, match="coded ones"):
        decode_bytes(GOOD, 2**50)


@pytest.mark.parametrize(
    "weights",
    [np.zeros((0, 3), np.int8), np.zeros((3, 0), np.int8), np.zeros(3, np.int8)],
)
def test_what_are_no_weights(weights: np.ndarray) -> None:
    with pytest.raises(ValueError, match="weights: expected"):
        encode_weights(weights)
    with pytest.raises(TypeError):
        encode_weights(weights.astype(np.float32))


def test_strides() -> None:
    for stride in (-1, 0, 9):
        with pytest.raises(ValueError, match="stride: expected 1 to 8"):
            encode_bytes(b"abc", stride)
        with pytest.raises(ValueError, match="stride: expected 1 to 8"):
            decode_bytes(encode_bytes(b"abc"), 3, stride)


def test_one_stream_for_all() -> None:
    weights, writer = pruned(20, 784, 0.05, 15), CodedWriter()
    writer.number(2**32 - 1)
    writer.bytes(b"text")
    writer.weights(weights)
    writer.bytes(b"\x3f\x80\0\0", 4)
    content = writer.finish()
    reader = CodedReader(content)
    assert reader.number() == 2**32 - 1
    assert reader.bytes(4) == b"text"
    assert np.array_equal(reader.weights(20, 784), weights)
    with pytest.raises(ValueError, match="bytes: expected"):
        reader.finish()
    assert reader.bytes(4, 4) == b"\x3f\x80\0\0"
    reader.finish()
    assert len(content) < len(encode_weights(weights)) + 25
