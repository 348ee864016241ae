"""Plots of a report, for people who would rather look."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from fastmnist.comparison.page_words import kilobytes, microseconds
from fastmnist.display.figures import (
    BLUE,
    GREEN,
    RED,
    SMALL,
    bars,
    new_figure,
    quiet,
    shortened,
)
from fastmnist.measuring.metrics import unit_of

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
    places = [*range(len(rows))]
    figure = new_figure(9.0, 0.27 * len(rows) + 1.3)
    # Names are as wide as they need, up to a third of the figure.
    time, score, size = figure.subplots(1, 3, sharey=True)
    bars(time, [row.p50 for row in rows], [microseconds(row.p50) for row in rows], BLUE)
    batch = next((row.timings[0].batch for row in rows if row.timings), 1)
    time.set_title(f"µs for {batch:,} row{'s' * (batch != 1)} (p50)")
    _dots(score, [row.score * unit_of(about["metric"]) for row in rows])
    score.set_title(f"{about['metric']}{' (%)' * (unit_of(about['metric']) == 100)}")
    bars(size, [row.disk for row in rows], [kilobytes(row.disk) for row in rows], RED)
    size.set_title("file")
    for axes in (time, score, size):
        quiet(axes)
    time.set_yticks(places, [shortened(row.name, 32) for row in rows])
    time.set_ylim(len(rows) - 0.4, -0.6)
    told = [shortened(str(about.get("data", "data")), 40)]
    told += [f"n = {about['n']:,}"] if "n" in about else []
    told += [f"{about['threads']} thread(s)"] if "threads" in about else []
    told += [str(about["isa"])] if "isa" in about else []
    figure.suptitle(", ".join(told), fontsize=SMALL + 1)
    return figure


def _dots(axes: Any, scores: list[float]) -> None:
    """Dots, not bars: the axis does not start at 0, as hundredths of a point would vanish."""
    axes.plot(scores, [*range(len(scores))], "o", color=GREEN, markersize=5)
    axes.axvline(scores[0], color=GREEN, linewidth=0.8, linestyle=":", zorder=0)
    wide = any(abs(score) >= 10 for score in scores)
    for place, value in enumerate(scores):
        text = f"{value:.2f}" if wide else f"{value:.4g}"
        axes.annotate(
            text,
            (value, place),
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
