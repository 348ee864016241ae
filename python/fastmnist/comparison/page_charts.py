"""Scatter plots of a report as inline SVG: what a variant costs against how good it is.

Dots carry the numbers that rows of the table have. Numbers keep off each other and off other
dots: each takes the first free place around its dot, the nearest first. A variant that is far
worse than the rest would leave the others one dot; such are drawn at the lower edge, and said.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fastmnist.comparison.pareto import front
from fastmnist.display.markup import Markup, cut, joined, tag

_WIDTH, _HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 30, 42
_RADIUS = 5.0
_MOST_NUMBERS, _MOST_NAMES = 40, 12
_FAR = 4.0  # so many times further down than the one before is off the scale
_TURNS = [math.radians(angle) for angle in (0, 180, 270, 90, 315, 225, 45, 135)]

_Box: TypeAlias = tuple[float, float, float, float]  # from left and top to right and bottom


@dataclass(frozen=True)
class Point:
    """One variant: its number in the table, and what is drawn of it; None of what is not known."""

    number: int
    name: str
    cost: float | None
    value: float | None
    told: str


def scatter(
    title: str,
    axis: tuple[str, str],
    points: Sequence[Point],
    greater_is_better: bool | None,
) -> Markup | None:
    """Draw value against cost, on a logarithmic scale, with the Pareto front.

    Parameters
    ----------
    title : str
    axis : tuple of str
        What the horizontal and the vertical one show, with units.
    points : sequence of Point
    greater_is_better : bool or None
        The direction of the value; None: there is no front.

    Returns
    -------
    Markup or None
        A figure; None where no point has both.
    """
    shown = [
        (p, p.cost, p.value)
        for p in points
        if p.cost is not None and p.value is not None and p.cost > 0 and math.isfinite(p.value)
    ]
    if not shown:
        return None
    costs, values = [cost for _, cost, _ in shown], [value for _, _, value in shown]
    sign = -1.0 if greater_is_better is False else 1.0
    best = [] if greater_is_better is None else front(costs, [sign * value for value in values])
    low, high, off = _range_of(values, sign)
    x_ticks, y_ticks = _log_ticks(min(costs), max(costs)), _ticks(low, high)
    left, right = _padded(math.log(min(costs)), math.log(max(costs)), 0.12)

    def x_of(cost: float) -> float:
        share = (math.log(cost) - left) / (right - left)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y_of(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    places = [(x_of(cost), y_of(value)) for cost, value in zip(costs, values, strict=True)]
    order = [*best, *(i for i in range(len(shown)) if i not in best)]
    steps = _steps([places[i] for i in best])
    numbers = _numbers(
        [(shown[i][0].number, *places[i]) for i in order[:_MOST_NUMBERS]],
        [_box(x, y, _RADIUS, _RADIUS) for x, y in places] + [*map(_around, steps)],
    )
    dots = [
        tag(
            "a",
            tag("title", f"{shown[i][0].number}: {cut(shown[i][0].name, 60)}, {shown[i][0].told}"),
            tag(
                "circle",
                class_=_kind(i in best, low <= values[i] <= high),
                cx=f"{places[i][0]:.1f}",
                cy=f"{places[i][1]:.1f}",
                r=_RADIUS,
            ),
            href=f"#variant-{shown[i][0].number}",
        )
        for i in reversed(order)  # the front on top
    ]
    picture = tag(
        "svg",
        _grid(axis, [(x_of(t), t) for t in x_ticks], [(y_of(t), t) for t in y_ticks]),
        _line(steps),
        numbers,
        dots,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="group",
        aria_label=f"{title}: {len(shown)} variants",
    )
    about: list[Any] = ["No front: which direction of the metric is better was not said."]
    if best:
        names = [
            [", " * (i != best[0]), f"{shown[i][0].number} ", tag("bdi", cut(shown[i][0].name, 40))]
            for i in best[:_MOST_NAMES]
        ]
        about = ["Pareto front: ", *names, ", …" if len(best) > _MOST_NAMES else "."]
    if off:
        where = "lower" if sign > 0 else "upper"
        about.append(f" {off} far worse, drawn at the {where} edge.")
    if left_out := len(points) - len(shown):
        about.append(f" Without figures to draw: {left_out}.")
    return tag(
        "figure",
        tag("figcaption", title),
        picture,
        tag("p", about, class_="soft small"),
        class_="chart",
    )


def _range_of(values: Sequence[float], sign: float) -> tuple[float, float, int]:
    """The range that is drawn, and how many values are worse than that."""
    losses = sorted(max(sign * v for v in values) - sign * v for v in values)
    least = (2 * len(losses) + 2) // 3
    last = next(
        (i for i in range(least, len(losses)) if 0 < _FAR * losses[i - 1] < losses[i]),
        len(losses),
    )
    kept = losses[:last]
    off = len(losses) - len(kept)
    top = max(sign * v for v in values)
    ends = sorted((sign * top, sign * (top - kept[-1])))
    low, high = _padded(ends[0], ends[1], 0.1)
    return low, high, off


def _kind(is_best: bool, is_in_range: bool) -> str:
    return "dot" + " best" * is_best + " off" * (not is_in_range)


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    room = (high - low) * share or abs(high) * 0.05 or 0.5
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, three to eight of them.

    Examples
    --------
    >>> _ticks(96.9, 98.2)
    [97.0, 97.2, 97.4, 97.6, 97.8, 98.0, 98.2]
    """
    rough = (high - low) / 7
    base = 10.0 ** math.floor(math.log10(rough))
    step = next(base * m for m in (1, 2, 5, 10) if base * m >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.10g}") for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range of a logarithmic scale.

    Examples
    --------
    >>> _log_ticks(3.0, 250.0)
    [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for series in ((1,), (1, 2, 5)):
        found = [
            float(f"{m * 10.0**e:.6g}")
            for e in range(first, last + 1)
            for m in series
            if low <= m * 10.0**e <= high
        ]
        if len(found) >= 3:
            return found[:: -(-len(found) // 8)]
    return _ticks(low, high) if high > 1.02 * low else [float(f"{low:.3g}")]


def _grid(
    axis: tuple[str, str], x: Sequence[tuple[float, float]], y: Sequence[tuple[float, float]]
) -> Markup:
    bottom = _HEIGHT - _BOTTOM
    lines = [
        joined(
            tag("line", class_="grid", x1=f"{at:.1f}", x2=f"{at:.1f}", y1=_TOP, y2=bottom),
            tag("text", _short(tick), x=f"{at:.1f}", y=bottom + 15, text_anchor="middle"),
        )
        for at, tick in x
    ] + [
        joined(
            tag(
                "line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f"{at:.1f}", y2=f"{at:.1f}"
            ),
            tag("text", _short(tick), x=_LEFT - 6, y=f"{at + 4:.1f}", text_anchor="end"),
        )
        for at, tick in y
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    names = [
        tag("text", axis[0], x=middle, y=_HEIGHT - 8, text_anchor="middle"),
        tag("text", axis[1], x=4, y=14),
    ]
    return joined(lines, names)


def _steps(places: Sequence[tuple[float, float]]) -> list[_Box]:
    """The front's lines, level and upright: nothing is promised between two variants."""
    found = []
    for (x, y), (next_x, next_y) in itertools.pairwise(places):
        found += [(x, y, next_x, y), (next_x, y, next_x, next_y)]
    return found


def _line(steps: Sequence[_Box]) -> Markup | None:
    if not steps:
        return None
    path = f"M{steps[0][0]:.1f} {steps[0][1]:.1f}"
    path += "".join(f"L{x:.1f} {y:.1f}" for _, _, x, y in steps)
    return tag("path", class_="front", d=path)


def _around(step: _Box) -> _Box:
    """Where a number would cross a line."""
    x, y = sorted((step[0], step[2])), sorted((step[1], step[3]))
    return x[0] - 1, y[0] - 1, x[1] + 1, y[1] + 1


def _numbers(points: Sequence[tuple[int, float, float]], taken: list[_Box]) -> list[Markup]:
    """A number at each point, where there is room for it, with a line to it if it is not near."""
    found = []
    for number, x, y in points:
        wide, high = 3.8 * len(str(number)), 5.0
        boxes = [
            _box(x + distance * math.cos(turn), y + distance * math.sin(turn), wide, high)
            for distance in (14.0, 21.0, 30.0, 40.0, 52.0)
            for turn in _TURNS
        ]
        inside = [
            box
            for box in boxes
            if box[0] > _LEFT and box[2] < _WIDTH and box[1] > _TOP and box[3] < _HEIGHT - _BOTTOM
        ] or boxes
        box = min(inside, key=lambda box: sum(_overlap(box, other) for other in taken))
        taken.append(box)
        at_x, at_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        far = math.hypot(at_x - x, at_y - y) > 16
        ends = {"x1": f"{x:.1f}", "y1": f"{y:.1f}", "x2": f"{at_x:.1f}", "y2": f"{at_y:.1f}"}
        text = tag(
            "text", number, class_="number", x=f"{at_x:.1f}", y=f"{at_y + 4:.1f}",
            text_anchor="middle",
        )  # fmt: skip
        found.append(joined(tag("line", class_="leader", **ends) if far else None, text))
    return found


def _box(x: float, y: float, wide: float, high: float) -> _Box:
    return x - wide, y - high, x + wide, y + high


def _overlap(one: _Box, other: _Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.6g}"
