"""Rows that are kept apart: what candidates are judged by, and never trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from fastmnist.data.batch import BatchFn, tree_map
from fastmnist.data.batches import check_repeatable, select_half
from fastmnist.data.bundle import Data, Split
from fastmnist.data.in_memory import in_memory

_LEAST = 8  # rows, of either part
_MOST_BATCHES = 100_000


def held_out(data: Any, batch_fn: BatchFn | None, *, share: float, seed: int) -> tuple[Any, Any]:
    """Give rows to train on and rows to judge by: for a bundle, its halves, else a part of each.

    Raises
    ------
    ValueError
        If the data can be read only once, or has too few rows.
    """
    if isinstance(data, Data):
        return data, data
    return split_rows(data, share=share, seed=seed)


def split_rows(data: Any, *, share: float, seed: int, most: int | None = None) -> tuple[Any, Any]:
    """Part rows (for a bundle, its training half) at random into those to train on and others.

    Parameters
    ----------
    share : float
        Of the rows, that are kept apart.
    most : int, optional
        No more rows than these are kept apart.

    Raises
    ------
    ValueError
        If the data can be read only once, or has too few rows.

    Examples
    --------
    >>> x, y = torch.zeros(100, 3), torch.zeros(100, dtype=torch.int64)
    >>> fit, apart = split_rows((x, y), share=0.2, seed=0)
    >>> len(fit[0]), len(apart[0])
    (80, 20)
    """
    check_repeatable(data, "data", "to keep rows apart from it")
    rows = select_half(data, "train")
    memory = in_memory(rows, "data")
    order = torch.Generator().manual_seed(seed)
    if memory is not None:
        fit, apart = _parted(memory.n, share, most, order)
        if memory.index is not None:
            fit, apart = memory.index[fit], memory.index[apart]
        if isinstance(_base(rows), Split):
            return _base(rows).at(fit), _base(rows).at(apart)
        return _taken(memory.tree, fit), _taken(memory.tree, apart)
    if hasattr(rows, "__getitem__") and hasattr(rows, "__len__") and not isinstance(rows, list):
        fit, apart = _parted(len(rows), share, most, order)
        return Subset(rows, fit.tolist()), Subset(rows, apart.tolist())
    batches = [*rows]
    if not 2 <= len(batches) <= _MOST_BATCHES:
        raise ValueError(
            f"data: expected from 2 to {_MOST_BATCHES:,} batches, of which some are kept apart, "
            f"got {len(batches):,}"
        )
    count = max(1, round(share * len(batches)))
    order_of = torch.randperm(len(batches), generator=order).tolist()
    return [batches[i] for i in order_of[count:]], [batches[i] for i in order_of[:count]]


def _parted(
    n: int, share: float, most: int | None, order: torch.Generator
) -> tuple[Tensor, Tensor]:
    count = max(_LEAST, round(share * n))
    count = count if most is None else min(count, most)
    if n - count < _LEAST:
        raise ValueError(
            f"data: expected at least {2 * _LEAST} rows, of which some are kept apart, got {n}"
        )
    shuffled = torch.randperm(n, generator=order)
    return shuffled[count:].sort().values, shuffled[:count].sort().values


def _base(rows: Any) -> Any:
    while type(rows) is Subset:
        rows = rows.dataset
    return rows


def _taken(tree: Any, index: Tensor) -> Any:
    return tree_map(lambda t: t.index_select(0, index.to(t.device)), tree)
