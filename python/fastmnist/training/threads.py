"""How many of torch's threads train a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# Products of a step (parameters times rows) up to which a second thread gains nothing: it waits
# longer for its share than it computes, and many times longer where other processes compute too.
SMALL = 32_000_000


@contextmanager
def few_threads(model: nn.Module, rows: int, small: int = SMALL) -> Iterator[None]:
    """Use one torch thread meanwhile, if steps of `rows` rows are too small to share."""
    before = torch.get_num_threads()
    try:
        if rows * sum(p.numel() for p in model.parameters()) <= small:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def rows_of_a_step(data: Any, batch_size: int) -> int:
    """Return what a loader says of itself, else `batch_size`."""
    own = getattr(data, "batch_size", None)
    return own if isinstance(own, int) else batch_size
