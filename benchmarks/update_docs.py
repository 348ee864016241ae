"""Copy the figures of benchmarks/results/ into README.md and docs/, or check that they are there.

    python -m benchmarks.update_docs [--check]

Every machine has a folder there (``benchmarks/machine.py``); where several have measured the same,
each gets a heading of its own, or a column. Each block lies between its marks in one file or
several. Also draws the plots of each machine. No figure of those tables is typed by hand.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import (
    agreement,
    compare,
    compression,
    few_bits,
    float_layers,
    graphs,
    library,
    modules,
    onnx_agreement,
    pruning_accuracy,
    quantization_accuracy,
    search,
    side_by_side,
    sparse_tables,
    targets_tables,
)
from benchmarks.dense_plot import write_plot
from benchmarks.dense_tables import limits_table, scaling_table, summary_table, times_table
from benchmarks.machine import RESULTS, folders, title
from fastmnist.display.tables import Table

ROOT = Path(__file__).resolve().parent.parent
PLOT, DIGITS_PLOT = "dense.svg", "digits.svg"
# What techniques' pages show of the digits network.
TECHNIQUES = {
    "fusion": ["fused"],
    "quantization": ["dynamic int8", "static int8", "compiled (uint8 rows)"],
    "half": ["bfloat16"],
    "few-bits": ["4-bit"],
    "pruning": ["pruned 50 %", "pruned + int8"],
    "clustering": ["clustered"],
    "low-rank": ["low-rank"],
    "distillation": ["distilled"],
    "compiling": [
        "compiled float32 (float32 rows)",
        "compiled (float32 rows)",
        "compiled (uint8 rows)",
    ],
}
# Where a block begins.
MARK = re.compile(r"<!-- ([\w-]+-(?:table|row|output)) -->")
Saved = dict[str, Any]


class Results:
    """What all machines have measured."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self.folder = folder
        self.machines = folders(folder)

    def of(self, name: str) -> list[tuple[Path, Saved]]:
        """Return the folder and the report of each machine that measured it."""
        found = [path / f"{name}.json" for path in self.machines]
        return [(path.parent, json.loads(path.read_text())) for path in found if path.exists()]

    def each(self, name: str, make: Callable[[Saved, Path], list[str]]) -> list[str]:
        """Make every machine's parts, under a heading where there are several."""
        found = self.of(name)
        parts = []
        for path, saved in found:
            if len(found) > 1:
                parts.append(f"## {title(saved['about'])}")
            parts += make(saved, path)
        return parts

    def together(self, name: str, make: Callable[[list[Saved]], Table | list[Table]]) -> list[str]:
        """Make parts of all machines at once, and say by which command."""
        found = [saved for _, saved in self.of(name)]
        if not found:
            return []
        tables = make(found)
        return [
            *map(_markdown, [tables] if isinstance(tables, Table) else tables),
            " and ".join(_ran(saved["about"]) for saved in found) + ".",
        ]

    def first(self, name: str, make: Callable[[Saved], list[str]]) -> list[str]:
        """Make the parts of what no machine changes: accuracies."""
        found = self.of(name)
        return make(found[0][1]) if found else []

    def anywhere(self, folder: str, make: Callable[[Saved], list[str]]) -> list[str]:
        """Make the parts of a folder that is no machine's."""
        path = self.folder / folder / compression.REPORT
        return make(json.loads(path.read_text())) if path.exists() else []


def compare_table(saved: Saved, _: Path) -> list[str]:
    about = saved["about"]
    command = about.get("command", "fastmnist compare --data mnist --threads 1")
    where = f"{about['cpu']}, torch {about['torch']}, Python {about['python']}"
    report = compare.report_of(saved).to_markdown()
    return [f"{report}\n`{command}` on {where}."]


def printed_lines(saved: Saved) -> list[str]:
    shown = "\n".join(["```text", *saved["output"], "```"])
    return [shown, f"One thread, seed 0: {_ran(saved['about'])}."]


def dense_tables(saved: Saved, path: Path) -> list[str]:
    about = saved["about"]
    plot = (path / PLOT).relative_to(ROOT) if path.is_relative_to(ROOT) else path / PLOT
    return [
        f"![µs per call of fastmnist and of other libraries](../../{plot.as_posix()})",
        *_summaries(saved),
        *([_markdown(scaling_table(saved))] if saved.get("scaling") else []),
        _markdown(limits_table(saved)),
        *_all_times([times_table(saved, network) for network in saved["networks"]]),
        f"{_ran(about)}, Python {about['python']}, {_versions(about)}.",
    ]


def sparse_speed(saved: Saved, _: Path) -> list[str]:
    return [
        _markdown(sparse_tables.wide_table(saved)),
        _markdown(sparse_tables.digits_table(saved)),
        *_all_times([sparse_tables.wide_times(saved)]),
        f"{_ran(saved['about'])}, {saved['about']['isa']}, {saved['about']['threads']} thread(s).",
    ]


def pruning_accuracies(saved: Saved) -> list[str]:
    return [_markdown(pruning_accuracy.table(saved)), f"{_ran(saved['about'])}."]


def quantization_accuracies(saved: Saved) -> list[str]:
    tables = [_markdown(table) for table in quantization_accuracy.tables(saved)]
    return [*tables, f"{_ran(saved['about'])}, torch {saved['about']['torch']}."]


def compression_tables(saved: Saved) -> list[str]:
    tables = [_markdown(table) for table in compression.tables(saved)]
    return [*tables, f"`{saved['about']['command']}`, torch {saved['about']['torch']}."]


def module_speed(saved: Saved, _: Path) -> list[str]:
    about = saved["about"]
    torch = about["versions"]["torch"]
    return [_markdown(modules.table(saved)), f"{_ran(about)}, {about['isa']}, torch {torch}."]


