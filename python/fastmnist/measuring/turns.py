"""Calls of models on rows of some data, at several batch sizes, timed in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from fastmnist.data.batch import Batch, tree_map
from fastmnist.measuring.timing import Call, Timing, time_interleaved

BATCHES = (1, 32)
_CALLS_OF_TURN = 32  # with one row; fewer the more there are


def checked_integer(name: str, value: Any) -> int:
    """Raise ValueError unless it is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")
    return value


def batch_sizes(batches: Any, largest: int, rows: int) -> list[int]:
    """The batch sizes that are timed: those wanted, none larger than the data.

    Raises
    ------
    TypeError, ValueError
        If they are no positive integers.

    Examples
    --------
    >>> batch_sizes(None, 1024, 360), batch_sizes((64, 1, 64), 1024, 360)
    ([1, 32, 360], [1, 64])
    """
    checked_integer("batch_size", largest)
    if batches is None:
        wanted = [*(n for n in BATCHES if n < largest), largest]
    else:
        if isinstance(batches, str | bytes) or not isinstance(batches, Sequence):
            raise TypeError(
                f"batches: expected batch sizes such as (1, 32), got {type(batches).__name__}"
            )
        wanted = [checked_integer("batches", n) for n in batches]
        if not wanted:
            raise ValueError("batches: expected at least one batch size, got none")
    return sorted({min(n, rows) for n in wanted})


def slice_of(batch: Batch, start: int, stop: int) -> Batch:
    """Some rows of a batch, as memory of their own."""

    def part(value: Tensor) -> Tensor:
        return value[start:stop].contiguous()

    args = tuple(tree_map(part, a) for a in batch.args)
    kwargs = {k: tree_map(part, v) for k, v in batch.kwargs.items()}
    target = batch.target[start:stop] if batch.target is not None else None
    return Batch(args, kwargs, target, stop - start)


def time_batches(
    models: Sequence[Any],
    sources: Sequence[Batch],
    batches: Sequence[int],
    rounds: int,
    seconds: float,
) -> list[list[Timing]]:
    """Time all models at each batch size, each on its own form of the rows.

    Parameters
    ----------
    seconds : float
        For all batch sizes together: what one leaves is there for the next ones.
    """
    end = time.perf_counter() + seconds
    found = []
    for i, batch in enumerate(batches):
        count = max(2, min(_CALLS_OF_TURN, _CALLS_OF_TURN * 8 // batch))
        left = (end - time.perf_counter()) / (len(batches) - i)
        found.append(
            time_interleaved(
                [calls_on(m, s, batch, count) for m, s in zip(models, sources, strict=True)],
                rounds=rounds,
                calls_per_round=count,
                what=f"batch {batch:,}",
                seconds=max(left, 0.0),
            )
        )
    return found


def calls_on(model: Any, rows: Batch, size: int, count: int) -> list[Call]:
    """Calls on different rows of the given batch size."""
    last = max(rows.size - size, 0)
    starts = np.linspace(0, last, min(count, last + 1)).astype(int)
    batches = [slice_of(rows, int(s), int(s) + size) for s in starts]
    if len(rows.args) == 1 and not rows.kwargs:
        return [partial(model, batch.args[0]) for batch in batches]
    return [partial(model, *batch.args, **batch.kwargs) for batch in batches]
