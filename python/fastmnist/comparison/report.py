"""What :func:`fastmnist.compare` returns: one table, in every form people want it in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastmnist.comparison.diff import ReportDiff, diff_of
from fastmnist.comparison.flat import flat_metrics
from fastmnist.comparison.rows import Row
from fastmnist.comparison.stored import parsed, text_of
from fastmnist.comparison.tables import layers_table, report_table
from fastmnist.display.tables import Table, Tabled, frame_of
from fastmnist.files.atomic import write_atomically


class Report(Tabled, Sequence[Row]):
    """The measured variants, the baseline first; prints as a table.

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
            raise KeyError(f"variant: expected one of {names}, got '{index}'")
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def table(self) -> Table:
        """Return the printed table."""
        return report_table(self.rows, self.about)

    def layers(self) -> Table:
        """Return a table of the changes to each layer, and its SQNR against the first variant.

        Where the first variant has a layer at the same path, the outputs of both on up to 512 rows
        are compared, in dB. The changes are those that :func:`fastmnist.changes` lists.
        """
        return layers_table(self.rows)

    def metrics(self) -> dict[str, float]:
        """Return all figures under flat names, for MLflow and similar tools.

        Names, such as ``int8/accuracy`` and ``int8/p50_us_batch_1``, consist of letters, digits and
        ``_-. /``, which MLflow accepts. Unknown values are omitted.

        Examples
        --------
        >>> import fastmnist as fm, torch
        >>> data = torch.rand(32, 1, 28, 28), torch.randint(0, 10, (32,))
        >>> report = fm.compare({"original": fm.NeuralNetwork()}, data, rounds=1)
        >>> report.metrics()["original/bits"]
        32.0
        """
        return flat_metrics(self.rows)

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the table as Markdown, and write it to `path` if given."""
        text = self.table().to_markdown()
        if path is not None:
            write_atomically(path, text.encode())
        return text

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write a self-contained HTML file, and return its path.

        It shows a sortable table, the metric against size and latency with the Pareto front, and
        what each layer, class and input lost. It suits dark and light modes, wide and narrow
        windows, and stays below 1 MB.

        Raises
        ------
        TypeError, OSError
            If `path` is not a path, or cannot be written.

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

        The metric's value is stored under its name (``about["metric"]``).
        """
        text = text_of(self.about, self.rows)
        if path is not None:
            write_atomically(path, (text + "\n").encode())
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> Report:
        """Read what :meth:`to_json` wrote, from a path or from the text itself.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If it is not a report; the message says what is wrong.

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

    def diff(self, other: Report) -> ReportDiff:
        """Find what became better or worse, beyond noise, in `other`, a later report.

        Accuracy is compared by a paired test if both reports used the same rows, else as two
        samples, at p < 0.01. Other metrics count from a thousandth on, bytes exactly. Times are
        compared only if CPU, instruction set and threads are the same, and must differ by more than
        the noise in both reports.

        Returns
        -------
        ReportDiff
            With ``worse`` and ``better``; true if there is any difference. A variant missing from
            `other` counts as worse.

        Raises
        ------
        TypeError
            If `other` is not a report.

        Examples
        --------
        >>> import fastmnist as fm, torch
        >>> data = torch.rand(32, 1, 28, 28), torch.randint(0, 10, (32,))
        >>> report = fm.compare({"original": fm.NeuralNetwork()}, data, rounds=1)
        >>> bool(report.diff(report))
        False
        """
        if not isinstance(other, Report):
            raise TypeError(f"other: expected a Report, got {type(other).__name__}")
        return diff_of(self, other)

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
        """Draw latency against accuracy, and sizes, in a matplotlib Figure.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        from fastmnist.comparison.plots import plot_report

        return plot_report(self)
