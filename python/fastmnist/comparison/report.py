"""What :func:`fastmnist.compare` returns: one table, in every form people want it in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastmnist.comparison.rows import Row
from fastmnist.comparison.stored import parsed, text_of
from fastmnist.display.tables import Table, Tabled, frame_of
from fastmnist.files.atomic import write_atomically
from fastmnist.measuring.metrics import ACCURACY, direction_note, shown, shown_difference


class Report(Tabled, Sequence[Row]):
    """The measured variants, first one the baseline; prints as a table.

    Attributes
    ----------
    rows : tuple of Row
    about : dict
        Data set, n, batch size, threads, instruction set, versions.
    """

    def __init__(self, rows: Sequence[Row], about: dict[str, Any]) -> None:
        self.rows = tuple(rows)
        self.about = about

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            for row in self.rows:
                if row.name == index:
                    return row
            names = ", ".join(row.name for row in self.rows)
            raise KeyError(f"no variant '{index}': there are {names}")
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def table(self) -> Table:
        """Return the table that is printed."""
        about = self.about
        table = Table(
            f"{about['data']}, n = {about['n']:,}, {about['threads']} thread(s), {about['isa']}",
            [
                "variant",
                "rows",
                about["metric"],
                "difference",
                "p50 µs",
                "p99 µs",
                "speed-up",
                f"rows/s at {about['batch_size']:,}",
                "memory",
                "disk",
                "layers changed",
            ],
        )
        metric = about["metric"]
        for row in self.rows:
            table.row(
                row.name,
                row.rows,
                shown(metric, row.score),
                _difference(row),
                f"{row.p50 * 1e6:.1f}",
                f"{row.p99 * 1e6:.1f}",
                "–" if row is self.rows[0] else _speedup(row),
                f"{row.throughput:,.0f}",
                _kilobytes(row.memory),
                _kilobytes(row.disk),
                str(row.layers_changed) if row.layers_changed else "–",
            )
        first = self.rows[0].name
        table.note(
            f"difference to '{first}' in points; * if a paired McNemar test gives p < 0.05"
            if metric == ACCURACY.name
            else f"difference to '{first}' in {metric}"
        )
        if note := direction_note(metric, about.get("greater_is_better")):
            table.note(note)
        table.note(
            f"p50, p99 and speed-up at batch 1, interleaved; ≈ 1 if within the noise of '{first}'"
        )
        table.note("memory: all that is held; int8 modules keep two layouts, pruned ones masks")
        table.notes += [str(note) for note in about.get("notes", [])]
        return table

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the table as Markdown, and write it to `path` if one is given."""
        text = self.table().to_markdown()
        if path is not None:
            write_atomically(path, text.encode())
        return text

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML file that can be sent, and give its path: it loads nothing.

        A table that sorts, the metric against size and latency with the Pareto front, what each
        layer, class and input lost; dark and light, for wide and narrow windows, below 1 MB.

        Raises
        ------
        TypeError, OSError
            If `path` is no path, or cannot be written.

        Examples
        --------
        >>> import fastmnist as fm, tempfile, torch
        >>> data = torch.rand(32, 1, 28, 28), torch.randint(0, 10, (32,))
        >>> report = fm.compare({"original": fm.NeuralNetwork()}, data, rounds=2)
        >>> report.to_html(f"{tempfile.mkdtemp()}/report.html").name
        'report.html'
        """
        from fastmnist.comparison.html import write_page

        return write_page(self, path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return all figures as JSON (seconds, bytes, 0…1), and write them to `path` if given.

        The metric's value is under its name (``about["metric"]``).
        """
        text = text_of(self.about, self.rows)
        if path is not None:
            write_atomically(path, (text + "\n").encode())
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Report:
        """Read what :meth:`to_json` wrote: of a path, or the text itself.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no report, with what is wrong in it.

        Examples
        --------
        >>> import fastmnist as fm, torch
        >>> data = torch.rand(32, 1, 28, 28), torch.randint(0, 10, (32,))
        >>> report = fm.compare({"original": fm.NeuralNetwork()}, data, rounds=1)
        >>> fm.Report.from_json(report.to_json()) == report
        True
        """
        about, rows = parsed(source)
        return cls(rows, about)

    def __eq__(self, other: object) -> bool:
        """Whether all figures are the same; those that are no number too."""
        return isinstance(other, Report) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def to_frame(self) -> Any:
        """Return a pandas DataFrame, one row per variant (seconds, bytes, 0…1).

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        return frame_of(self.rows, Row, "name")

    def plot(self) -> Any:
        """Draw latency against accuracy, and sizes: a matplotlib Figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from fastmnist.comparison.plots import plot_report

        return plot_report(self)


def _difference(row: Row) -> str:
    if row.p_value is None and row.difference == 0:
        return "–"
    mark = "*" if row.p_value is not None and row.p_value < 0.05 else ""
    return shown_difference(row.metric, row.difference) + mark


def _speedup(row: Row) -> str:
    # A factor of two is no noise, however much the machine was disturbed.
    if abs(row.speedup - 1) <= row.speedup_spread and 0.5 < row.speedup < 2:
        return "≈ 1"
    return f"{row.speedup:.2f} ×" if row.speedup < 10 else f"{row.speedup:.1f} ×"


def _kilobytes(size: int | None) -> str:
    return "–" if size is None else f"{size / 1000:,.1f} KB"
