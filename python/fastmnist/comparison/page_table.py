"""The sortable table of a report's page. In narrow windows each row becomes a card (page.css)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastmnist.comparison.figures import bits, kilobytes, p_value, share
from fastmnist.comparison.page_words import Words, plural, rate
from fastmnist.comparison.rows import Row
from fastmnist.display.figures import NONE, microseconds
from fastmnist.display.markup import Markup, cut, joined, tag

_MOST_LETTERS = 120  # of a name


@dataclass(frozen=True)
class _Column:
    """One column: its head, what sorts it (None: missing), what is shown."""

    name: str
    value: Callable[[Row], float | None]
    text: Callable[[Row], str]
    descends: bool = False  # whether the first click sorts downwards
    hint: Callable[[Row], str | None] = lambda row: None
    mark: Callable[[Row], str | None] = lambda row: None


def _columns(words: Words) -> list[_Column]:
    rows, better = words.rows, words.greater_is_better
    small = plural(words.smallest_batch, "row")
    large = next((row.timings[-1].batch for row in rows if row.timings), 0)

    def colour(row: Row) -> str | None:
        # Only what is beyond chance: of other metrics than accuracy nobody tested that.
        if row.p_value is None or row.p_value >= 0.05 or better is None:
            return None
        return "better" if (row.difference > 0) == better else "worse"

    every = [
        _Column(
            cut(words.metric, 40),
            lambda row: row.score,
            words.score,
            better is not False,
        ),
        _Column(
            "difference",
            lambda row: row.difference,
            words.difference,
            better is not False,
            lambda row: None if row.p_value is None else f"McNemar's p: {p_value(row.p_value)}",
            colour,
        ),
        _Column("p50 µs", lambda row: row.p50, lambda row: microseconds(row.p50)),
        _Column("p99 µs", lambda row: row.p99, lambda row: microseconds(row.p99)),
        _Column(
            "speed-up",
            lambda row: row.speedup,
            words.speedup,
            True,
            lambda row: (
                f"one call of {small}, within ±{row.speedup_spread:.0%} noise"
                if math.isfinite(row.speedup_spread)
                else None
            ),
        ),
        _Column(
            f"rows/s at {large:,}",
            lambda row: row.throughput,
            lambda row: rate(row.throughput),
            True,
        ),
        _Column("file", lambda row: row.disk, lambda row: kilobytes(row.disk)),
        _Column("memory", lambda row: row.memory, lambda row: kilobytes(row.memory)),
        _Column(
            "zeros",
            lambda row: row.sparsity,
            lambda row: share(row.sparsity),
            True,
        ),
        _Column("bits", lambda row: row.bits, lambda row: bits(row.bits)),
        _Column(
            "layers changed",
            lambda row: row.layers_changed,
            lambda row: str(row.layers_changed) if row.layers_changed else NONE,
        ),
        _Column(
            "classes that lose",
            lambda row: len(row.losing) if row.recall else None,
            lambda row: _few(row.losing) if row.recall else NONE,
        ),
    ]
    # What no variant has is no column: a regression has no classes.
    return [
        column
        for column in every
        if any(_known(column.value(row)) for row in rows) or column.name == "file"
    ]


def _few(classes: Sequence[int]) -> str:
    told = ", ".join(map(str, classes[:3])) or "none"
    return f"{told} +{len(classes) - 3}" if len(classes) > 3 else told


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def variants_table(words: Words) -> Markup:
    """Give the table, and what sorts it where its head is not shown."""
    columns = _columns(words)
    names = [column.name for column in columns]

    def head(i: int, name: str, kind: str, first: str) -> Markup:
        button = tag("button", name, type="button")
        sorted_ = "ascending" if i == 0 else None
        left = "left" if kind == "text" else None
        return tag("th", button, scope="col", class_=left, aria_sort=sorted_, data_kind=kind,
                   data_first=first)  # fmt: skip

    heads = [head(0, "#", "number", "ascending"), head(1, "variant", "text", "ascending")] + [
        head(i, column.name, "number", "descending" if column.descends else "ascending")
        for i, column in enumerate(columns, 2)
    ]
    body = [_line(i, row, columns) for i, row in enumerate(words.rows, 1)]
    table = tag("table", tag("thead", tag("tr", heads)), tag("tbody", body), id="variants")
    options = [tag("option", text, value=i) for i, text in enumerate(["#", "variant", *names])]
    sorting = tag(
        "div",
        tag("label", "Sort by", for_="sort-by"),
        tag("select", options, id="sort-by"),
        tag(
            "button", "▲", type="button", id="sort-turn", aria_label="sorted ascending, turn around"
        ),
        class_="sorting",
    )
    live = tag("p", "", id="sorted", role="status", class_="soft small")
    return joined(sorting, tag("div", table, class_="scroll stacked"), live)


def _line(i: int, row: Row, columns: Sequence[_Column]) -> Markup:
    place = tag("a", i, href=f"#panel-{i}", title="what is known of it")
    cells = [
        tag(
            "td",
            tag("span", column.text(row)),
            data_label=column.name,
            data_v=value if _known(value := column.value(row)) else None,
            title=column.hint(row),
            class_=column.mark(row),
        )
        for column in columns
    ]
    return tag(
        "tr",
        tag("td", place, class_="place", data_v=i),
        tag("th", tag("bdi", cut(row.name, _MOST_LETTERS)), scope="row", data_place=f"{i} "),
        cells,
        id=f"variant-{i}",
    )
