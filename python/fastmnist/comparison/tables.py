"""The tables of a report: all variants, and what was changed in their layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

from fastmnist.comparison.figures import (
    bits,
    difference,
    kilobytes,
    p_value,
    scores,
    share,
    speedup,
)
from fastmnist.comparison.rows import BatchTiming, Row
from fastmnist.display.figures import NONE, microseconds
from fastmnist.display.tables import Table
from fastmnist.measuring.metrics import ACCURACY, direction_note

_MOST_CLASSES = 4  # that are named
_OF_TIMES = ("p50 µs", "p90 µs", "p99 µs", "speed-up")
_RATE = "rows/s"
_ENDS = ("memory", "disk", "zeros", "bits", "layers changed")
_ALWAYS = ("variant", "rows", "difference", "p50 µs", "p99 µs", "speed-up", *_ENDS[:2], _ENDS[-1])


def report_table(rows: Sequence[Row], about: Mapping[str, Any]) -> Table:
    """Make the table of all variants; where it does not fit, its parts come below each other."""
    metric, n = about["metric"], int(about.get("n", 0))
    batches = [timing.batch for timing in rows[0].timings] if rows else []
    names = {batch: _names_of_times(batch, batches) for batch in batches}
    times = [name for batch in batches for name in names[batch].values()]
    names_of = ["variant", "rows", metric, "difference", "p", *times, *_ENDS]
    texts = scores(metric, [row.score for row in rows], n)
    first = {timing.batch: timing for timing in rows[0].timings} if rows else {}
    cells = []
    for row, text in zip(rows, texts, strict=True):
        timed = {timing.batch: timing for timing in row.timings}
        measured = [
            cell
            for batch in batches
            for cell in _cells_of_times(
                first[batch], timed.get(batch), row is rows[0], names[batch]
            )
        ]
        cells.append(
            [
                row.name,
                row.rows,
                text,
                _difference(row, n),
                p_value(row.p_value),
                *measured,
                kilobytes(row.memory),
                kilobytes(row.disk),
                share(row.sparsity),
                bits(row.bits),
                str(row.layers_changed) if row.layers_changed else NONE,
            ]
        )
    # Files of earlier versions tell less, and no other metric than accuracy has a test.
    told = [
        name in _ALWAYS or any(line[i] != NONE for line in cells) for i, name in enumerate(names_of)
    ]
    table = Table(_title(about), [*compress(names_of, told)])
    for line in cells:
        table.row(*compress(line, told))
    _add_parts(table, metric, names)
    for note in _notes(rows, about, batches):
        table.note(note)
    return table


def _title(about: Mapping[str, Any]) -> str:
    where = [f"{about['threads']} thread(s)"] if "threads" in about else []
    where += [str(about["isa"])] if about.get("isa") else []
    n = f"n = {about['n']:,}" if "n" in about else "n unknown"
    return ", ".join([str(about.get("data") or "data"), n, *where])


def _names_of_times(batch: int, batches: list[int]) -> dict[str, str]:
    """The columns of a batch size: what they are called in their own part, and in all."""
    at = "" if batch == 1 else f" at {batch:,}"
    names = {name: name + at for name in _OF_TIMES}
    return names | ({_RATE: f"{_RATE} at {batch:,}"} if batch == batches[-1] else {})


def _cells_of_times(
    first: BatchTiming, own: BatchTiming | None, is_first: bool, names: dict[str, str]
) -> list[str]:
    if own is None:
        return [NONE] * len(names)
    cells = [microseconds(seconds) for seconds in (own.p50, own.p90, own.p99)]
    cells.append(NONE if is_first else speedup(first, own))
    if _RATE in names:
        cells.append(f"{own.throughput:,.0f}" if math.isfinite(own.throughput) else NONE)
    return cells


def _add_parts(table: Table, metric: str, names: dict[int, dict[str, str]]) -> None:
    """What belongs together, the answer to "which one?" first."""
    key = {metric: metric, "difference": "difference"}
    for batch in [*names][:1]:
        key |= {names[batch]["p50 µs"]: "p50 µs", names[batch]["speed-up"]: "speed-up"}
    # Room for names of 31 letters in 80 columns.
    key["difference"] = "Δ points" if metric == ACCURACY.name else "Δ"
    _add_part(table, "all at a glance", key | {"disk": "disk"})
    for batch, columns in names.items():
        title = f"calls with {batch:,} row{'s' * (batch != 1)}"
        _add_part(table, title, {name: short for short, name in columns.items()})
    ends = {name: name for name in ("p", "memory", "zeros", "bits")}
    _add_part(table, "tests and weights", {**ends, "layers changed": "layers changed"})


def _add_part(table: Table, title: str, columns: dict[str, str]) -> None:
    table.part(title, {name: short for name, short in columns.items() if name in table.columns})


def _difference(row: Row, n: int) -> str:
    if (row.p_value is None and row.difference == 0) or not math.isfinite(row.difference):
        return NONE
    mark = "*" if row.p_value is not None and row.p_value < 0.05 else ""
    return difference(row.metric, row.difference, n) + mark


def _notes(rows: Sequence[Row], about: Mapping[str, Any], batches: list[int]) -> list[str]:
    metric, first = about["metric"], rows[0].name if rows else ""
    notes = [
        f"difference to '{first}' in points; * if a paired McNemar test gives p < 0.05"
        if metric == ACCURACY.name
        else f"difference to '{first}' in {metric}"
    ]
    notes += [note for note in [direction_note(metric, about.get("greater_is_better"))] if note]
    notes += [note for row in rows if (note := _losing(row, rows[0]))]
    if batches:
        notes.append(
            "speed-up: the ratio of the p50 of "
            f"'{first}' to this one's, of calls in turns; ≈ 1: no difference beyond the noise"
        )
        notes.append(_about_p99(rows, about))
    notes.append(
        "memory: all that is held; int8 modules keep two layouts, pruned ones masks; disk: the "
        "file; zeros, bits: of the weights of Linear layers"
    )
    noise = about.get("noise", {}).get("verdict", "quiet")
    if noise != "quiet":
        notes.append(f"times are rough ones: the machine was {noise}")
    if about.get("rounds_timed", 0) < about.get("rounds", 0):
        notes.append(
            f"the time ran out after {about['rounds_timed']} of {about['rounds']} rounds "
            "(seconds=): the noise is the greater"
        )
    return notes + [str(note) for note in about.get("notes", [])]


def _about_p99(rows: Sequence[Row], about: Mapping[str, Any]) -> str:
    others = (
        "among the other variants, which take the caches between turns"
        if len(rows) > 1
        else "alone, caches warm"
    )
    fresh = "" if about.get("results") != "fresh" else "; results are fresh ones, not out="
    return f"p90, p99: of calls {others}{fresh}"


def _losing(row: Row, first: Row) -> str:
    """Which classes have fewer right rows than they had, in words."""
    if not row.losing:
        return ""
    known = [i for i in row.losing if i < min(len(first.recall), len(row.recall))]
    most = sorted(known, key=lambda i: row.recall[i] - first.recall[i])[:_MOST_CLASSES]
    told = [f"{index} ({first.recall[index]:.1%} to {row.recall[index]:.1%})" for index in most]
    if len(row.losing) > _MOST_CLASSES:
        told.append(f"{len(row.losing) - _MOST_CLASSES:,} more")
    word = "class" if len(row.losing) == 1 else "classes"
    return f"'{row.name}' loses in {word} {', '.join(told)}"


def layers_table(rows: Sequence[Row]) -> Table:
    """Make the table of layers: what was changed, why, and how far their outputs are."""
    table = Table("layers", ["variant", "layer", "SQNR dB", "change"])
    for row in rows:
        layers = dict.fromkeys([change.layer for change in row.changes] + [*row.sqnr])
        for layer in layers:
            what = "; ".join(c.what for c in row.changes if c.layer == layer)
            table.row(row.name, layer, _decibels(row, layer), what or NONE)
        if row is not rows[0] and row.output_sqnr is not None:
            table.row(row.name, "outputs", f"{row.output_sqnr:.1f}", NONE)
    heads = ("layer", "SQNR dB", "change")
    table.part("what was changed, and what it costs", {name: name for name in heads})
    first = rows[0].name if rows else ""
    table.note(f"SQNR: of outputs against those of '{first}'; equal: not a bit differs")
    return table


def _decibels(row: Row, layer: str) -> str:
    if layer not in row.sqnr:
        return NONE
    value = row.sqnr[layer]
    return "equal" if value is None else f"{value:.1f}"
