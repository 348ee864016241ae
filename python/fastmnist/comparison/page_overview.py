"""The top of a report's page: the few figures that people look for, and what is worth it."""

from __future__ import annotations

import math
from collections.abc import Callable

from fastmnist.comparison.figures import SAME, kilobytes
from fastmnist.comparison.page_charts import Point, scatter
from fastmnist.comparison.page_words import Words, plural
from fastmnist.comparison.rows import Row
from fastmnist.display.figures import NONE, microseconds
from fastmnist.display.markup import Markup, cut, joined, tag
from fastmnist.measuring.metrics import ACCURACY


def cards(words: Words) -> Markup:
    """Give the fastest, the smallest and the best one, and the smallest that is as good."""
    rows, first, better = words.rows, words.first, words.greater_is_better

    def card(what: str, row: Row, value: str) -> Markup:
        return tag(
            "div",
            tag("div", what, class_="soft small"),
            tag("div", value, class_="value"),
            tag("div", tag("bdi", cut(row.name, 60))),
            tag("div", _against_first(words, row), class_="soft small"),
            class_="card",
        )

    found = []
    if timed := [row for row in rows if math.isfinite(row.p50)]:
        row = min(timed, key=lambda row: row.p50)
        rows_in = plural(words.smallest_batch, "row")
        found.append(card(f"Fastest with {rows_in}", row, f"{microseconds(row.p50)} µs"))
    if sized := [row for row in rows if row.disk]:
        row = min(sized, key=lambda row: row.disk or 0)
        found.append(card("Smallest file", row, kilobytes(row.disk)))
    if better is not None and (scored := [row for row in rows if math.isfinite(row.score)]):
        row = (max if better else min)(scored, key=lambda row: row.score)
        found.append(card(f"Best {cut(words.metric, 40)}", row, words.score(row)))
    if kept := [row for row in sized if row is not first and _loses_nothing(row, better)]:
        row = min(kept, key=lambda row: row.disk or 0)
        found.append(card("Smallest without a measurable loss", row, kilobytes(row.disk)))
    return tag("div", found, class_="cards")


def _against_first(words: Words, row: Row) -> str:
    """A row in few words: "14% of the size, 1.96 × the speed, -0.83 points"."""
    first = words.first
    if first is None or row is first:
        return "the one that others are compared with"
    told = []
    if row.disk and first.disk:
        told.append(f"{row.disk / first.disk:.0%} of the size")
    if (factor := words.speedup(row)) != NONE:
        told.append("as fast" if factor == SAME else f"{factor} the speed")
    if (lost := words.difference(row)) != NONE:
        unit = "points" if words.metric == ACCURACY.name else words.metric
        told.append(f"{lost} {unit}")
    return ", ".join(told)


def _loses_nothing(row: Row, greater_is_better: bool | None) -> bool:
    if row.p_value is not None:
        return row.difference >= 0 or row.p_value >= 0.05
    return greater_is_better is not None and (
        row.difference >= 0 if greater_is_better else row.difference <= 0
    )


def charts(words: Words) -> Markup | None:
    """Draw the metric against size and against latency."""
    metric, better = cut(words.metric, 40), words.greater_is_better
    name = f"{metric} (%)" if words.unit == 100 else metric

    def points(cost: Callable[[Row], float | None], told: Callable[[Row], str]) -> list[Point]:
        return [
            Point(
                i, row.name, cost(row), row.score * words.unit, f"{words.score(row)}, {told(row)}"
            )
            for i, row in enumerate(words.rows, 1)
        ]

    sizes = points(
        lambda row: row.disk / 1000 if row.disk else None, lambda row: kilobytes(row.disk)
    )
    times = points(
        lambda row: row.p50 * 1e6 if math.isfinite(row.p50) else None,
        lambda row: f"{microseconds(row.p50)} µs",
    )
    called = f"p50 of a call of {plural(words.smallest_batch, 'row')}, µs"
    drawn = [
        scatter(f"{metric} against size", ("file size, KB", name), sizes, better),
        scatter(f"{metric} against latency", (called, name), times, better),
    ]
    if not any(drawn):
        return None
    return joined(tag("h2", "What is worth it"), tag("div", *drawn, class_="charts"))
