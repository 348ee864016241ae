"""The top of a report's page: the few figures that people look for, and what is worth it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fastmnist.comparison.page_charts import Point, scatter
from fastmnist.comparison.page_words import (
    AS_FAST,
    MISSING,
    difference,
    kilobytes,
    microseconds,
    plural,
    smallest_batch,
    speedup,
)
from fastmnist.comparison.rows import Row
from fastmnist.display.markup import Markup, cut, joined, tag
from fastmnist.measuring.metrics import ACCURACY, shown, unit_of


def cards(rows: Sequence[Row], about: dict[str, Any]) -> Markup:
    """Give the fastest, the smallest and the best one, and the smallest that is as good."""
    first, better = rows[0], about.get("greater_is_better")

    def card(what: str, row: Row, value: str) -> Markup:
        return tag(
            "div",
            tag("div", what, class_="soft small"),
            tag("div", value, class_="value"),
            tag("div", tag("bdi", cut(row.name, 60))),
            tag("div", _against(row, first), class_="soft small"),
            class_="card",
        )

    found = []
    if timed := [row for row in rows if math.isfinite(row.p50)]:
        row = min(timed, key=lambda row: row.p50)
        rows_in = plural(smallest_batch(rows), "row")
        found.append(card(f"Fastest with {rows_in}", row, f"{microseconds(row.p50)} µs"))
    if sized := [row for row in rows if row.disk]:
        row = min(sized, key=lambda row: row.disk or 0)
        found.append(card("Smallest file", row, kilobytes(row.disk)))
    if better is not None and (scored := [row for row in rows if math.isfinite(row.score)]):
        row = (max if better else min)(scored, key=lambda row: row.score)
        found.append(card(f"Best {cut(row.metric, 40)}", row, shown(row.metric, row.score)))
    if kept := [row for row in sized if row is not first and _loses_nothing(row, better)]:
        row = min(kept, key=lambda row: row.disk or 0)
        found.append(card("Smallest without a measurable loss", row, kilobytes(row.disk)))
    return tag("div", found, class_="cards")


def _against(row: Row, first: Row) -> str:
    """A row in few words: "14% of the size, 1.96 × the speed, -0.83 points"."""
    if row is first:
        return "the one that others are compared with"
    told = []
    if row.disk and first.disk:
        told.append(f"{row.disk / first.disk:.0%} of the size")
    if math.isfinite(row.speedup):
        factor = speedup(row.speedup, row.speedup_spread)
        told.append("as fast" if factor == AS_FAST else f"{factor} the speed")
    if (lost := difference(row, first)) != MISSING:
        told.append(f"{lost} points" if row.metric == ACCURACY.name else f"{lost} {row.metric}")
    return ", ".join(told)


def _loses_nothing(row: Row, greater_is_better: bool | None) -> bool:
    if row.p_value is not None:
        return row.difference >= 0 or row.p_value >= 0.05
    return greater_is_better is not None and (
        row.difference >= 0 if greater_is_better else row.difference <= 0
    )


def charts(rows: Sequence[Row], about: dict[str, Any]) -> Markup | None:
    """Draw the metric against size and against latency."""
    metric, unit = about["metric"], unit_of(about["metric"])
    name = f"{metric} (%)" if unit == 100 else str(metric)

    def points(cost: Callable[[Row], float | None], told: Callable[[Row], str]) -> list[Point]:
        return [
            Point(
                i, row.name, cost(row), row.score * unit, f"{shown(metric, row.score)}, {told(row)}"
            )
            for i, row in enumerate(rows, 1)
        ]

    drawn = [
        scatter(
            f"{metric} against size",
            ("file size, KB", name),
            points(lambda row: row.disk / 1000 if row.disk else None, lambda r: kilobytes(r.disk)),
            about.get("greater_is_better"),
        ),
        scatter(
            f"{metric} against latency",
            (f"p50 of a call of {plural(smallest_batch(rows), 'row')}, µs", name),
            points(
                lambda row: row.p50 * 1e6 if math.isfinite(row.p50) else None,
                lambda row: f"{microseconds(row.p50)} µs",
            ),
            about.get("greater_is_better"),
        ),
    ]
    if not any(drawn):
        return None
    return joined(tag("h2", "What is worth it"), tag("div", *drawn, class_="charts"))
