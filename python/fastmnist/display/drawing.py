"""Figures of matplotlib, which is imported when the first one is drawn, and not before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmnist.display.notebook_figure import NotebookFigure

# Okabe and Ito's: told apart by everyone, also in print.
BLUE, ORANGE, GREEN, RED, GRAY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8c8c8c"
SMALL = 8  # points: the smallest letters of any figure


def new_figure(width: float, height: float) -> NotebookFigure:
    """Give an empty figure, in inches, whose parts keep off each other.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from fastmnist.display.notebook_figure import NotebookFigure
    except ImportError:
        raise ImportError(
            "plot needs matplotlib: pip install matplotlib, or the extra fastmnist[plot]"
        ) from None
    return NotebookFigure(figsize=(width, height), layout="constrained")


def quiet(axes: Any) -> None:
    """Leave out of axes what is no data: two sides of the frame, and large letters."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.title.set_fontsize(SMALL + 2)
    axes.xaxis.label.set_fontsize(SMALL + 1)
    axes.yaxis.label.set_fontsize(SMALL + 1)


def shortened(text: str, most: int) -> str:
    """Give a name in at most so many letters, the middle left out.

    Examples
    --------
    >>> shortened("pruned 80 % + clustered + int8", 16)
    'pruned 8…d + int8'
    """
    text = text.replace("$", r"\$")  # which would begin a formula
    if len(text) <= most + 1:
        return text
    head = most // 2
    return f"{text[:head]}…{text[head - most :]}"


def bars(
    axes: Any,
    values: Sequence[float | None],
    texts: Sequence[str],
    color: str,
    room: float = 0.4,
) -> None:
    """Draw horizontal bars from 0, and what each is worth at its end: there is no scale beside.

    `room` is the share of the longest bar that the texts have behind it.
    """
    known = [0.0 if value is None or not math.isfinite(value) else value for value in values]
    drawn = axes.barh([*range(len(known))], known, color=color)
    axes.bar_label(drawn, [*texts], padding=3, fontsize=SMALL)
    axes.axvline(0.0, color="black", linewidth=0.8)
    # Room for the texts, on the sides where there are bars.
    most, least = max(0.0, *known), min(0.0, *known)
    room = room * (most - least) or 1.0
    axes.set_xlim(least - room * (least < 0), most + room * (most > 0 or most == least))
    axes.set_xticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(left=False)
