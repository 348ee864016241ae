"""How far a benchmark is: a bar over all its steps, or a line per step where none can be drawn."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from fastmnist.display.progress import ProgressBar, can_show


class Steps:
    """A context manager around the steps of a benchmark; speaks on stderr.

    Parameters
    ----------
    total : int
        How many steps there will be.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = self._ended = 0
        self._draws = can_show()
        self._bar = ProgressBar("", total)

    def __enter__(self) -> Steps:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.advance(self._ended)
        self._bar.__exit__(kind, error, trace)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Do one of them."""
        # The bar draws at most so often: the last step's end together with this one's name.
        self._bar.description = what
        self._bar.advance(self._ended)
        self._ended = 0
        start = time.perf_counter()
        yield
        self._done += 1
        self._ended = 1
        if not self._draws:
            seconds = time.perf_counter() - start
            line = f"[{self._done}/{self._total}] {what}: {seconds:.1f} s"
            print(line, file=sys.stderr, flush=True)
