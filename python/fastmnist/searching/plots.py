"""What a search tried, for people who would rather look."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastmnist.display.drawing import BLUE, GRAY, GREEN, RED, SMALL, new_figure, quiet, shortened
from fastmnist.measuring.metrics import unit_of
from fastmnist.searching.trial import Trial

if TYPE_CHECKING:
    from fastmnist.searching.result import Search


def plot_search(search: Search) -> Any:
    """Draw what each trial loses against its latency and its size.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    about = search.about
    unit = "points" if unit_of(about["metric"]) == 100 else about["metric"]
    most = max(4.0 * about["max_drop"], 4.0 if unit == "points" else 0.0) or math.inf
    shown = [trial for trial in search.trials if trial.drop <= most]
    hidden = len(search.trials) - len(shown)
    figure = new_figure(9.0, 3.4)
    latency, size = figure.subplots(1, 2, sharey=True)
    ways: list[tuple[Any, Callable[[Trial], float]]] = [
        (latency, lambda trial: trial.latency * 1e6),
        (size, lambda trial: trial.size / 1000),
    ]
    for axes, value in ways:
        front = [trial for trial in search.pareto if trial in shown]
        others = [trial for trial in shown if trial not in front]
        axes.plot([value(t) for t in others], [t.drop for t in others], "o", color=GRAY, ms=4)
        axes.plot([value(t) for t in front], [t.drop for t in front], "o", color=BLUE, ms=5)
        if search.best in shown:
            x, y = value(search.best), search.best.drop
            axes.errorbar([x], [y], yerr=[1.96 * search.best.error], color=GREEN, fmt="D", ms=6)
        axes.axhline(about["max_drop"], color=RED, linewidth=0.8, linestyle="--")
        axes.set_ylabel("")
        quiet(axes)
    latency.set_xlabel("µs for one row")
    size.set_xlabel("file (KB)")
    latency.set_ylabel(f"lost ({unit})")
    told = f"best: {search.best.recipe}"
    told += f"; {hidden} that lost more than {most:.3g} are not shown" if hidden else ""
    figure.suptitle(shortened(told, 110), fontsize=SMALL + 1)
    return figure
