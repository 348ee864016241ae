"""The tables of benchmarks.sparse, for the terminal and for the README."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.dense_tables import find
from fastmnist.display.tables import Table

SPARSE = "fastmnist, planned"
DENSE = "fastmnist, dense kernels only"


def tables(report: dict[str, Any]) -> Iterator[Table]:
    """Make all."""
    if "wide" in report:
        yield wide_table(report)
        yield wide_times(report)
    if "digits" in report:
        yield digits_table(report)


def best_peer(batch: dict[str, Any]) -> Any:
    """Return the fastest case that is not ours, however it was prepared."""
    peers = [case for case in batch["cases"] if case["name"] not in (SPARSE, DENSE)]
    return min(peers, key=lambda case: case["slower_than_ours"], default=None)


def wide_table(report: dict[str, Any]) -> Table:
    """How many times faster than our dense kernels, and than the best peer."""
    layers = report["wide"]
    batches = [b["batch"] for b in layers[0]["batches"]]
    table = Table(
        "Linear(4096,4096)+ReLU from uint8 rows: times faster than our own dense int8 kernels on "
        "the same weights / than the best of ONNX Runtime, OpenVINO and SciPy",
        ["zeros", *(f"batch {n:,}" for n in batches), "file"],
    )
    dense = layers[0]["file_bytes"]["dense"]
    for layer in layers:
        cells = []
        for batch in layer["batches"]:
            peer = best_peer(batch)
            ratio = f"{median(batch['than_dense']):.2f} ×"
            cells.append(ratio + (f" / {peer['slower_than_ours']:.1f} ×" if peer else ""))
        size = layer["file_bytes"]["sparse"]
        table.row(f"{layer['zeros']:.0%}", *cells, f"{size / 2**20:.1f} MB ({size / dense:.2f})")
    table.note(
        f"against our own: the median of {len(layers[0]['batches'][0]['than_dense'])} pairs of "
        "models, as where their pages lie in memory makes some per cent"
    )
    table.note(f"file: and its share of the dense int8 file's {dense / 2**20:.1f} MB")
    return table


def wide_times(report: dict[str, Any]) -> Table:
    """Every case's µs per call."""
    layers = report["wide"]
    columns = [(layer, b) for layer in layers for b in layer["batches"]]
    table = Table(
        "Linear(4096,4096)+ReLU, µs per call",
        ["", *(f"{layer['zeros']:.0%}, batch {b['batch']}" for layer, b in columns)],
    )
    names = list(dict.fromkeys(case["name"] for _, b in columns for case in b["cases"]))
    for name in names:
        found = [find(b, name) for _, b in columns]
        table.row(name, *(f"{case['microseconds']:,.0f}" if case else "–" for case in found))
    for name, why in report["missing"].items():
        table.note(f"left out: {name} ({why})")
    for layer, b in columns:
        if b["failed"]:
            slow = "; ".join(f"{name} ({why})" for name, why in b["failed"].items())
            table.note(f"left out at {layer['zeros']:.0%}, batch {b['batch']}: {slow}")
    return table


def digits_table(report: dict[str, Any]) -> Table:
    """The pruned digits networks beside the one they were made from."""
    rows = report["digits"]
    batches = list(rows[0]["batches"])
    table = Table(
        f"784-96-256-10 from uint8 rows ({report['data']}): µs per call, and times faster than "
        "unpruned",
        ["", *(f"batch {int(n):,}" for n in batches), "file"],
    )
    original = rows[0]["batches"]
    size = report["original_file_bytes"]
    table.row(
        "unpruned int8",
        *(f"{original[n]['original']:,.2f}" for n in batches),
        f"{size / 1000:.1f} KB",
    )
    for row in rows:
        cells = [
            f"{row['batches'][n]['pruned']:,.2f} ({row['batches'][n]['faster']:.2f} ×)"
            for n in batches
        ]
        table.row(row["name"], *cells, f"{row['file_bytes'] / 1000:.1f} KB")
    table.note(
        "times faster: each network in turns with the unpruned one, in a run of its own; the "
        "median over rounds, which need not be the quotient of these times"
    )
    return table
