"""The tables of benchmarks.targets: what is asked of fastmnist beside what it reaches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastmnist.display.tables import Table

# Which of our cases stands for each kind of rows.
OURS = {
    "uint8": "fastmnist compiled, uint8 rows",
    "float32": "fastmnist compiled, float32 rows",
}
TORCH = "torch eager float32"
MODULES = (
    "fastmnist module, static int8",
    "fastmnist module, dynamic int8",
    "fastmnist compiled, float32 rows",
)


@dataclass(frozen=True)
class Asked:
    """Times as fast: at least, and the goal; None where nothing is asked."""

    least: float
    goal: float | None = None

    def __str__(self) -> str:
        return f"{self.least:g} ×" + (f" (goal {self.goal:g})" if self.goal else "")

    def verdict(self, measured: float | None) -> str:
        if measured is None:
            return "not measured"
        if measured < self.least:
            return "missed"
        return "goal" if self.goal and measured >= self.goal else "reached"


# Asked of an AVX2 CPU without VNNI. By data, kind of rows and batch: against the best library as
# usually called, and against the best prepared.
_DIGITS = {
    ("uint8", 1): (Asked(8, 10), Asked(5.5)),
    ("uint8", 32): (Asked(1.5), Asked(1.4)),
    ("uint8", 1024): (Asked(1.25, 1.6), Asked(1.15)),
    ("uint8", 10_000): (Asked(1.25, 1.6), Asked(1.15)),
    ("float32", 1): (Asked(7), Asked(5)),
    ("float32", 32): (Asked(1.4), Asked(1.2)),
    ("float32", 1024): (Asked(1.2), Asked(1.1)),
    ("float32", 10_000): (Asked(1.2), Asked(1.1)),
}
_WITHOUT_ZEROS = {("uint8", batch): (Asked(0.85, 0.95), None) for batch in (32, 1024, 10_000)}
_WIDE = {
    ("uint8", 1): (Asked(1.0, 1.2), None),
    ("uint8", 16): (Asked(0.85, 0.95), None),
    ("uint8", 256): (Asked(0.8, 0.9), None),
}
_SPARSE = {0.5: Asked(1.2, 1.3), 0.8: Asked(2.5, 3), 0.95: Asked(5, 6), 0.98: Asked(6, 9)}
_NOT_BEHIND = Asked(1.0)
_MODULES_AT_1024 = Asked(1.25)
_THREADS = Asked(0.95)

_Pair = tuple[Asked | None, Asked | None]


def tables(report: dict[str, Any]) -> Iterator[Table]:
    """Make all."""
    asks = report["about"]["isa"] == "avx2"
    yield networks_table(report, asks)
    yield sparse_table(report, asks)
    yield modules_table(report, asks)
    if report["threads"]:
        yield threads_table(report, asks)


def networks_table(report: dict[str, Any], asks: bool) -> Table:
    """The dense networks: as usually called / prepared."""
    about = report["about"]
    table = Table(
        f"Against the best library, as usually called / prepared ({about['cpu']}, {about['isa']}, "
        f"{about['threads']} thread(s))",
        ["", "batch", "asked", "measured", "", "ours", "best as usually called", "best, prepared"],
    )
    for network in report["networks"]:
        wanted, kinds = _asked_of(network)
        for kind in kinds:
            for batch in network["batches"]:
                n, own = batch["batch"], batch[kind]
                pair: _Pair = wanted.get((kind, n), (None, None)) if asks else (None, None)
                measured = [own[way] and own[way]["faster"] for way in ("usual", "prepared")]
                table.row(
                    f"{network['name']}, {network['data']}, {kind} rows",
                    f"{n:,}",
                    _both([str(a) if a else "–" for a in pair]),
                    " / ".join(_times(m) for m in measured),
                    _both(
                        [a.verdict(m) if a else "–" for a, m in zip(pair, measured, strict=True)]
                    ),
                    f"{_number(own['microseconds'])} µs",
                    *(_best(own[way]) for way in ("usual", "prepared")),
                )
    for name, why in report["missing"].items():
        table.note(f"left out: {name} ({why})")
    _note_caps(table, about)
    return table


def sparse_table(report: dict[str, Any], asks: bool) -> Table:
    """One row through the wide layer with zeros."""
    commit = report["baseline"]
    than = f"dense kernels of {commit[:7]}" if commit else "own dense kernels of today"
    table = Table(
        f"Linear(4096,4096)+ReLU with zeros, one uint8 row: times faster than the {than}",
        ["zeros", "asked", "measured", "", "than SciPy's CSR", "", "ours", "dense", "SciPy"],
    )
    key = "baseline" if commit else "dense"
    for layer in report["sparse"]:
        asked = _SPARSE.get(layer["zeros"]) if asks else None
        faster, times = layer["faster_than"], layer["microseconds"]
        table.row(
            f"{layer['zeros']:.0%}",
            str(asked) if asked else "–",
            _times(faster[key]),
            asked.verdict(faster[key]) if asked else "–",
            _times(faster.get("scipy")),
            _NOT_BEHIND.verdict(faster.get("scipy")),
            f"{_number(times['planned'])} µs",
            f"{_number(times[key])} µs",
            f"{_number(times['scipy'])} µs" if "scipy" in times else "–",
        )
    if commit:
        table.note("the other commit's kernels run in a process of their own, in the same rounds")
    return table


def modules_table(report: dict[str, Any], asks: bool) -> Table:
    """Modules and the compiled network on float32 rows, against torch."""
    network = report["networks"][0]
    table = Table(
        f"{network['name']}, float32 rows: times faster than {TORCH}",
        ["", "batch", "asked", "measured", ""],
    )
    for name in MODULES:
        for batch in network["batches"]:
            n, measured = batch["batch"], batch["than_torch"][name]
            asked = _MODULES_AT_1024 if n == 1024 and "module" in name else _NOT_BEHIND
            table.row(
                name,
                f"{n:,}",
                str(asked) if asks else "–",
                _times(measured),
                asked.verdict(measured) if asks else "–",
            )
    return table


def threads_table(report: dict[str, Any], asks: bool) -> Table:
    """Two threads against two processes at once, which is what the machine has to give."""
    table = Table(
        "784-96-256-10, uint8 rows: two threads against two processes at once, rows/s",
        ["batch", "one thread", "two threads", "two processes", "asked", "share", ""],
    )
    for row in report["threads"]:
        rates = row["rows_per_second"]
        table.row(
            f"{row['batch']:,}",
            f"{rates['one']:,.0f}",
            *(
                f"{rates[n]:,.0f} ({rates[n] / rates['one']:.2f} ×)"
                for n in ("threads", "processes")
            ),
            f"{_THREADS.least:g}" if asks else "–",
            f"{row['share']:.2f}",
            _THREADS.verdict(row["share"]) if asks else "–",
        )
    return table


def _asked_of(network: dict[str, Any]) -> tuple[dict[tuple[str, int], _Pair], tuple[str, ...]]:
    """Return what is asked of a network, and of which kinds of rows it is shown."""
    if network["name"].startswith("Linear"):
        return dict(_WIDE), ("uint8",)
    if network["data"].startswith("random"):
        return dict(_WITHOUT_ZEROS), ("uint8",)
    return dict(_DIGITS), ("uint8", "float32")


def _both(texts: list[str]) -> str:
    return "–" if set(texts) == {"–"} else " / ".join(texts)


def _best(best: Any) -> str:
    return f"{best['name']}, {_number(best['microseconds'])} µs" if best else "–"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"


def _number(value: float) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def _note_caps(table: Table, about: dict[str, Any]) -> None:
    if about["capped"]:
        table.note(f"run as a CPU with {about['capped']['as']} at best, by {about['capped']['by']}")
