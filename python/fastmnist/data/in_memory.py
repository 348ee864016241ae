"""Data whose tensors are all in memory: batches are cut out of them, with no Python per item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from fastmnist.data.batch import as_tensor, is_array, is_numbers, tree_map
from fastmnist.data.bundle import Split
from fastmnist.data.forms import form_of


@dataclass(frozen=True)
class Memory:
    """Tensors nested as a batch is, of `n` samples each; `index` picks some of their rows."""

    tree: Any
    n: int
    index: Tensor | None = None

    def joined(self, beside: Any) -> Memory:
        """The same rows, each in a pair with its own of `beside`."""
        if self.index is None:
            return Memory((self.tree, beside), self.n)
        index = self.index
        chosen = tree_map(lambda t: t.index_select(0, index.to(t.device)), self.tree)
        return Memory((chosen, beside), self.n)

    def batches(
        self, size: int, shuffle: bool, generator: torch.Generator | None, limit: int | None
    ) -> Iterator[Any]:
        """Yield batches of up to `size` rows, nested as the tree is, `limit` rows in all."""
        order = self.index
        if shuffle:
            shuffled = torch.randperm(self.n, generator=generator)
            order = shuffled if order is None else order[shuffled]
        n = self.n if limit is None else min(self.n, limit)
        for start in range(0, n, size):
            stop = min(start + size, n)
            if order is None:
                yield tree_map(lambda t, a=start, b=stop: _part(t, a, b), self.tree)  # type: ignore[misc]
            else:
                chosen = order[start:stop]
                yield tree_map(
                    lambda t, c=chosen: t.index_select(0, c.to(t.device)),  # type: ignore[misc]
                    self.tree,
                )


def _part(tensor: Tensor, start: int, stop: int) -> Tensor:
    # A copy of floats: a model that begins with an in-place module would change the data.
    part = tensor[start:stop]
    return part.clone() if part.dtype == torch.float32 else part


def in_memory(data: Any, name: str) -> Memory | None:
    """Find the tensors that hold all of `data`; None where it has to be asked item by item.

    Raises
    ------
    ValueError
        If they differ in length, or have no batch dimension.
    """
    if type(data) is Subset:
        inner = in_memory(data.dataset, name) if not is_array(data.dataset) else None
        if inner is None:
            return None
        index = torch.as_tensor(data.indices, dtype=torch.int64)
        return Memory(inner.tree, len(index), index if inner.index is None else inner.index[index])
    if type(data) is Split:
        return Memory((data.images, data.labels), len(data))
    tree: Any
    if type(data) is TensorDataset:
        tree = data.tensors
    elif is_array(data):
        tree = as_tensor(data)
    elif isinstance(data, Mapping) and data and all(map(is_array, data.values())):
        tree = {key: as_tensor(value) for key, value in data.items()}
    elif isinstance(data, (tuple, list)) and form_of(data, name) == "one set":
        tree = tuple(map(_tensors, data))
    else:
        return None
    return Memory(tree, _rows(tree, name))


def _tensors(part: Any) -> Any:
    """Arrays and lists of labels, nested or not, as tensors."""
    if is_array(part):
        return as_tensor(part)
    if is_numbers(part):
        return torch.as_tensor([*part])
    if isinstance(part, Mapping):
        return {key: as_tensor(value) for key, value in part.items()}
    return None if part is None else tuple(map(as_tensor, part))


def _rows(tree: Any, name: str) -> int:
    shapes: list[tuple[int, ...]] = []

    def note(tensor: Tensor) -> Tensor:
        shapes.append(tuple(tensor.shape))
        return tensor

    tree_map(note, tree)
    if any(not shape for shape in shapes):
        raise ValueError(
            f"{name}: expected a batch dimension, got shapes {shapes}: give rows, x[None]"
        )
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(
            f"{name}: expected the same number of rows in all its arrays, got shapes "
            + " and ".join(map(str, shapes))
            + ": give as many, or a list if these are batches"
        )
    return shapes[0][0]
