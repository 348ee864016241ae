"""One progress bar for everything that may take longer than a second."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_DELAY = 0.5  # seconds before anything is shown: what is over by then needs no bar
_INTERVAL = 0.1  # seconds between updates: advancing must cost nothing beside the work


class ProgressBar:
    """A context manager that draws a bar on stderr once the work has lasted a while.

    A bar within another draws nothing: two would write over each other.

    Parameters
    ----------
    description : str
        What is being done, in a few words.
    total : int or None
        How much there is to do; None draws a bar without an end.
    show : bool or None
        None shows it in a terminal or a notebook and stays quiet elsewhere.
    size : bool
        Whether the numbers are bytes.

    Examples
    --------
    >>> with ProgressBar("counting", total=3) as bar:
    ...     for _ in range(3):
    ...         bar.advance(1)
    """

    _outermost: ProgressBar | None = None

    def __init__(
        self, description: str, total: int | None, *, show: bool | None = None, size: bool = False
    ) -> None:
        self.description = description
        self.total = total
        self._show = can_show() if show is None else show
        self._size = size
        self._done = 0
        self._next = 0.0
        self._text: Callable[[], str] = str
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressBar:
        if self._show and ProgressBar._outermost is not None:
            self._show = False
        if self._show:
            ProgressBar._outermost = self
            self._next = time.monotonic() + _DELAY
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if ProgressBar._outermost is self:
            ProgressBar._outermost = None
        if self._progress is not None:
            self._draw()
            self._progress.refresh()  # in a notebook stop() leaves the bar as it last was
            self._progress.stop()
            self._progress = None

    def advance(self, amount: int, text: Callable[[], str] | None = None) -> None:
        """Count `amount` more as done; `text` gives what stands right of the bar, if drawn."""
        self._done += amount
        if text is not None:
            self._text = text
        if self._show and time.monotonic() >= self._next:
            self._draw()
            self._next = time.monotonic() + _INTERVAL

    def _draw(self) -> None:
        if self._progress is None or self._task is None:
            self._progress = self._start()
            self._task = self._progress.add_task(self.description, total=self.total, text="")
        self._progress.update(
            self._task, completed=self._done, description=self.description, text=self._text()
        )

    def _start(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn() if self._size else TaskProgressColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(stderr=True),
        )
        progress.start()
        return progress


def can_show() -> bool:
    """Tell whether a bar would be seen as one: in a terminal, or in a notebook with widgets."""
    try:
        if sys.stderr.isatty():
            return True
    except (AttributeError, ValueError):  # no stderr (pythonw), or a closed one
        return False
    # ZMQInteractiveShell is the shell of notebooks; rich needs widgets to redraw a bar there.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    notebook = type(shell).__name__ == "ZMQInteractiveShell"
    return notebook and importlib.util.find_spec("ipywidgets") is not None
