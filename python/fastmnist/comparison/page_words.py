"""Figures of a report's page in words: units, digits, and "–" for what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastmnist.comparison.rows import Row
from fastmnist.measuring.metrics import shown_difference

MISSING = "–"
AS_FAST = "≈ 1"  # within the noise


def number(value: float | None, form: str) -> str:
    """Give a number in a format; "–" where there is none."""
    return MISSING if value is None or not math.isfinite(value) else format(value, form)


def microseconds(seconds: float | None) -> str:
    """Give a time in µs with three digits or more.

    Examples
    --------
    >>> microseconds(3.214e-06), microseconds(0.0123), microseconds(float("nan"))
    ('3.21', '12,300', '–')
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    value = seconds * 1e6
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Give rows per second with three digits.

    Examples
    --------
    >>> rate(2_605_958.0), rate(903_332.0), rate(812.3), rate(None)
    ('2.61 M', '903 k', '812', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * unit:
            share = value / unit
            return f"{share:,.{2 - (share >= 9.995) - (share >= 99.95)}f}{name}"
    return f"{value:.3g}"


def speedup(value: float, spread: float) -> str:
    """Give a factor; "≈ 1" where it is within the noise."""
    if not math.isfinite(value):
        return MISSING
    if math.isfinite(spread) and 1 / (1 + spread) <= value <= 1 + spread:
        return AS_FAST
    return f"{value:.2f} ×" if value < 10 else f"{value:.1f} ×"


def difference(row: Row, first: Row | None) -> str:
    """Give what a row has more than the first one; * beyond chance."""
    if row is first or not math.isfinite(row.difference):
        return MISSING
    mark = "*" if row.p_value is not None and row.p_value < 0.05 else ""
    return shown_difference(row.metric, row.difference) + mark


def kilobytes(size: int | None) -> str:
    """Give a size in KB of 1000 bytes."""
    return MISSING if size is None else f"{size / 1000:,.1f} KB"


def plural(n: int, what: str) -> str:
    """Give a number with its noun.

    Examples
    --------
    >>> plural(1, "row"), plural(1024, "row")
    ('1 row', '1,024 rows')
    """
    return f"{n:,} {what}" + "s" * (n != 1)


def smallest_batch(rows: Sequence[Row]) -> int:
    """Tell how many rows the shortest timed calls have."""
    return next((row.timings[0].batch for row in rows if row.timings), 1)
