"""Figures of a report in the words of its page: what tables print, for one row among its report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastmnist.comparison import figures
from fastmnist.comparison.rows import BatchTiming, Row
from fastmnist.display.figures import NONE
from fastmnist.measuring.metrics import ACCURACY, unit_of


class Words:
    """What is said of rows, all of one report.

    Attributes
    ----------
    rows : sequence of Row
    first : Row or None
        What the others are compared with.
    about : mapping
    metric : str
    unit : float
        Factor from a score to what is drawn.
    greater_is_better : bool or None
    n, threads : int
        Rows of the data, and of what it ran on; 0 where a file does not tell.
    class_counts : list of int
        Rows of each class; empty where that is not told.
    """

    def __init__(self, rows: Sequence[Row], about: Mapping[str, Any]) -> None:
        self.rows, self.about = rows, about
        self.first = rows[0] if rows else None
        self.metric = str(about.get("metric", ACCURACY.name))
        self.unit = unit_of(self.metric)
        better = about.get("greater_is_better")
        self.greater_is_better = better if isinstance(better, bool) else None
        self.n, self.threads = (_count(about.get(key)) for key in ("n", "threads"))
        counts = about.get("class_counts")
        self.class_counts = [*map(_count, counts)] if isinstance(counts, list) else []
        scores = [row.score for row in rows if math.isfinite(row.score)]
        self._scores = dict(zip(scores, figures.scores(self.metric, scores, self.n), strict=True))

    def score(self, row: Row) -> str:
        """The metric's value, with as many digits as tell it from the others'."""
        return self._scores.get(row.score, NONE)

    def difference(self, row: Row) -> str:
        """What it has more than the first one; * beyond chance."""
        if row is self.first or not math.isfinite(row.difference):
            return NONE
        mark = "*" if row.p_value is not None and row.p_value < 0.05 else ""
        return figures.difference(self.metric, row.difference, self.n) + mark

    def speedup(self, row: Row, own: BatchTiming | None = None) -> str:
        """How much faster than the first one, at the smallest batch or that of `own`."""
        own = own or (row.timings[0] if row.timings else None)
        timings = self.first.timings if self.first else ()
        first = next((t for t in timings if own and t.batch == own.batch), None)
        if row is self.first or own is None or first is None:
            return NONE
        return figures.speedup(first, own)

    @property
    def smallest_batch(self) -> int:
        """How many rows the shortest timed calls have."""
        return next((row.timings[0].batch for row in self.rows if row.timings), 1)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def rate(value: float | None) -> str:
    """Give rows per second with three digits.

    Examples
    --------
    >>> rate(2_605_958.0), rate(903_332.0), rate(812.3), rate(None)
    ('2.61 M', '903 k', '812', '–')
    """
    if value is None or not math.isfinite(value):
        return NONE
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * unit:
            share = value / unit
            return f"{share:,.{2 - (share >= 9.995) - (share >= 99.95)}f}{name}"
    return f"{value:.3g}"


def plural(n: int, what: str) -> str:
    """Give a number with its noun.

    Examples
    --------
    >>> plural(1, "row"), plural(1024, "row")
    ('1 row', '1,024 rows')
    """
    return f"{n:,} {what}" + "s" * (n != 1)
