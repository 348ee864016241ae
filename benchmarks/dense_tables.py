"""What benchmarks.dense prints, from its JSON: times, ratios, shares of the core's limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.peers import ONEDNN
from fastmnist.display.tables import Table

OURS = "fastmnist"
# Shown in the summary: key of the limits, the case, and what the rows are called.
SUMMARIZED = (
    ("uint8", f"{OURS} compiled, uint8 rows", "uint8 rows"),
    ("uint8", f"{OURS} compiled, uint8 rows, out=", "uint8 rows, out="),
    ("float32", f"{OURS} compiled, float32 rows", "float32 rows"),
    ("float32", f"{OURS} compiled, float32 rows, out=", "float32 rows, out="),
)


def tables(report: dict[str, Any]) -> Iterator[Table]:
    """Give all tables: per network times and summary, then threads and limits."""
    for network in report["networks"]:
        yield times_table(report, network)
        yield summary_table(report, network)
    if report.get("scaling"):
        yield scaling_table(report)
    elif "scaling" in report:
        nothing = Table("one thread against two", ["", "not measured"])
        nothing.note("needs two CPUs and 1,024 rows or more (--data mnist)")
        yield nothing
    yield limits_table(report)


def times_table(report: dict[str, Any], network: dict[str, Any]) -> Table:
    """µs per call, and in brackets how many times slower than our uint8 call."""
    about, batches = report["about"], network["batches"]
    table = Table(
        f"{network['name']}, {network['data']} rows, {about['threads']} thread(s), {about['isa']}: "
        "µs per call (times slower than the first row)",
        ["", *(f"batch {b['batch']:,}" for b in batches)],
    )
    names = list(dict.fromkeys(case["name"] for b in batches for case in b["cases"]))
    for name in names:
        table.row(name, *(_time(find(b, name)) for b in batches))
    for name, why in report["missing"].items():
        table.note(f"left out: {name} ({why})")
    for b in batches:
        for name, why in b["failed"].items():
            table.note(f"left out at batch {b['batch']:,}: {name} ({why})")
    if about["capped"]:
        table.note(f"run as a CPU with {about['capped']['as']} at best, by {about['capped']['by']}")
    return table


def summary_table(report: dict[str, Any], network: dict[str, Any]) -> Table:
    """How far ahead of the best library, of oneDNN by hand, and how near the limit."""
    batches = network["batches"]
    table = Table(
        f"{network['name']}: fastmnist against the best library and the limit of the core",
        ["", *(f"batch {b['batch']:,}" for b in batches)],
    )
    for label, prepared, rows in (
        ("best library as usually called", False, ""),
        ("best, prepared", True, ""),
        ("best on float32 rows, as usually called", False, "float32"),
        ("best on float32 rows, prepared", True, "float32"),
    ):
        best = [best_library(b, prepared, rows) for b in batches]
        table.row(label, *(f"{c['name']}, {_us(c)} µs" if c else "–" for c in best))
    for kind in ("uint8", "float32"):
        table.row(f"limit of the core, {kind} rows", *(_bound(b["limits"][kind]) for b in batches))
    for kind, name, rows in SUMMARIZED:
        table.row(rows, *(_standing(b, kind, name) for b in batches))
    table.note(
        "how many times faster than the best library as its guides teach to call it / than the "
        "best one prepared for the very rows or batch size / than oneDNN called by hand / share of "
        "the core's limit that is reached"
    )
    table.note(
        "our uint8 rows against everybody on the rows that they like best, our float32 rows "
        "against those that take float32 (oneDNN by hand starts from uint8)"
    )
    table.note(
        "limit: the longer of all products at the core's int8 peak, and reading weights and rows "
        "once, each from the nearest cache that holds all of it; measured in the same run"
    )
    if report["about"]["threads"] > 1:
        table.note("limits are those of one core, whatever the number of threads")
    return table


def scaling_table(report: dict[str, Any]) -> Table:
    """One thread against two."""
    table = Table(
        "784-96-256-10, uint8 rows, out=, called back to back on one thread and on two",
        ["", *(f"batch {int(batch):,}" for batch in report["scaling"])],
    )
    for threads in ("1", "2"):
        table.row(
            f"{threads} thread(s), µs",
            *(f"{row['microseconds'][threads]:,.1f}" for row in report["scaling"].values()),
        )
    table.row("faster", *(f"{row['speedup']:.2f} ×" for row in report["scaling"].values()))
    return table


def limits_table(report: dict[str, Any]) -> Table:
    """What one core can do, as measured in the same run."""
    limits = report["limits"]
    table = Table(f"limits of one core, {limits['isa']}", ["", "measured"])
    table.row("int8 products, zeros", _rate(limits["products_per_second"]))
    table.row("int8 products, random bytes", _rate(limits["random_products_per_second"]))
    table.row("float32 products", _rate(limits["float_products_per_second"]))
    for name, key in (("L1", "l1"), ("L2", "l2"), ("L3", "l3"), ("memory", "memory")):
        level = limits[key]
        size = level["buffer_bytes"] / 1024
        text = f"{size:,.0f} KB" if size < 1024 else f"{size / 1024:,.0f} MB"
        table.row(f"reading {text} ({name})", f"{level['bytes_per_second'] / 1e9:,.0f} GB/s")
    if limits["l3"]["level_bytes"] > limits["memory"]["buffer_bytes"]:
        table.note(
            f"the system states {limits['l3']['level_bytes'] >> 20:,} MB of L3, more than was read "
            "for memory: some of that may have come from L3"
        )
    return table


def find(batch: dict[str, Any], name: str) -> Any:
    """Return the case of that name, or None."""
    return next((case for case in batch["cases"] if case["name"] == name), None)


def find_library(batch: dict[str, Any], library: str) -> Any:
    """Return the fastest case of one library, or None."""
    own = [case for case in batch["cases"] if case["library"] == library]
    return min(own, key=lambda case: case["slower_than_ours"], default=None)


def best_library(batch: dict[str, Any], prepared: bool = True, rows: str = "") -> Any:
    """Return the fastest case of all libraries but ours and oneDNN by hand, or None.

    Without `prepared`, of those that are called as their guides teach; with `rows`, of those that
    take such rows.
    """
    others = [
        case
        for case in batch["cases"]
        if case["library"] not in (OURS, ONEDNN)
        and (prepared or not case["prepared"])
        and rows in ("", case["rows"])
    ]
    return min(others, key=lambda case: case["slower_than_ours"], default=None)


def ahead(ours: dict[str, Any], other: dict[str, Any]) -> float:
    """Return how many times faster ours is, from ratios within rounds."""
    return float(other["slower_than_ours"] / ours["slower_than_ours"])


def _standing(batch: dict[str, Any], kind: str, name: str) -> str:
    ours = find(batch, name)
    if ours is None:
        return "–"
    rows = "float32" if kind == "float32" else ""
    others = (
        best_library(batch, False, rows),
        best_library(batch, True, rows),
        find_library(batch, ONEDNN),
    )
    ratios = [f"{ahead(ours, other):.1f} ×" if other else "–" for other in others]
    share = batch["limits"][kind]["microseconds"] / ours["microseconds"]
    return " / ".join([*ratios, f"{share:.0%}"])


def _bound(limit: dict[str, Any]) -> str:
    return f"{_number(limit['microseconds'])} µs ({limit['by']})"


def _time(case: Any) -> str:
    return f"{_us(case)} ({case['slower_than_ours']:.1f} ×)" if case else "–"


def _us(case: dict[str, Any]) -> str:
    return _number(case["microseconds"])


def _number(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def _rate(per_second: float) -> str:
    tera = per_second / 1e12
    return f"{tera:.2f} T/s" if tera >= 0.1 else f"{tera * 1000:.0f} G/s"
