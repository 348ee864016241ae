"""A number of threads for a while: torch's and ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fastmnist.runtime.cpu import num_threads, set_num_threads


@contextmanager
def threads_set(count: int | None) -> Iterator[None]:
    """Use so many threads meanwhile; both are afterwards as they were. None changes nothing."""
    if count is None:
        yield
        return
    of_torch, own = torch.get_num_threads(), num_threads()
    # Our number may follow torch's; then it must do so again.
    torch.set_num_threads(of_torch + 1)
    follows = num_threads() == of_torch + 1 != own
    try:
        torch.set_num_threads(count)
        set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(of_torch)
        set_num_threads(0 if follows else own)
