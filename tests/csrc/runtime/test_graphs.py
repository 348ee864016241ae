"""Graphs on every instruction set, against their reading in NumPy, at tolerance 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from graph_reference import RandomGraph, run_graph
from guard import EDGES, Edge, guarded, guarded_empty
from hypothesis import given
from hypothesis import strategies as st
from oracle import INF, assert_same_bits

from fastmnist import _core
from fastmnist.int8.graph import KINDS, NetworkGraph
from fastmnist.runtime.compiled import CompiledModel

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def _default_threads() -> Iterator[None]:
    yield
    _core.set_num_threads(0)


def rows_for(
    graph: NetworkGraph, count: int, seed: int, *, pixels: bool = False, odd: bool = False
) -> list[npt.NDArray[Any]]:
    """Rows for every input; `odd`: with NaN, infinities, zeros and large numbers among them."""
    rng = np.random.default_rng(seed)
    found: list[npt.NDArray[Any]] = []
    for entry in graph.inputs:
        shape = (count, *graph.values[entry.value].shape)
        if pixels and entry.pixels is not None:
            found.append(rng.integers(0, 256, shape, dtype=np.uint8))
            continue
        x = rng.normal(size=shape).astype(np.float32)
        if odd:
            numbers = np.array([np.nan, INF, -INF, 0, -0.0, 1e30, 1e-42], np.float32)
            x = np.where(rng.random(shape) < 0.02, rng.choice(numbers, shape), x)
        found.append(x)
    return found


def check(graph: NetworkGraph, inputs: list[npt.NDArray[Any]], edge: Edge, what: object) -> None:
    expected = run_graph(graph, inputs)
    model = CompiledModel(graph, "fixed")
    got = model(*inputs)
    got = got if isinstance(got, tuple) else (got,)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert_same_bits(a, b, (what, f"output {i}"))
    outs = tuple(guarded_empty(b.shape, b.dtype, edge) for b in expected)
    model(*[guarded(x, edge) for x in inputs], out=outs if len(outs) > 1 else outs[0])
    for i, (a, b) in enumerate(zip(outs, expected, strict=True)):
        assert_same_bits(a, b, (what, f"output {i}, given"))


@given(seed=SEEDS, steps=st.integers(1, 14), rows=st.sampled_from([1, 2, 7, 33]),
       pixels=st.booleans(), odd=st.booleans(), edge=st.sampled_from(EDGES))  # fmt: skip
def test_any_graph(
    isa: str, seed: int, steps: int, rows: int, pixels: bool, odd: bool, edge: Edge
) -> None:
    graph = RandomGraph(seed, steps).graph()
    inputs = rows_for(graph, rows, seed, pixels=pixels, odd=odd)
    check(graph, inputs, edge, [step.name for step in graph.steps])


def test_random_graphs_have_every_kind() -> None:
    """Or else the test above says less than it seems to."""
    graphs = [RandomGraph(seed, 10).graph() for seed in range(100)]
    kinds = Counter(step.kind for graph in graphs for step in graph.steps)
    assert {*kinds} == {*KINDS}
    assert min(kinds.values()) >= 10, kinds
    assert sum(len(graph.outputs) > 1 for graph in graphs) > 20
    assert sum(len(graph.inputs) > 1 for graph in graphs) > 20
    constants = [value for graph in graphs for value in graph.values if value.constant is not None]
    assert len(constants) > 20


@pytest.mark.parametrize("seed", range(6))
def test_blocks_of_rows_and_threads(isa: str, seed: int) -> None:
    """However many rows, in whatever blocks and on however many threads: each row by itself."""
    graph = RandomGraph(seed, 12).graph()
    inputs = rows_for(graph, 700, seed, odd=True)
    model = CompiledModel(graph, "fixed")
    expected = run_graph(graph, [x[:40] for x in inputs])
    whole = None
    for threads in (1, 2, 3):
        _core.set_num_threads(threads)
        got = model(*inputs)
        got = got if isinstance(got, tuple) else (got,)
        for i, (a, b) in enumerate(zip(got, expected, strict=True)):
            assert_same_bits(a[:40], b, (threads, i))
        whole = got if whole is None else whole
        for a, b in zip(got, whole, strict=True):
            assert_same_bits(a, b, threads)
    assert whole is not None
    for size in (1, 3, 64, 257):
        parts = [model(*[x[f : f + size] for x in inputs]) for f in range(0, 700, size)]
        for i, b in enumerate(whole):
            own = [part[i] if isinstance(part, tuple) else part for part in parts]
            assert_same_bits(np.concatenate(own), b, (size, i))


def test_wide_graphs_run_on_several_threads(isa: str) -> None:
    """So many products that threads are woken."""
    made = RandomGraph(0, 0)
    made.values, made.steps, made.readable, made.inputs = [], [], [], []
    x = made.value((256,))
    made.inputs.append(x)
    made.step("float", [x], (300,), weight=made.floats(300, 256), bias=made.floats(300))
    made.step("layer_norm", [1], (300,), epsilon=1e-5)
    made.step("float", [2], (256,), weight=made.floats(256, 300), bias=made.floats(256))
    made.step("add", [0, 3], (256,))
    graph = made.graph()
    rows = rows_for(graph, 500, 1)
    model = CompiledModel(graph, "fixed")
    _core.set_num_threads(1)
    one = model(*rows)
    assert_same_bits(one[:3], run_graph(graph, [rows[0][:3]])[0])
    for threads in (2, 3, 7):
        _core.set_num_threads(threads)
        assert_same_bits(model(*rows), one, threads)
