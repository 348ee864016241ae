"""Copy the figures of benchmarks/results/ into the README, or check that they are there.

    python -m benchmarks.update_readme [--check]

Also draws benchmarks/results/dense.svg. No figure in the README is typed by hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import modules, pruning_accuracy, quantization_accuracy, sparse_tables
from benchmarks.dense_plot import write_plot
from benchmarks.dense_tables import limits_table, scaling_table, summary_table, times_table
from fastmnist.comparison.report import Report
from fastmnist.comparison.rows import Row
from fastmnist.display.tables import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PLOT = RESULTS / "dense.svg"


def compare_table() -> str:
    saved = json.loads((RESULTS / "compare.json").read_text())
    about = saved["about"]
    report = Report([Row.of_record(row, about["metric"]) for row in saved["rows"]], about)
    where = f"{about['cpu']}, torch {about['torch']}, Python {about['python']}"
    return f"{report.to_markdown()}\n`fastmnist compare --data mnist --threads 1` on {where}."


def dense_results() -> dict[str, Any]:
    saved: dict[str, Any] = json.loads((RESULTS / "dense.json").read_text())
    return saved


def benchmark_tables() -> str:
    saved = dense_results()
    about = saved["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    parts = [
        f"![µs per call of fastmnist and of other libraries]({PLOT.relative_to(ROOT).as_posix()})",
        *_summaries(saved),
        *([_markdown(scaling_table(saved))] if saved.get("scaling") else []),
        _markdown(limits_table(saved)),
        "<details><summary>All times</summary>",
        *(_markdown(times_table(saved, network)) for network in saved["networks"]),
        "</details>",
        f"`{about['command']}` on {about['cpu']}, Python {about['python']}, {versions}.",
    ]
    return "\n\n".join(parts)


def pruning_tables() -> str:
    speed = json.loads((RESULTS / "sparse.json").read_text())
    accuracy = json.loads((RESULTS / "pruning.json").read_text())
    where = f"on {speed['about']['cpu']}, {speed['about']['isa']}, one thread"
    parts = [
        _markdown(sparse_tables.wide_table(speed)),
        _markdown(sparse_tables.digits_table(speed)),
        _markdown(pruning_accuracy.table(accuracy)),
        "<details><summary>All times</summary>",
        _markdown(sparse_tables.wide_times(speed)),
        "</details>",
        f"`{speed['about']['command']}` and `{accuracy['about']['command']}` {where}.",
    ]
    return "\n\n".join(parts)


def quantization_tables() -> str:
    accuracy = json.loads((RESULTS / "quantization.json").read_text())
    speed = json.loads((RESULTS / "modules.json").read_text())
    parts = [
        *map(_markdown, quantization_accuracy.tables(accuracy)),
        _markdown(modules.table(speed)),
        f"`{accuracy['about']['command']}` and `{speed['about']['command']}` on "
        f"{speed['about']['cpu']}, {speed['about']['isa']}, torch {accuracy['about']['torch']}.",
    ]
    return "\n\n".join(parts)


def _summaries(saved: dict[str, Any]) -> list[str]:
    made = [summary_table(saved, network) for network in saved["networks"]]
    for table in made[:-1]:
        table.notes.clear()  # the same below each
    return [_markdown(table) for table in made]


def _markdown(table: Table) -> str:
    return table.to_markdown().strip()


def main() -> int:
    path = ROOT / "README.md"
    before = path.read_text()
    text = before
    for mark, made in (
        ("compare-table", compare_table()),
        ("quantization-table", quantization_tables()),
        ("pruning-table", pruning_tables()),
        ("benchmark-table", benchmark_tables()),
    ):
        block = f"<!-- {mark} -->\n{made}\n<!-- /{mark} -->"
        pattern = f"<!-- {mark} -->.*?<!-- /{mark} -->"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
    if "--check" in sys.argv[1:]:
        if text != before:
            print("README.md is out of date: run  python -m benchmarks.update_readme")
            return 1
        return 0
    path.write_text(text)
    write_plot(dense_results(), PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
