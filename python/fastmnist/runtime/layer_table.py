"""The table of what each layer runs, which can be drawn. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastmnist.display.drawing import BLUE, SMALL, bars, new_figure, quiet, shortened
from fastmnist.display.tables import Table

_COLUMNS = 3


@dataclass(frozen=True)
class LayerTime:
    """The time that one layer takes for some rows.

    Attributes
    ----------
    layer : str
    rows : str
        The number of rows that the time is for, as in the table: "96 of 1,024" if only those were
        timed.
    kernel : str
    time : float
        In µs.
    """

    layer: str
    rows: str
    kernel: str
    time: float


class LayerTable(Table):
    """A table of layers, with their times as numbers.

    Attributes
    ----------
    times : list of LayerTime
        In the order of the table.

    Examples
    --------
    >>> table = LayerTable("net", ["layer"])
    >>> table.times += [LayerTime("linear1", "1", "avx2 dot 1×2", 0.5)]
    >>> [axes.get_title() for axes in table.plot().axes]
    ['µs for 1 row']
    """

    def __init__(self, title: str, columns: list[str]) -> None:
        super().__init__(title, columns)
        self.times: list[LayerTime] = []

    def plot(self) -> Any:
        """Draw how long each layer takes, and its kernel, in a matplotlib Figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        batches = [*dict.fromkeys(t.rows for t in self.times)]
        columns = max(min(_COLUMNS, len(batches)), 1)
        lines = -(-len(batches) // columns) or 1
        layers = max((sum(t.rows == n for t in self.times) for n in batches), default=0)
        figure = new_figure(max(3.0 * columns, 5.0), lines * (0.3 * layers + 0.7) + 0.3)
        places = list(figure.subplots(lines, columns, sharey=True, squeeze=False).flat)
        for axes, rows in zip(places, batches, strict=False):
            times = [t for t in self.times if t.rows == rows]
            told = [f"{t.time:,.2f}, {t.kernel}" for t in times]
            bars(axes, [t.time for t in times], told, BLUE, room=1.3)
            axes.set_title(f"µs for {rows} row{'s' * (rows != '1')}")
            axes.set_yticks([*range(len(times))], [shortened(t.layer, 24) for t in times])
            quiet(axes)
        for axes in places[len(batches) :]:
            axes.set_axis_off()
        if batches:
            places[0].set_ylim(layers - 0.4, -0.6)
        figure.suptitle(shortened(self.title, 90), fontsize=SMALL + 1)
        return figure
