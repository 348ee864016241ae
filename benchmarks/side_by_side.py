"""Tables of every machine side by side: the README's, those of docs/choosing.md and of techniques.

Made of what ``benchmarks.compare`` and ``benchmarks.decisions`` saved. Accuracies are those of the
first machine: training ends with other last bits on another, and differs by a few images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.compare import report_of
from benchmarks.machine import short_title
from fastmnist.comparison.rows import Row
from fastmnist.display.tables import Table

Saved = dict[str, Any]

# What the README shows, and calls them.
FRONT = {
    "original": "the network as PyTorch runs it",
    "static int8": "`fm.quantize(model, fm.Static(data))`",
    "pruned + int8": "half of the weights pruned, then that",
    "4-bit": "weights of 4 bits",
    "compiled float32 (float32 rows)": "`fm.compile(model)`: float32, one call",
    "compiled (uint8 rows)": "`fm.compile` of the int8 one: one call",
}
_DIGITS = (1, 32, 1024)
_NOTE = (
    "×: times as fast as the original, in the same process, calls in turns; ≈ 1: no difference "
    "beyond the noise"
)


def front_table(machines: list[Saved]) -> Table:
    """Make six rows of the digits network: accuracy, file, how many times as fast."""
    return _compared(machines, FRONT, (1, 1024), "what runs")


def all_table(machines: list[Saved]) -> Table:
    """Make every variant's row, at all batch sizes."""
    first = report_of(machines[0])
    return _compared(machines, {row.name: row.name for row in first}, _DIGITS, "variant")


def technique_table(machines: list[Saved], names: Iterable[str]) -> Table:
    """Make the rows of some variants, the original first."""
    return _compared(machines, {name: name for name in ("original", *names)}, _DIGITS, "variant")


def _compared(
    machines: list[Saved], names: dict[str, str], batches: tuple[int, ...], head: str
) -> Table:
    reports = [{row.name: row for row in report_of(saved)} for saved in machines]
    titles = [short_title(saved["about"]) for saved in machines]
    speeds = [f"{title}, {_rows(batch)}" for title in titles for batch in batches]
    table = Table(_about(machines[0]), [head, "accuracy", "file", *speeds])
    for name, shown in names.items():
        rows = [report[name] for report in reports]
        cells = [_speed(row, batch, name == "original") for row in rows for batch in batches]
        table.row(shown, _accuracy(rows[0]), _kilobytes(rows[0].disk), *cells)
    table.note(
        "accuracy (of the first machine's run): * if it differs from the original's, by a paired "
        "McNemar test, p < 0.05"
    )
    table.note(_NOTE)
    return table


def _about(saved: Saved) -> str:
    about = saved["about"]
    return f"784-96-256-10 on {about['data']}, {about['n']:,} test rows, one thread"


def _rows(batch: int) -> str:
    return "1 row" if batch == 1 else f"{batch:,} rows"


def _accuracy(row: Row) -> str:
    sign = "*" if row.p_value is not None and row.p_value < 0.05 else ""
    return f"{100 * row.score:.2f} %{sign}"


def _kilobytes(size: int | None) -> str:
    return "–" if size is None else f"{size / 1000:,.0f} KB"


def _speed(row: Row, batch: int, is_original: bool) -> str:
    timing = next(timing for timing in row.timings if timing.batch == batch)
    if is_original:
        return _microseconds(1e6 * timing.p50)
    return _times(timing.speedup, timing.differs)


def _microseconds(value: float) -> str:
    return f"{value:,.0f} µs" if value >= 10 else f"{value:.2g} µs"


def _times(value: float, differs: bool = True) -> str:
    if not differs:
        return "≈ 1"
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f} ×"


def decision_tables(machines: list[Saved]) -> list[Table]:
    """Make a table for each kind of model: every technique, every machine."""
    made = []
    batches = machines[0]["about"]["batches"]
    for kind, rows in machines[0]["kinds"].items():
        speeds = [
            f"{short_title(saved['about'])}, {_rows(batch)}"
            for saved in machines
            for batch in batches
        ]
        table = Table(kind, ["technique", "points", "file", "compressed", *speeds])
        others = [{row["technique"]: row for row in saved["kinds"][kind]} for saved in machines]
        for row in rows:
            name = row["technique"]
            plain = name == "original"
            cells = [
                _microseconds(machine[name]["microseconds"][i])
                if plain
                else _times(machine[name]["speedups"][i], machine[name]["speedups"][i] != 1)
                for machine in others
                for i in range(len(batches))
            ]
            points = f"{100 * row['score']:.2f} %" if plain else _points(row)
            table.row(name, points, _kilobytes(row["disk"]), _kilobytes(row["compressed"]), *cells)
        made.append(table)
    made[-1].note(
        "points: of accuracy, gained or lost; * if a paired McNemar test gives p < 0.05; "
        "compressed: `fm.save(..., compress=True)`"
    )
    made[-1].note(_NOTE)
    return made


def _points(row: Saved) -> str:
    mark = "*" if row["p"] is not None and row["p"] < 0.05 else ""
    return f"{100 * row['difference']:+.2f}{mark}"
