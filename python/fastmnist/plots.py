"""Plots of a report, for people who would rather look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmnist.report import Report


def plot_report(report: Report) -> Any:
    """Draw time per call, accuracy and size of each variant side by side.

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
    panels = [
        ("time per call, batch 1 (µs)", [row.p50 * 1e6 for row in report.rows], "{:.1f}", "log"),
        (
            f"{report.about['metric']} ({'%' if report.about['metric'] == 'accuracy' else 'value'})",
            [
                row.accuracy * (100 if report.about["metric"] == "accuracy" else 1)
                for row in report.rows
            ],
            "{:.2f}",
            "linear",
        ),
        ("size on disk (KB)", [(row.disk or 0) / 1000 for row in report.rows], "{:.0f}", "linear"),
    ]
    figure = Figure(figsize=(13, 0.42 * len(names) + 1.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True)
    for axis, (title, values, label, scale), color in zip(
        axes, panels, ("#4c72b0", "#55a868", "#c44e52"), strict=True
    ):
        bars = axis.barh(places, values, color=color)
        axis.bar_label(bars, [label.format(v) if v else "–" for v in values], padding=3, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.set_xscale(scale)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.18)
        if title.startswith("accuracy"):
            # From a shared floor: differences of hundredths of a point would vanish from 0.
            low, high = min(values), max(values)
            room = max(high - low, 0.5)
            axis.set_xlim(low - room, high + room)
    axes[0].set_yticks(places, names)
    axes[0].invert_yaxis()
    about = report.about
    figure.suptitle(
        f"{about['data']}, n = {about['n']:,}, {about['threads']} thread(s), {about['isa']}",
        fontsize=10,
    )
    return figure
