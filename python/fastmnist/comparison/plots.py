"""Plots of a report, for people who would rather look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastmnist.measuring.metrics import unit_of

if TYPE_CHECKING:
    from fastmnist.comparison.report import Report


def plot_report(report: Report) -> Any:
    """Draw time per call, accuracy (or the metric) and size of each variant side by side.

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
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "plot needs matplotlib: pip install matplotlib, or the extra fastmnist[plot]"
        ) from None
    names = [row.name for row in report.rows]
    places = [*range(len(names))]
    metric = report.about["metric"]
    scores = [row.score * unit_of(metric) for row in report.rows]
    wide = any(abs(score) >= 10 for score in scores)
    figure = Figure(figsize=(13, 0.42 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    _bars(axes[0], places, [row.p50 * 1e6 for row in report.rows], "{:.1f}", "#4c72b0")
    axes[0].set_title("time per call at batch 1 (µs)", fontsize=10)
    # Dots, not bars: the axis does not start at 0, as hundredths of a point would vanish.
    axes[1].plot(scores, places, "o", color="#55a868", markersize=8)
    axes[1].axvline(scores[0], color="#55a868", linewidth=0.8, linestyle=":")
    for place, value in zip(places, scores, strict=True):
        axes[1].annotate(
            f"{value:.2f}" if wide else f"{value:.4g}",
            (value, place),
            (8, -3),
            textcoords="offset points",
            fontsize=8,
        )
    axes[1].margins(x=0.25)
    unit = " (%)" if unit_of(metric) == 100 else ""
    axes[1].set_title(f"{metric}{unit}", fontsize=10)
    _bars(axes[2], places, [(row.disk or 0) / 1000 for row in report.rows], "{:.0f}", "#c44e52")
    axes[2].set_title("size on disk (KB)", fontsize=10)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(places, names)
    axes[0].invert_yaxis()
    about = report.about
    figure.suptitle(
        f"{about['data']}, n = {about['n']:,}, {about['threads']} thread(s), {about['isa']}",
        fontsize=10,
    )
    return figure


def _bars(axis: Any, places: list[int], values: list[float], label: str, color: str) -> None:
    bars = axis.barh(places, values, color=color)
    axis.bar_label(bars, [label.format(v) if v else "–" for v in values], padding=3, fontsize=8)
    axis.margins(x=0.18)
