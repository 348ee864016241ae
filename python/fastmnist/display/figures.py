"""Figures as text, in one way everywhere."""

from __future__ import annotations

import math

NONE = "–"


def microseconds(seconds: float) -> str:
    """Give a time to four digits.

    Examples
    --------
    >>> microseconds(1.7391e-6), microseconds(43.8e-6), microseconds(0.0319567)
    ('1.739', '43.80', '31,957')
    """
    if not math.isfinite(seconds) or seconds < 0:
        return NONE
    value = seconds * 1e6
    decimals = max(0, 3 - max(0, math.floor(math.log10(value)))) if value > 0 else 0
    return f"{value:,.{decimals}f}"
