"""How long a search may take."""

from __future__ import annotations

import math
import re

_UNITS = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
}
_MOST = 365 * 24 * 3600.0


def seconds_of(budget: str | float) -> float:
    """Read a budget: seconds, or text such as "5 min", "90 s", "1.5 h".

    Raises
    ------
    TypeError, ValueError
        If it is none, or not above 0.

    Examples
    --------
    >>> seconds_of("5 min"), seconds_of(90)
    (300.0, 90.0)
    """
    what = 'seconds, or a text such as "5 min"'
    if isinstance(budget, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", budget)
        unit = "" if match is None else match[2].lower()
        if match is None or unit not in _UNITS:
            raise ValueError(f"budget: expected {what}, got '{budget}'")
        seconds = float(match[1]) * _UNITS[unit]
    elif isinstance(budget, bool) or not isinstance(budget, int | float):
        raise TypeError(f"budget: expected {what}, got {type(budget).__name__}")
    else:
        seconds = float(budget)
    if not (math.isfinite(seconds) and 0 < seconds <= _MOST):
        raise ValueError(f"budget: expected more than 0 seconds and at most a year, got {budget}")
    return seconds