def few_bits_tables(saved: Saved, _: Path) -> list[str]:
    return [_markdown(few_bits.table(saved)), f"{_ran(saved['about'])}."]


def onnx_tables(saved: Saved, _: Path) -> list[str]:
    return [_markdown(onnx_agreement.table(saved)), f"{_ran(saved['about'])}."]


def graph_tables(saved: Saved, _: Path) -> list[str]:
    return [*map(_markdown, graphs.tables(saved)), f"{_ran(saved['about'])}."]


def agreement_tables(saved: Saved, _: Path) -> list[str]:
    return [*map(_markdown, agreement.tables(saved)), f"{_ran(saved['about'])}."]


def library_tables(saved: Saved, _: Path) -> list[str]:
    return [_markdown(library.table(saved)), f"{_ran(saved['about'])}."]


def float_tables(saved: Saved, _: Path) -> list[str]:
    return [*map(_markdown, float_layers.tables(saved)), f"{_ran(saved['about'])}."]


def search_tables(saved: Saved, _: Path) -> list[str]:
    return [*map(_markdown, search.tables(saved)), f"{_ran(saved['about'])}."]


def target_tables(saved: Saved, _: Path) -> list[str]:
    return [*map(_markdown, targets_tables.tables(saved)), f"{_ran(saved['about'])}."]


def blocks(results: Results) -> dict[str, list[str]]:
    """Return the parts of each generated block, by its mark."""
    made = {
        "first-lines-output": results.first("first_lines", printed_lines),
        "front-table": results.together("compare", side_by_side.front_table)[:-1],
        "all-variants-table": results.together("compare", side_by_side.all_table),
        "decision-table": results.together("decisions", side_by_side.decision_tables),
        **{
            f"{name}-row": results.together(
                "compare", lambda machines, v=v: side_by_side.technique_table(machines, v)
            )[:-1]
            for name, v in TECHNIQUES.items()
        },
        "compare-table": results.each("compare", compare_table),
        "search-table": results.each("search", search_tables),
        "quantization-table": [
            *results.first("quantization", quantization_accuracies),
            *results.each("modules", module_speed),
        ],
        "pruning-table": [
            *results.first("pruning", pruning_accuracies),
            *results.each("sparse", sparse_speed),
        ],
        "few-bits-table": results.each("few_bits", few_bits_tables),
        "agreement-table": results.each("agreement", agreement_tables),
        "library-table": results.each("library", library_tables),
        "onnx-table": results.each("onnx", onnx_tables),
        "compression-table": results.anywhere("compression", compression_tables),
        "graphs-table": [
            *results.each("graphs", graph_tables),
            *results.each("float_layers", float_tables),
        ],
        "benchmark-table": [
            *results.each("dense", dense_tables),
            *results.each("targets", target_tables),
        ],
    }
    return {mark: [part.strip() for part in parts] for mark, parts in made.items()}


def _ran(about: Saved) -> str:
    return f"`{about['command']}` on {about['cpu']}"


def _versions(about: Saved) -> str:
    return ", ".join(f"{name} {version}" for name, version in about["versions"].items())


def _all_times(tables: list[Table]) -> list[str]:
    return ["<details><summary>All times</summary>", *map(_markdown, tables), "</details>"]


def _summaries(saved: dict[str, Any]) -> list[str]:
    made = [summary_table(saved, network) for network in saved["networks"]]
    for table in made[:-1]:
        table.notes.clear()  # the same below each
    return [_markdown(table) for table in made]


def _markdown(table: Table) -> str:
    return table.to_markdown().strip()


def filled(text: str, made: dict[str, list[str]]) -> str:
    """Return a file's text with these blocks in it."""
    for mark, parts in made.items():
        body = "\n\n".join(parts)
        block = f"<!-- {mark} -->\n{body}\n<!-- /{mark} -->"
        pattern = f"<!-- {mark} -->.*?<!-- /{mark} -->"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def pages() -> list[Path]:
    """List the files that may hold blocks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def faults(made: dict[str, list[str]], texts: dict[Path, str]) -> list[str]:
    """Say which blocks are empty, have no page, or are marked in a way that fills nothing."""
    wrong = [f"{mark}: no machine has measured it" for mark, parts in made.items() if not parts]
    begun = {mark for text in texts.values() for mark in MARK.findall(text)}
    wrong += [f"{mark}: no page has a place for it" for mark in made if mark not in begun]
    for path, text in texts.items():
        for mark in {*MARK.findall(text)}:
            if mark not in made:
                wrong.append(f"{path.relative_to(ROOT)}: no block is called {mark}")
            elif len(re.findall(f"<!-- {mark} -->.*?<!-- /{mark} -->", text, re.DOTALL)) != 1:
                wrong.append(f"{path.relative_to(ROOT)}: {mark} does not begin and end once")
    return wrong


def main() -> int:
    results = Results()
    made = blocks(results)
    before = {path: path.read_text() for path in pages()}
    if wrong := faults(made, before):
        print(*wrong, sep="\n")
        return 1
    after = {path: filled(text, made) for path, text in before.items()}
    changed = [path for path in after if after[path] != before[path]]
    if "--check" in sys.argv[1:]:
        for path in changed:
            print(f"{path.relative_to(ROOT)} is out of date: run  python -m benchmarks.update_docs")
        return 1 if changed else 0
    for path in changed:
        path.write_text(after[path])
    for folder, saved in results.of("dense"):
        write_plot(saved, folder / PLOT)
        write_plot(saved | {"networks": saved["networks"][:1]}, folder / DIGITS_PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
