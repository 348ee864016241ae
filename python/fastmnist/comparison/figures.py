"""Figures of a report as text, so that those of a row agree with each other.

A speed-up is the ratio of the two times as they are printed, to their digits. A score has as many
digits, up to six, as it takes to tell one variant from another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastmnist.comparison.rows import BatchTiming
from fastmnist.display.figures import NONE, microseconds
from fastmnist.measuring.metrics import ACCURACY

SAME = "≈ 1"
_MOST_DIGITS = 6


def speedup(first: BatchTiming, own: BatchTiming) -> str:
    """Give the ratio of two times as they are printed, or that there is no difference.

    Examples
    --------
    >>> first = BatchTiming(1, 43.8e-6, 0, 0, 1.0, 0.0, 0)
    >>> speedup(first, BatchTiming(1, 21.4e-6, 0, 0, 43.8 / 21.4, 0.1, 0))
    '2.05 ×'
    >>> speedup(first, BatchTiming(1, 42.9e-6, 0, 0, 43.8 / 42.9, 0.1, 0))
    '≈ 1'
    """
    if not math.isfinite(own.speedup):
        return NONE
    if not own.differs:
        return SAME
    ratio = _printed(first.p50) / _printed(own.p50) if _printed(own.p50) else own.speedup
    return factor(ratio)


def factor(ratio: float) -> str:
    """Give a ratio to three digits, or two where it is small.

    Examples
    --------
    >>> factor(25.18), factor(1234.5), factor(0.77), factor(0.00412)
    ('25.2 ×', '1,234 ×', '0.77 ×', '0.0041 ×')
    """
    if ratio >= 100:
        return f"{ratio:,.0f} ×"
    if ratio >= 0.1:
        return f"{ratio:.1f} ×" if ratio >= 10 else f"{ratio:.2f} ×"
    return f"{ratio:.2g} ×"


def _printed(seconds: float) -> float:
    text = microseconds(seconds)
    return math.nan if text == NONE else float(text.replace(",", ""))


def scores(metric: str, values: Sequence[float], n: int) -> list[str]:
    """Give the values of a metric, to one precision that tells them apart.

    Examples
    --------
    >>> scores("r2", [0.9484, 0.9479], 90), scores("mae", [0.0484], 90)
    (['0.9484', '0.9479'], ['0.0484'])
    >>> scores("accuracy", [0.97, 0.9712], 10_000), scores("auc", [0.99996, 0.99997], 90)
    (['97.00%', '97.12%'], ['0.99996', '0.99997'])
    """
    if metric == ACCURACY.name:
        return [f"{value:.{_decimals(n)}%}" for value in values]
    different = len({f"{value:.{_MOST_DIGITS}g}" for value in values})
    for digits in range(4, _MOST_DIGITS):
        texts = [f"{value:.{digits}g}" for value in values]
        if len({*texts}) == different:
            return texts
    return [f"{value:.{_MOST_DIGITS}g}" for value in values]


def difference(metric: str, value: float, n: int) -> str:
    """Give what a score is above the first one's: of accuracy in points.

    Examples
    --------
    >>> difference("accuracy", -0.0028, 360), difference("r2", -0.0005, 90)
    ('-0.28', '-0.0005')
    """
    if metric == ACCURACY.name:
        return f"{value * 100:+.{_decimals(n)}f}"
    return f"{value:+.3g}"


def _decimals(n: int) -> int:
    """Of percents: one row more or less shows."""
    return max(2, math.ceil(math.log10(max(n, 1))) - 2)


def p_value(p: float | None) -> str:
    """Give a probability.

    Examples
    --------
    >>> p_value(0.0321), p_value(1e-9), p_value(1.0), p_value(None)
    ('0.032', '<0.001', '1', '–')
    """
    if p is None or not math.isfinite(p):
        return NONE
    if p < 0.001:
        return "<0.001"
    return "1" if p > 0.9995 else f"{p:.3f}"


def kilobytes(size: int | None) -> str:
    """Give bytes in KB."""
    return NONE if size is None else f"{size / 1000:,.1f} KB"


def share(value: float | None) -> str:
    """Give a share of weights.

    Examples
    --------
    >>> share(0.5), share(0.0), share(0.0073), share(None)
    ('50 %', '–', '0.7 %', '–')
    """
    if value is None or value < 0.0005:
        return NONE
    return f"{value * 100:.0f} %" if value >= 0.095 else f"{value * 100:.1f} %"


def bits(value: float | None) -> str:
    """Give bits of a weight.

    Examples
    --------
    >>> bits(32.0), bits(7.62), bits(None)
    ('32', '7.6', '–')
    """
    if value is None:
        return NONE
    return f"{value:.0f}" if abs(value - round(value)) < 0.05 else f"{value:.1f}"
