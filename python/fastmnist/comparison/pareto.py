"""Which of several variants no other one beats in both of two respects."""

from __future__ import annotations

import math
from collections.abc import Sequence


def front(costs: Sequence[float | None], values: Sequence[float | None]) -> list[int]:
    """Give the places of those that none beats: cheaper and as good, or better and as cheap.

    Parameters
    ----------
    costs : sequence of float or None
        Less is better.
    values : sequence of float or None
        More is better. Where either is None or NaN nothing can be said, and it is on no front.

    Returns
    -------
    list of int
        The cheapest first.

    Examples
    --------
    >>> front([4.0, 1.0, 2.0, 3.0, None], [0.98, 0.90, 0.97, 0.96, 0.99])
    [1, 2, 0]
    """
    known = [
        (cost, -value, i)
        for i, (cost, value) in enumerate(zip(costs, values, strict=True))
        if cost is not None and value is not None and not math.isnan(cost + value)
    ]
    found: list[tuple[float, float, int]] = []
    for cost, loss, i in sorted(known):
        if not found or loss < found[-1][1] or (cost, loss) == found[-1][:2]:
            found.append((cost, loss, i))
    return [i for _, _, i in found]
