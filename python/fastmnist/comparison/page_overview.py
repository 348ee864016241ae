"""The top of a report's page: the few figures that people look for, and what is worth it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fastmnist.comparison.page_charts import Point, scatter
from fastmnist.comparison.page_words import (
    difference,
    kilobytes,
    microseconds,
    plural,
    smallest_batch,
    speedup,
)
from fastmnist.comparison.rows import Row
from fastmnist.display.markup import Markup, cut, joined, tag
from fastmnist.measuring.metrics import shown, unit_of


def cards(rows: Sequence[Row], about: dict[str, Any]) -> Markup:
    """Give the fastest, the smallest and the best one, and the smallest that is as good."""
    first, better = rows[0], about.get("greater_is_better")

    def card(what: str, row: Row, value: str, than: str) -> Markup:
        lost = difference(row, first)
        return tag(
            "div",
            tag("div", what, class_="soft small"),
            tag("div", value, class_="value"),
            tag("div", tag("bdi", cut(row.name, 60))),
            tag("div", than, f" · {lost}" if row is not first else "", class_="soft small"),
            class_="card",
        )

    found = []
    if timed := [row for row in rows if math.isfinite(row.p50)]:
        row = min(timed, key=lambda row: row.p50)
        ratio = speedup(row.speedup, row.speedup_spread)
        than = f"{ratio} as fast as the first" if row is not first else "the first"
        found.append(card("Fastest, one call", row, f"{microseconds(row.p50)} µs", than))
    if sized := [row for row in rows if row.disk]:
        row = min(sized, key=lambda row: row.disk or 0)
        share = f"{(row.disk or 0) / first.disk:.0%} of the first" if first.disk else ""
        found.append(card("Smallest file", row, kilobytes(row.disk), share))
    if better is not None and (scored := [row for row in rows if math.isfinite(row.score)]):
        row = (max if better else min)(scored, key=lambda row: row.score)
        found.append(
            card(f"Best {about['metric']}", row, shown(row.metric, row.score), "of all variants")
        )
    kept = [row for row in sized if row is not first and _loses_nothing(row, better)]
    if kept:
        row = min(kept, key=lambda row: row.disk or 0)
        what = "Smallest that loses nothing that can be measured"
        found.append(card(what, row, kilobytes(row.disk), speedup(row.speedup, row.speedup_spread)))
    return tag("div", found, class_="cards")


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
