"""The README's blocks are made of the files of all machines, each under its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.first_lines import shown
from benchmarks.machine import ANYWHERE, RESULTS, folders, short_title, slug, title
from benchmarks.update_docs import TECHNIQUES, Results, blocks, filled, pages

# The machine that has measured most: not every one has measured all.
FIRST = max(folders(), key=lambda folder: len([*folder.glob("*.json")]))
ELSEWHERE = {"agreement-table", "library-table", "onnx-table"}
OTHER = {
    "cpu": "AMD Ryzen 7 5800X 8-Core Processor",
    "isa": "avx2",
    "native": "avx2",
    "capped": {},
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Give one machine's files, and those of no machine, copied."""
    for name in (FIRST.name, *ANYWHERE):
        shutil.copytree(RESULTS / name, tmp_path / name)
    return tmp_path


def add_machine(results: Path, names: list[str]) -> None:
    """Put the same figures there as another machine's."""
    folder = results / slug(OTHER)
    folder.mkdir()
    for name in names:
        saved = json.loads((results / FIRST.name / f"{name}.json").read_text())
        saved["about"] |= OTHER
        (folder / f"{name}.json").write_text(json.dumps(saved))


def test_every_file_lies_in_the_folder_of_its_machine():
    for folder in folders():
        for path in folder.glob("*.json"):
            about = json.loads(path.read_text())["about"]
            # Accuracies of earlier runs name no instruction set.
            assert "isa" not in about or slug(about) == folder.name, path
    assert not list(RESULTS.glob("*.json"))


def test_one_machine_needs_no_headings(results):
    made = blocks(Results(results))
    assert {*made} >= {"front-table", "first-lines-output", "all-variants-table", "compare-table"}
    assert {f"{name}-row" for name in TECHNIQUES} <= {*made}
    for mark, parts in made.items():
        assert parts or mark in ELSEWHERE
        assert not any(part.startswith("## ") for part in parts)


def test_two_machines_stand_under_their_names(results):
    before = blocks(Results(results))
    add_machine(results, ["dense", "modules"])
    made = blocks(Results(results))
    for mark in ("benchmark-table", "quantization-table"):
        headings = [part for part in made[mark] if part.startswith("## ")]
        assert len(headings) == 2
        assert f"## {title(OTHER)}" in headings
        assert len(made[mark]) > len(before[mark]) + 2
    # Of what only one has measured nothing changes.
    assert made["compare-table"] == before["compare-table"]
    assert made["pruning-table"] == before["pruning-table"]


def test_accuracies_are_shown_once(results):
    before = blocks(Results(results))
    add_machine(results, ["quantization", "pruning"])
    made = blocks(Results(results))
    assert {mark: len(parts) for mark, parts in made.items()} == {
        mark: len(parts) for mark, parts in before.items()
    }


def test_every_machine_has_its_own_plot(results):
    add_machine(results, ["dense"])
    plots = [part for part in blocks(Results(results))["benchmark-table"] if part.startswith("![")]
    assert len(plots) == 2
    assert f"{slug(OTHER)}/dense.svg" in plots[0] + plots[1]


def test_blocks_replace_what_stood_between_the_marks():
    text = "a <!-- x -->\nold \\1\n<!-- /x --> b <!-- y -->\nkept\n<!-- /y -->"
    assert filled(text, {"x": ["new \\1", "more"]}) == (
        "a <!-- x -->\nnew \\1\n\nmore\n<!-- /x --> b <!-- y -->\nkept\n<!-- /y -->"
    )


def test_machines_stand_side_by_side(results):
    before = blocks(Results(results))
    add_machine(results, ["compare"])
    made = blocks(Results(results))
    for mark in ("front-table", "all-variants-table", "pruning-row"):
        head = next(line for line in made[mark][0].splitlines() if line.startswith("|"))
        assert short_title(OTHER) in head
        assert len(head.split("|")) > len(before[mark][0].splitlines()[2].split("|"))


def test_each_block_has_a_page():
    texts = [path.read_text() for path in pages()]
    for mark in blocks(Results()):
        assert sum(text.count(f"<!-- {mark} -->") for text in texts) >= 1, mark
        assert all(
            text.count(f"<!-- {mark} -->") == text.count(f"<!-- /{mark} -->") for text in texts
        )


def test_what_the_first_lines_print_is_kept_without_bars_and_colours():
    printed = "10%|###\r100%|######\n\x1b[3mmnist, n = 10, amx\x1b[0m\r\nrow  1\r\n\r\n"
    assert shown(printed) == ["mnist, n = 10, amx", "row  1"]
