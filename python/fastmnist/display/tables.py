"""One table class for terminals, notebooks and Markdown."""

from __future__ import annotations

import html
import io
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table as RichTable

# Wide enough for any table, for logs and files; narrower for tables with parts, which read better
# one below the other than in very long lines.
_FULL_WIDTH = 400
_WIDTH_OF_PARTS = 120
_ROOM = 40
_FRAMED, _LEAN = 3, 2  # what a column takes beside its text


@dataclass(frozen=True)
class Part:
    """Columns that are drawn together where not all fit.

    Attributes
    ----------
    title : str
        Above them.
    columns : tuple of int
        Without the first, which leads each part. One may be in several parts.
    short : tuple of str
        What they are called here, where the title says the rest.
    """

    title: str
    columns: tuple[int, ...]
    short: tuple[str, ...]


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
        self.parts: list[Part] = []

    def row(self, *cells: str) -> None:
        """Add a row: one text per column."""
        if len(cells) != len(self.columns):
            raise ValueError(f"cells: expected {len(self.columns)}, got {len(cells)}")
        self.rows.append([*cells])

    def part(self, title: str, columns: dict[str, str]) -> None:
        """Say which columns belong together, by name, and what they are called in this part."""
        places = tuple(self.columns.index(name) for name in columns)
        self.parts.append(Part(title, places, tuple(columns.values())))

    def note(self, text: str) -> None:
        """Add a line below the table."""
        self.notes.append(text)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Draw within the width that there is: in several tables where one does not fit."""
        from rich.text import Text

        yield Text(self.title, style="italic")
        width = options.max_width
        if self.parts and width >= _FULL_WIDTH:
            width = _WIDTH_OF_PARTS  # of tables; sentences stay lines
        if not self.rows:
            pass  # the title has said so
        elif self.parts and 1 + sum(self._widths()) > width:
            drawn: set[int] = set()
            for part in self._joined_parts(width):
                # Rows that tell nothing new in this part are left out.
                new = {*part.columns} - drawn or {*part.columns}
                rows = [row for row in self.rows if any(row[i] for i in new)]
                drawn |= new
                yield Text(f"\n{part.title}", style="bold")
                names = dict(zip(part.columns, part.short, strict=True))
                for columns in self._groups(width, [0, *part.columns], names):
                    yield self._drawn(columns, width, rows, names)
        else:
            for columns in self._groups(width, range(len(self.columns))):
                yield self._drawn(columns, width, self.rows)
        for note in self.notes:
            yield Text(note, style="dim italic")

    def _widths(self, names: dict[int, str] | None = None, frame: int = _FRAMED) -> list[int]:
        """Of each column with its frame."""
        from rich.cells import cell_len

        heads = [(names or {}).get(i, column) for i, column in enumerate(self.columns)]
        cells = [[head, *(row[i] for row in self.rows)] for i, head in enumerate(heads)]
        return [max(cell_len(text) for text in column) + frame for column in cells]

    def _joined_parts(self, width: int) -> list[Part]:
        """The parts, those that fit beside the one before joined with it under whole names."""
        joined: list[Part] = []
        for part in self.parts:
            if joined:
                places = tuple(sorted({*joined[-1].columns, *part.columns}))
                names = tuple(self.columns[i] for i in places)
                widths = self._widths(None, _LEAN)
                if widths[0] + sum(widths[i] for i in places) - _LEAN <= width:
                    joined[-1] = Part(f"{joined[-1].title}, {part.title}", places, names)
                    continue
            joined.append(part)
        return joined

    def _groups(
        self, width: int, columns: Sequence[int], names: dict[int, str] | None = None
    ) -> list[list[int]]:
        """Columns that fit beside each other, the first one leading each group."""
        widths = self._widths(names, _FRAMED if names is None else _LEAN)
        edges = 1 if names is None else -_LEAN
        groups: list[list[int]] = [[0]]
        for i in columns[1:]:
            used = edges + sum(widths[k] for k in groups[-1])
            # A wide text may wrap beside the others, where there is room to read it.
            wraps = names is not None and width - used >= _ROOM < widths[i]
            if used + widths[i] > width and len(groups[-1]) > 1 and not wraps:
                groups.append([0])
            groups[-1].append(i)
        return groups

    def _drawn(
        self,
        columns: list[int],
        width: int,
        rows: list[list[str]],
        names: dict[int, str] | None = None,
    ) -> RichTable:
        """With a frame; without one and with other names of columns where it is one of parts."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        if names is None:
            table, widths = RichTable(), self._widths()
        else:
            table = RichTable(
                box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True
            )
            widths = self._widths(names, _LEAN)
        frame = _FRAMED if names is None else _LEAN
        fits = (1 if names is None else -_LEAN) + sum(widths[i] for i in columns) <= width
        for i in columns:
            justify: Any = "left" if i == 0 else "right"
            # A column that is too wide even on its own is wrapped; the first tells which row it is.
            least = min(widths[i] - frame, width // 2) if i == 0 else None
            head = (names or {}).get(i, self.columns[i])
            table.add_column(head, justify=justify, no_wrap=fits or i == 0, min_width=least)
        for row in rows:
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
            # No value breaks inside; what is too wide is scrolled.
            left, right = (f"text-align:{side};white-space:nowrap" for side in ("left", "right"))
            return "".join(
                f'<{tag} style="{left if i == 0 else right}">{html.escape(text)}</{tag}>'
                for i, text in enumerate(texts)
            )

        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        notes = "".join(f"<div><small>{html.escape(note)}</small></div>" for note in self.notes)
        return (
            '<div style="overflow-x:auto"><table>'
            '<caption style="white-space:nowrap;text-align:left">'
            f"{html.escape(self.title)}</caption>"
            f"<thead><tr>{cells('th', self.columns)}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>{notes}"
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


def pandas() -> Any:
    """Give the module pandas, which is imported when the first frame is made.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import pandas as found
    except ImportError:
        raise ImportError(
            "to_frame needs pandas: pip install pandas, or the extra fastmnist[plot]"
        ) from None
    return found


def frame_of(rows: Iterable[Any], kind: type, index: str | None = None) -> Any:
    """Make a pandas DataFrame of dataclasses of one kind.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    records = [row.as_record() if hasattr(row, "as_record") else asdict(row) for row in rows]
    columns = [*records[0]] if records else [field.name for field in fields(kind)]
    frame = pandas().DataFrame(records, columns=columns)
    return frame if index is None else frame.set_index(index)
