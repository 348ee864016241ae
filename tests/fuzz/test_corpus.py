"""What fuzzers begin with is sound: where all of it is refused, they test the door alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fastmnist import _core
from fastmnist.runtime.graph_packing import ports_of
from tests.fuzz.make_corpus import CORPORA, graph

HERE = Path(__file__).resolve().parent
SOURCES = {path.stem for path in HERE.glob("fuzz_*.cpp")}


def corpus(target: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (HERE / "corpus" / target).iterdir()}


def test_every_fuzzer_is_built_and_has_its_corpus():
    built = set(re.findall(r"^  (fuzz_\w+)", (HERE / "CMakeLists.txt").read_text(), re.MULTILINE))
    assert set(CORPORA) == built == SOURCES
    assert {path.name for path in (HERE / "corpus").iterdir()} == SOURCES


@pytest.mark.parametrize("target", sorted(CORPORA))
def test_corpora_are_what_the_script_makes(target):
    made = {name for name, _ in CORPORA[target]()}
    kept = {name for name in corpus(target) if not name.startswith("found-")}
    assert made == kept, "python tests/fuzz/make_corpus.py"
    assert max(map(len, corpus(target).values())) <= 8192


@pytest.mark.parametrize("target", ["fuzz_packed_network", "fuzz_packed_graph"])
def test_packed_buffers_are_of_this_version(target):
    for name, content in corpus(target).items():
        packed = np.empty(len(content) + 64, np.uint8)
        packed = packed[-packed.ctypes.data % 64 :][: len(content)]  # as packed buffers lie
        packed[:] = np.frombuffer(content, np.uint8)
        is_graph = target == "fuzz_packed_graph"
        ports = ports_of(graph(int(name.removeprefix("graph")))) if is_graph else {}
        assert _core.Model(packed, **ports), "python tests/fuzz/make_corpus.py"
