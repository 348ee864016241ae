"""One table class for terminals, notebooks and Markdown."""

from __future__ import annotations

import html
import io
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text


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

    def __rich__(self) -> RichTable:
        table = RichTable(
            title=Text(self.title),
            title_justify="left",
            caption=Text("\n".join(self.notes)) if self.notes else None,
            caption_justify="left",
        )
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in row))
        return table

    def __str__(self) -> str:
        # As wide as it needs: a printed table is read in logs and files as well.
        stream = io.StringIO()
        Console(
            file=stream, width=240, color_system=None, force_terminal=False, force_jupyter=False
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
            lines += [""] + [f"{note}  " for note in self.notes]
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return title, columns, rows and notes as plain lists."""
        return {
            "title": self.title,
            "columns": self.columns,
            "rows": self.rows,
            "notes": self.notes,
        }
