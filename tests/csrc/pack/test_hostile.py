"""Packed bytes from anywhere: an error or wrong numbers, never an access outside the buffer.

Everything lies in guarded memory, so such an access would end the test run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from guard import EDGES, Edge, guarded, guarded_empty
from hypothesis import given
from hypothesis import strategies as st
from oracle import KINDS, RandomNetwork, random_network

from fastmnist import _core, _ops

U8 = npt.NDArray[np.uint8]
REFUSED = r"not a packed network of this version"
WIDTHS = (9, 20, 6)
NETWORKS = {
    (kind, pixels): random_network(1, WIDTHS, kind, pixels=pixels, channels=3)
    for kind in KINDS
    for pixels in (False, True)
}
ONE_LAYER = random_network(2, (9, 20))


def in_nibbles(network: RandomNetwork, *, alone: bool) -> U8:
    """The same sizes with weights of four bits, in nibbles: alone, or beside dense ones."""
    for layer in network.layers:
        layer.weight[:] = layer.weight % 15 - 7
    packed = _core.pack(
        [layer.native for layer in network.layers],
        "static",
        forms=[["nibbles"]] * len(network.layers),
    )
    if alone:
        _core.plan_by_rule(packed)  # which takes nibbles where there are some
        packed = packed[: _core.drop_unused_forms(packed)].copy()
    return packed


PACKED = {which: network.packed for which, network in NETWORKS.items()} | {
    ("nibbles", alone): in_nibbles(random_network(3, WIDTHS), alone=alone)
    for alone in (False, True)
}
ONE_PACKED = {
    "dense": ONE_LAYER.packed,
    "nibbles": in_nibbles(random_network(2, (9, 20)), alone=True),
}
CHOICES = st.sampled_from(sorted(PACKED))
RECORD = 256
COUNT = 8  # what a section of any form but the dense begins with
HEADER = 64 + 2 * RECORD  # of the header and two layer records


def run_everything(packed: U8, edge: Edge) -> bool:
    """Do all that can be done with `packed`; return whether anything took it."""
    taken = False
    guarded_packed = guarded(packed, edge)
    tensor = torch.from_numpy(guarded_packed)
    for rows in (1, 7):
        for dtype in (np.float32, np.uint8):
            x = guarded_empty((rows, WIDTHS[0]), dtype, edge)
            x[...] = 3
            codes = guarded(x.astype(np.uint8), edge)
            one = np.ones(1, np.float32), np.zeros(1, np.int32)
            out = guarded_empty((rows, WIDTHS[-1]), np.float32, edge)
            calls: list[Any] = [
                lambda x=x, out=out: _core.Model(guarded_packed)(x, out),
                lambda x=x: _core.Model(guarded_packed).predict(x),
                lambda x=x: _ops.mlp(torch.from_numpy(x), tensor, WIDTHS[-1]),
                lambda c=codes: torch.ops.fastmnist.linear(torch.from_numpy(c), tensor, 20),
                lambda c=codes: torch.ops.fastmnist.linear_u8(
                    torch.from_numpy(c), tensor, 20, 0.5, 3
                ),
            ]
            for kind in (np.float32, np.uint8):
                y = guarded_empty((rows, WIDTHS[1]), kind, edge)
                calls.append(lambda c=codes, one=one, y=y: _core.linear(c, guarded_packed, *one, y))
            for call in calls:
                try:
                    call()
                except (ValueError, RuntimeError):
                    pass
                else:
                    taken = True
    return taken


def test_valid_bytes_are_taken() -> None:
    for packed in PACKED.values():
        assert run_everything(packed, "last")
    beside, alone = PACKED["nibbles", False], PACKED["nibbles", True]
    assert alone.size < beside.size


@pytest.mark.parametrize("which", [*((kind, False) for kind in KINDS), ("nibbles", True)], ids=str)
def test_cut_and_extended(which: Any) -> None:
    packed = PACKED[which]
    lengths = {*range(260), *range(0, packed.size, 61), packed.size - 64, packed.size - 1}
    for length in sorted(lengths):
        for edge in EDGES:
            with pytest.raises(ValueError, match=REFUSED):
                _core.Model(guarded(packed[:length], edge))
            assert not run_everything(packed[:length], edge)
    for extra in (1, 64, 4096):
        assert not run_everything(np.concatenate([packed, np.zeros(extra, np.uint8)]), "last")


def forged(middle: int) -> U8:
    """Lay out a network 1 -> `middle` -> 1 by hand, with weights of zero and sizes that fit."""
    panels = [-(-middle // 16) * (64 * 16 + 192), -(-middle // 64) * 64 * 16 + 192]
    packed = np.zeros(HEADER + sum(panels), np.uint8)
    words, longs = packed.view(np.uint32), packed.view(np.uint64)
    words[:2] = ONE_LAYER.packed.view(np.uint32)[:2]  # magic number and version
    longs[1], words[4], longs[4] = packed.size, 2, HEADER
    words[16:18], longs[14:16] = (1, middle), (HEADER, panels[0])
    words[80:82], longs[46:48] = (middle, 1), (HEADER + panels[0], panels[1])
    return packed


def test_forged_sizes() -> None:
    assert _core.Model(forged(65536)).in_features == 1
    for middle in (65537, 100_000):
        with pytest.raises(ValueError, match=REFUSED):
            _core.Model(forged(middle))


def test_bytes_behind_the_last_layer() -> None:
    packed = np.concatenate([ONE_LAYER.packed, np.zeros(64, np.uint8)])
    packed.view(np.uint64)[1] = packed.size
    with pytest.raises(ValueError, match=REFUSED):
        _core.Model(packed)


@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    assert not run_everything(np.frombuffer(data, np.uint8), "last")


def assert_some_taken(taken: list[bool]) -> None:
    """A fuzzer whose inputs are all refused at the door tests the door alone."""
    assert any(taken) or len(taken) < 50, f"none of {len(taken)} was taken"


def test_random_words_behind_the_magic_number() -> None:
    taken = []

    @given(
        st.dictionaries(
            st.integers(2, HEADER // 4 - 1), st.integers(0, 2**32 - 1), min_size=1, max_size=8
        ),
        CHOICES,
        st.sampled_from(EDGES),
    )
    def fuzz(words: dict[int, int], which: Any, edge: Edge) -> None:
        packed = PACKED[which].copy()
        for word, value in words.items():
            packed.view(np.uint32)[word] = value
        taken.append(run_everything(packed, edge))

    fuzz()
    assert_some_taken(taken)


def test_any_byte_flipped() -> None:
    taken = []

    @given(st.data(), CHOICES, st.sampled_from(EDGES))
    def fuzz(data: st.DataObject, which: Any, edge: Edge) -> None:
        packed = PACKED[which].copy()
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, HEADER - 1) | st.integers(0, packed.size - 1))
            packed[at] ^= data.draw(st.integers(1, 255))
        taken.append(run_everything(packed, edge))

    fuzz()
    assert_some_taken(taken)


@pytest.mark.slow
@pytest.mark.parametrize("which", sorted(PACKED), ids=str)
def test_every_word_of_the_header(which: Any) -> None:
    good = PACKED[which]
    hostile = [0, 1, 2, 3, 9, 64, 65536, 65537, 2**24 + 1, 2**31 - 1, 2**31, 2**32 - 1, 0x7FC00000]
    taken = 0
    for word in range(HEADER // 4):
        for value in hostile:
            packed = good.copy()
            packed.view(np.uint32)[word] = value
            if run_everything(packed, "last") and not np.array_equal(packed, good):
                taken += 1
    # Words that stand for numbers may be anything; those that stand for sizes may not.
    assert 0 < taken < HEADER // 4 * len(hostile)


@pytest.mark.parametrize("form", ONE_PACKED)
def test_one_layer_with_every_byte_flipped(isa: str, form: str) -> None:
    good = ONE_PACKED[form]
    refused = 64 + RECORD + (0 if form == "dense" else COUNT)  # the weights themselves never are
    codes = guarded(np.full((7, 9), 200, np.uint8))
    out, out_codes = guarded_empty((7, 20), np.float32), guarded_empty((7, 20), np.uint8)
    one = np.ones(1, np.float32), np.full(1, 9, np.int32)
    for at in range(good.size):
        packed = guarded(good)
        packed[at] ^= 0xFF
        for y in (out, out_codes):
            try:
                _core.linear(codes, packed, *one, y)
            except ValueError as error:
                assert at < refused, error  # noqa: PT017
        if at % 7 == 0:
            try:
                torch.ops.fastmnist.linear(torch.from_numpy(codes), torch.from_numpy(packed), 20)
            except (RuntimeError, ValueError) as error:
                assert at < refused, error  # noqa: PT017


def test_foreign_weights_give_the_same_wrong_numbers_everywhere() -> None:
    """Column sums that are no sums wrap in vector registers; they must in scalar code too."""
    rng = np.random.default_rng(0)
    packed = ONE_LAYER.packed.copy()
    weights = 64 + RECORD
    packed[weights:] = rng.integers(0, 256, packed.size - weights)
    codes = rng.integers(0, 256, (7, 9)).astype(np.uint8)
    results = []
    names = [r["isa"] for r in _core.cpu_info()["ladder"]]
    for name in names:
        try:
            before = _core.set_isa(name)
        except ValueError:
            continue
        out = np.zeros((7, 20), np.float32)
        _core.linear(codes, packed, np.ones(1, np.float32), np.full(1, 200, np.int32), out)
        _core.set_isa(before)
        results.append(np.where(np.isnan(out), np.uint32(0), out.view(np.uint32)))
    assert all(np.array_equal(result, results[0]) for result in results)


@pytest.mark.parametrize(
    "packed",
    [
        ONE_LAYER.packed[::-1],
        np.repeat(ONE_LAYER.packed, 2)[::2],
        ONE_LAYER.packed.reshape(2, -1),
        ONE_LAYER.packed.view(np.uint32),
    ],
    ids=["reversed", "strided", "2 dimensions", "uint32"],
)
def test_arrays_that_are_no_bytes_on_end(packed: Any) -> None:
    with pytest.raises(ValueError, match="packed: expected a one-dimensional, contiguous uint8"):
        _core.Model(packed)


@pytest.mark.parametrize("packed", [None, 3, "text", [1, 2]])
def test_objects_that_are_no_buffer(packed: Any) -> None:
    with pytest.raises(TypeError):
        _core.Model(packed)


@pytest.mark.parametrize("offset", range(1, 8))
def test_misaligned_tensor(offset: int) -> None:
    memory = torch.zeros(ONE_LAYER.packed.size + 8, dtype=torch.uint8)
    shifted = memory[offset : offset + ONE_LAYER.packed.size]
    shifted.copy_(torch.from_numpy(ONE_LAYER.packed))
    with pytest.raises((RuntimeError, ValueError), match=REFUSED):
        _ops.mlp(torch.zeros(1, 9), shifted, 20)
