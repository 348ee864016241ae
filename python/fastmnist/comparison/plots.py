"""Plots of a report, for people who would rather look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastmnist.comparison.figures import kilobytes
from fastmnist.comparison.page_words import Words, plural
from fastmnist.display.drawing import (
    BLUE,
    GREEN,
    RED,
    SMALL,
    bars,
    new_figure,
    quiet,
    shortened,
)
from fastmnist.display.figures import microseconds

if TYPE_CHECKING:
    from fastmnist.comparison.report import Report


def plot_report(report: Report) -> Any:
    """Draw time per call, accuracy (or the metric) and size of each variant side by side.

    As wide as a notebook shows without shrinking it.

    Parameters
    ----------
    report : Report

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    rows, about = report.rows, report.about
    words = Words(rows, about)
    figure = new_figure(9.0, 0.27 * len(rows) + 1.3)
    time, score, size = figure.subplots(1, 3, sharey=True)
    bars(time, [row.p50 for row in rows], [microseconds(row.p50) for row in rows], BLUE)
    time.set_title(f"µs for {plural(words.smallest_batch, 'row')} (p50)")
    _dots(score, [row.score * words.unit for row in rows], [words.score(row) for row in rows])
    score.set_title(shortened(words.metric, 30) + " (%)" * (words.unit == 100))
    bars(size, [row.disk for row in rows], [kilobytes(row.disk) for row in rows], RED)
    size.set_title("file")
    for axes in (time, score, size):
        quiet(axes)
    time.set_yticks([*range(len(rows))], [shortened(row.name, 32) for row in rows])
    time.set_ylim(len(rows) - 0.4, -0.6)
    told = [shortened(str(about.get("data", "data")), 40)]
    told += [f"n = {words.n:,}"] if words.n else []
    told += [plural(words.threads, "thread")] if words.threads else []
    told += [str(about["isa"])] if "isa" in about else []
    figure.suptitle(", ".join(told), fontsize=SMALL + 1)
    return figure


def _dots(axes: Any, scores: list[float], texts: list[str]) -> None:
    """Dots, not bars: the axis does not start at 0, as hundredths of a point would vanish."""
    axes.plot(scores, [*range(len(scores))], "o", color=GREEN, markersize=5)
    axes.axvline(scores[0], color=GREEN, linewidth=0.8, linestyle=":", zorder=0)
    for place, (value, text) in enumerate(zip(scores, texts, strict=True)):
        axes.annotate(
            text,
            (value if math.isfinite(value) else 0.0, place),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    known = [score for score in scores if math.isfinite(score)] or [0.0]
    room = (max(known) - min(known)) or abs(known[0]) * 0.01 or 1.0
    axes.set_xlim(min(known) - 0.15 * room, max(known) + 0.6 * room)
    axes.tick_params(left=False)
    axes.locator_params(axis="x", nbins=4)
