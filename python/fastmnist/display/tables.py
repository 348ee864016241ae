"""One table class for terminals, notebooks and Markdown."""

from __future__ import annotations

import html
import io
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# Wide enough for any table: what a log or a file is given.
_FULL_WIDTH = 400


class Table:
    """Rows of text that print in a terminal, render in a notebook and export to Markdown.

    Parameters
    ----------
    title : str
    columns : list of str
        The first is aligned left, the others right.
    """

    def __init__(self, title: str, columns: list[str]) -> None:
        self.title = title
        self.columns = columns
        self.rows: list[list[str]] = []
        self.notes: list[str] = []

    def row(self, *cells: str) -> None:
        """Add a row: one text per column."""
        if len(cells) != len(self.columns):
            raise ValueError(f"cells: expected {len(self.columns)}, got {len(cells)}")
        self.rows.append([*cells])

    def note(self, text: str) -> None:
        """Add a line below the table."""
        self.notes.append(text)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Draw within the width that there is: in several tables where one does not fit."""
        from rich.text import Text

        yield Text(self.title, style="italic")
        for columns in self._groups(options.max_width):
            yield self._drawn(columns, options.max_width)
        for note in self.notes:
            yield Text(note, style="dim italic")

    def _widths(self) -> list[int]:
        """Of each column with its frame."""
        cells = [[column, *(row[i] for row in self.rows)] for i, column in enumerate(self.columns)]
        return [max(len(text) for text in column) + 3 for column in cells]

    def _groups(self, width: int) -> list[list[int]]:
        """Columns that fit beside each other, the first one leading each group."""
        widths = self._widths()
        groups: list[list[int]] = [[0]]
        for i in range(1, len(self.columns)):
            used = 1 + sum(widths[k] for k in groups[-1])
            if used + widths[i] > width and len(groups[-1]) > 1:
                groups.append([0])
            groups[-1].append(i)
        return groups

    def _drawn(self, columns: list[int], width: int) -> RichTable:
        from rich.table import Table as RichTable
        from rich.text import Text

        table, widths = RichTable(), self._widths()
        fits = 1 + sum(widths[i] for i in columns) <= width
        for i in columns:
            justify: Any = "left" if i == 0 else "right"
            # A column that is too wide even on its own is wrapped; the first tells which row it is.
            least = min(widths[i] - 3, width // 2) if i == 0 else None
            table.add_column(
                self.columns[i], justify=justify, no_wrap=fits or i == 0, min_width=least
            )
        for row in self.rows:
            table.add_row(*(Text(row[i]) for i in columns))
        return table

    def __str__(self) -> str:
        # rich only when something is drawn: fastmnist.runtime does without it.
        from rich.console import Console

        stream = io.StringIO()
        in_terminal = sys.stdout is not None and sys.stdout.isatty()
        Console(
            file=stream,
            width=shutil.get_terminal_size().columns if in_terminal else _FULL_WIDTH,
            color_system=None,
            force_terminal=False,
            force_jupyter=False,
        ).print(self)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def cells(tag: str, texts: list[str]) -> str:
            left, right = "text-align:left", "text-align:right"
            return "".join(
                f'<{tag} style="{left if i == 0 else right}">{html.escape(text)}</{tag}>'
                for i, text in enumerate(texts)
            )

        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        notes = "".join(f"<div><small>{html.escape(note)}</small></div>" for note in self.notes)
        return (
            f"<table><caption>{html.escape(self.title)}</caption>"
            f"<thead><tr>{cells('th', self.columns)}</tr></thead>"
            f"<tbody>{body}</tbody></table>{notes}"
        )

    def to_markdown(self) -> str:
        """Return the table as GitHub Markdown, notes below."""

        def line(texts: list[str]) -> str:
            return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"

        rule = ["---"] + ["---:"] * (len(self.columns) - 1)
        lines = [f"**{self.title}**", "", line(self.columns), line(rule), *map(line, self.rows)]
        if self.notes:
            lines += [part for note in self.notes for part in ("", note)]
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return title, columns, rows and notes as plain lists."""
        return {
            "title": self.title,
            "columns": self.columns,
            "rows": self.rows,
            "notes": self.notes,
        }


class Tabled(ABC):
    """What prints, and shows in notebooks, as its table."""

    @abstractmethod
    def table(self) -> Table:
        """Return the table that is printed."""

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def frame_of(rows: Iterable[Any], kind: type, index: str | None = None) -> Any:
    """Make a pandas DataFrame of dataclasses of one kind.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError(
            "to_frame needs pandas: pip install pandas, or the extra fastmnist[plot]"
        ) from None
    records = [row.as_record() if hasattr(row, "as_record") else asdict(row) for row in rows]
    columns = [*records[0]] if records else [field.name for field in fields(kind)]
    frame = pd.DataFrame(records, columns=columns)
    return frame if index is None else frame.set_index(index)
