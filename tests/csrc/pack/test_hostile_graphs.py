"""Packed graphs from anywhere: an error or wrong numbers, never an access outside the buffer.

As test_hostile.py does for networks: everything lies in guarded memory.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from graph_reference import RandomGraph
from guard import EDGES, Edge, guarded, guarded_empty
from hypothesis import given
from hypothesis import strategies as st

from fastmnist import _core
from fastmnist.int8.graph import NetworkGraph
from fastmnist.runtime.graph_packing import pack_graph, ports_of

U8 = npt.NDArray[np.uint8]
REFUSED = r"not a packed graph of this version|expected none for a packed network"
HEADER, INPUT, VALUE, STEP = 64, 32, 32, 64


def _kinds(graph: NetworkGraph) -> set[str]:
    return {step.kind for step in graph.steps}


def _some_graphs() -> list[NetworkGraph]:
    """Few small ones that have every kind of step among them."""
    found: list[NetworkGraph] = []
    seen: set[str] = set()
    for seed in itertools.count():
        graph = RandomGraph(seed, 9).graph()
        small = len(graph.outputs) <= 6 and pack_graph(graph, "fixed").packed.size < 60_000
        if small and _kinds(graph) - seen:
            found.append(graph)
            seen |= _kinds(graph)
        if len(seen) == 20:
            return found
    raise AssertionError


GRAPHS = _some_graphs()
PACKED = [pack_graph(graph, "fixed").packed for graph in GRAPHS]
WHICH = st.sampled_from(range(len(GRAPHS)))


def tables_end(packed: U8) -> int:
    """Where the sections begin: before that stand sizes and offsets."""
    words = packed.view(np.uint32)
    inputs, values, outputs, steps, operands = (int(n) for n in words[4:9])
    at = HEADER + INPUT * inputs + VALUE * values + 4 * outputs + 4 * operands
    return -(-at // 64) * 64 + STEP * steps


def run(packed: U8, graph: NetworkGraph, edge: Edge) -> bool:
    """Call it on floats and on pixels; return whether it was taken at all."""
    taken = False
    guarded_packed = guarded(packed, edge)
    for rows in (1, 5):
        for dtype in (np.float32, np.uint8):
            inputs = []
            for entry in graph.inputs:
                kind = np.float32 if entry.pixels is None else dtype
                x = guarded_empty((rows, *graph.values[entry.value].shape), kind, edge)
                x[...] = 3
                inputs.append(x)
            outs = tuple(
                guarded_empty(
                    (rows, *graph.values[value].shape),
                    np.int64 if any(s.value == value and s.kind == "argmax" for s in graph.steps)
                    else np.float32,
                    edge,
                )
                for value in graph.outputs
            )  # fmt: skip
            try:
                model = _core.Model(guarded_packed, **ports_of(graph))
                model(*inputs, out=outs if len(outs) > 1 else outs[0])
            except (ValueError, TypeError, RuntimeError, MemoryError):
                pass
            else:
                taken = True
    return taken


def test_valid_bytes_are_taken() -> None:
    for packed, graph in zip(PACKED, GRAPHS, strict=True):
        for edge in EDGES:
            assert run(packed, graph, edge)


@pytest.mark.parametrize("which", range(len(GRAPHS)))
def test_cut_and_extended(which: int) -> None:
    packed, graph = PACKED[which], GRAPHS[which]
    lengths = {*range(0, 700, 3), *range(0, packed.size, 509), packed.size - 64, packed.size - 1}
    for length in sorted(length for length in lengths if length < packed.size):
        # Of the first bytes nobody knows whether they are a graph's: a network has no named inputs.
        kinds = (ValueError, TypeError) if length < 4 else ValueError
        with pytest.raises(kinds, match=REFUSED):
            _core.Model(guarded(packed[:length]), **ports_of(graph))
    for extra in (1, 64, 4096):
        longer = np.concatenate([packed, np.zeros(extra, np.uint8)])
        with pytest.raises(ValueError, match=REFUSED):
            _core.Model(guarded(longer), **ports_of(graph))


def assert_some_taken(taken: list[bool]) -> None:
    """A fuzzer whose inputs are all refused at the door tests the door alone."""
    assert any(taken) or len(taken) < 50, f"none of {len(taken)} was taken"


def test_any_byte_flipped() -> None:
    taken = []

    @given(st.data(), WHICH, st.sampled_from(EDGES))
    def fuzz(data: st.DataObject, which: int, edge: Edge) -> None:
        packed = PACKED[which].copy()
        end = tables_end(packed)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, end - 1) | st.integers(0, packed.size - 1))
            packed[at] ^= data.draw(st.integers(1, 255))
        taken.append(run(packed, GRAPHS[which], edge))

    fuzz()
    assert_some_taken(taken)


@pytest.fixture
def stride(pytestconfig: pytest.Config) -> int:
    """Of places: all, but under a sanitizer, which takes ten times as long, a part of them."""
    sanitized = pytestconfig.getoption("--hypothesis-profile", None) == "ci-sanitize"
    return 7 if sanitized else 1


@pytest.mark.parametrize("which", range(len(GRAPHS)))
def test_every_byte_of_the_tables(which: int, stride: int) -> None:
    """Each flipped in one way, which is another for each byte."""
    packed, graph = PACKED[which], GRAPHS[which]
    taken = []
    for at in range(which % stride, tables_end(packed), stride):
        broken = packed.copy()
        broken[at] ^= (0xFF, 0x01, 0x80, 0x10, 0x04)[at % 5]
        taken.append(run(broken, graph, EDGES[at % 2]))
    assert 0 < sum(taken) < len(taken)


@pytest.mark.slow
@pytest.mark.parametrize("which", range(len(GRAPHS)))
def test_every_word_of_the_tables(which: int, stride: int) -> None:
    good, graph = PACKED[which], GRAPHS[which]
    hostile = [0, 1, 2, 3, 9, 64, 4096, 65537, 2**24 + 1, 2**31 - 1, 2**31, 2**32 - 1, 0x7FC00000]
    for word in range(which % stride, tables_end(good) // 4, stride):
        for value in hostile:
            packed = good.copy()
            packed.view(np.uint32)[word] = value
            run(packed, graph, "last")


def test_random_words_in_the_tables() -> None:
    taken = []

    @given(
        st.dictionaries(st.integers(2, 500), st.integers(0, 300) | st.integers(0, 2**32 - 1),
                        min_size=1, max_size=6),
        WHICH,
        st.sampled_from(EDGES),
    )  # fmt: skip
    def fuzz(words: dict[int, int], which: int, edge: Edge) -> None:
        packed = PACKED[which].copy()
        count = tables_end(packed) // 4  # of the good one: what is written moves it
        for word, value in words.items():
            packed.view(np.uint32)[word % count] = value
        taken.append(run(packed, GRAPHS[which], edge))

    fuzz()
    assert_some_taken(taken)


@given(st.binary(max_size=600))
def test_random_bytes_behind_the_magic_number(data: bytes) -> None:
    packed = np.concatenate([PACKED[0][:8], np.frombuffer(data, np.uint8)])
    assert not run(packed, GRAPHS[0], "last")


# ---- what cannot be packed -----------------------------------------------------------------------

Steps = list[_core.GraphStep]


def _pack(values: Any, inputs: Any, steps: Steps, outputs: Any) -> U8:
    return _core.pack_graph(values, inputs, steps, outputs)


ROW, INPUTS = (1, 8, None), [(0, "none", None)]
CLAMP = _core.GraphStep("clamp", [0], 1)
FLOATS = np.zeros(8, np.float32)
WRONG: dict[str, tuple[Any, Any, Any, Any]] = {
    "no steps": ([ROW, ROW], INPUTS, [], [1]),
    "no inputs": ([ROW, ROW], [], [CLAMP], [1]),
    "no outputs": ([ROW, ROW], INPUTS, [CLAMP], []),
    "output is an input": ([ROW, ROW], INPUTS, [CLAMP], [0]),
    "output twice": ([ROW, ROW], INPUTS, [CLAMP], [1, 1]),
    "output unknown": ([ROW, ROW], INPUTS, [CLAMP], [2]),
    "output negative": ([ROW, ROW], INPUTS, [CLAMP], [-1]),
    "output nobody gives": ([ROW, ROW, ROW], INPUTS, [CLAMP], [2]),
    "input unknown": ([ROW, ROW], [(5, "none", None)], [CLAMP], [1]),
    "input twice": ([ROW, ROW], INPUTS * 2, [CLAMP], [1]),
    "input constant": ([(1, 8, FLOATS), ROW], INPUTS, [CLAMP], [1]),
    "pixels without a table": ([ROW, ROW], [(0, "table", None)], [CLAMP], [1]),
    "pixels of channels that do not fit": (
        [ROW, ROW], [(0, "table", np.zeros((3, 256), np.float32))], [CLAMP], [1]
    ),
    "pixels that a step cannot read": ([ROW, ROW], [(0, "codes", None)], [CLAMP], [1]),
    "operand unknown": ([ROW, ROW], INPUTS, [_core.GraphStep("clamp", [7], 1)], [1]),
    "operand negative": ([ROW, ROW], INPUTS, [_core.GraphStep("clamp", [-1], 1)], [1]),
    "operand not there yet": (
        [ROW] * 3, INPUTS, [_core.GraphStep("clamp", [2], 1), _core.GraphStep("clamp", [0], 2)],
        [1],
    ),
    "operand is its own value": ([ROW, ROW], INPUTS, [_core.GraphStep("clamp", [1], 1)], [1]),
    "no operands": ([ROW, ROW], INPUTS, [_core.GraphStep("clamp", [], 1)], [1]),
    "two operands": ([ROW, ROW], INPUTS, [_core.GraphStep("clamp", [0, 0], 1)], [1]),
    "one operand": ([ROW, ROW], INPUTS, [_core.GraphStep("add", [0], 1)], [1]),
    "value is an input": ([ROW, ROW], INPUTS, [CLAMP, _core.GraphStep("clamp", [1], 0)], [1]),
    "value twice": ([ROW, ROW], INPUTS, [CLAMP, CLAMP], [1]),
    "value constant": ([ROW, (1, 8, FLOATS)], INPUTS, [CLAMP], [1]),
    "value of another size": ([ROW, (1, 9, None)], INPUTS, [CLAMP], [1]),
    "sum of another size": (
        [ROW, (1, 9, None), ROW], INPUTS * 1, [_core.GraphStep("add", [0, 1], 2)], [2]
    ),
    "slice outside": (
        [ROW, (1, 4, None)], INPUTS, [_core.GraphStep("slice", [0], 1, begin=5)], [1]
    ),
    "slice before": (
        [ROW, (1, 4, None)], INPUTS, [_core.GraphStep("slice", [0], 1, begin=-1)], [1]
    ),
    "cat too wide": ([ROW, (1, 15, None)], INPUTS, [_core.GraphStep("concat", [0, 0], 1)], [1]),
    "no network": ([ROW, ROW], INPUTS, [_core.GraphStep("int8", [0], 1)], [1]),
    "no weight": ([ROW, ROW], INPUTS, [_core.GraphStep("float", [0], 1)], [1]),
    "weight too small": (
        [ROW, ROW], INPUTS, [_core.GraphStep("float", [0], 1, weight=FLOATS)], [1]
    ),
    "no slopes": ([ROW, ROW], INPUTS, [_core.GraphStep("slopes", [0], 1)], [1]),
    "no shift": ([ROW, ROW], INPUTS, [_core.GraphStep("affine", [0], 1, weight=FLOATS)], [1]),
    "half a norm": (
        [ROW, ROW], INPUTS, [_core.GraphStep("layer_norm", [0], 1, weight=FLOATS)], [1]
    ),
    "indexes inside": (
        [ROW, (1, 1, None), (1, 1, None)], INPUTS,
        [_core.GraphStep("argmax", [0], 1), _core.GraphStep("clamp", [1], 2)], [2],
    ),
    "no width": ([(1, 0, None), ROW], INPUTS, [CLAMP], [1]),
    "endless": ([(2**40, 2**40, None), ROW], INPUTS, [CLAMP], [1]),
    "too large": ([(2**26, 2**26, None), (2**26, 2**26, None)], INPUTS, [CLAMP], [1]),
    "constant that is no sample's": (
        [ROW, (1, 8, FLOATS), ROW], INPUTS, [_core.GraphStep("clamp", [1], 2)], [2]
    ),
    "constant too small": ([ROW, (1, 9, FLOATS)], INPUTS, [CLAMP], [1]),
    "unknown function": (
        [ROW, ROW], INPUTS, [_core.GraphStep("activate", [0], 1, function=99)], [1]
    ),
    "clamp upside down": ([ROW, ROW], INPUTS, [_core.GraphStep("clamp", [0], 1, lo=1, hi=0)], [1]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_packed_is_named(name: str) -> None:
    with pytest.raises(
        (ValueError, TypeError),
        match=r"steps?|inputs?|outputs?|values?|operands?|weight|bias|constant|network|pixel|clamp|function|function",
    ) as refused:
        _pack(*WRONG[name])
    assert re.search("expected|not a packed network", str(refused.value))


def test_what_can_be() -> None:
    packed = _pack([ROW, ROW], INPUTS, [CLAMP], [1])
    assert _core.graph_memory(packed)[0] == 0  # nothing between input and output


@pytest.mark.parametrize("kind", ["", "Int8", "conv", 3, None])
def test_kinds_of_steps(kind: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        _core.GraphStep(kind, [0], 1)
