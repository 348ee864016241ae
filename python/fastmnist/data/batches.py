"""Turns whatever holds data into batches of one kind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)

from fastmnist.data.arguments import Arguments
from fastmnist.data.batch import Batch, BatchFn, is_array, make_batch
from fastmnist.data.bundle import Data, Split
from fastmnist.data.forms import form_of
from fastmnist.data.in_memory import in_memory
from fastmnist.pixels import PixelNormalization

__all__ = [
    "Batch",
    "BatchFn",
    "carried_pixels",
    "count_samples",
    "data_pixels",
    "iter_batches",
    "select_half",
]


def iter_batches(
    data: Any,
    *,
    split: str,
    batch_size: int,
    shuffle: bool = False,
    generator: torch.Generator | None = None,
    batch_fn: BatchFn | None = None,
    max_samples: int | None = None,
    pixels: PixelNormalization | None = None,
    raw: bool = False,
    model: Any = None,
    purpose: str = "",
    name: str = "data",
    beside: Any = None,
) -> Iterator[Batch]:
    """Go through `data` once, in batches.

    Parameters
    ----------
    data : Data, Split, DataLoader, Dataset, tuple, list, dict, tensor or array
        ``(x, y)`` of tensors or NumPy arrays; a tensor or ``(x,)`` has no target;
        ``({"name": x}, y)`` are keywords, ``((a, b), y)`` two arguments. Lists of batches, of
        samples and their kin are told apart by :mod:`fastmnist.data.forms`. A DataLoader, or
        another iterable that can't be indexed, gives batches.
    split : {"train", "test"}
        Which half of a bundle.
    batch_size : int
        Samples in a batch; a DataLoader keeps its own, and its own sampling; so do batches in a
        list.
    shuffle : bool
        Whether samples come in random order; of a list of batches, the batches.
    generator : torch.Generator, optional
        Where the order is drawn from; torch's global one otherwise.
    batch_fn : callable, optional
        Reads a batch: to ``(args, kwargs, target)`` or ``(inputs, target)``.
    max_samples : int, optional
        Stop there; the last batch is cut.
    pixels : PixelNormalization, optional
        What uint8 inputs stand for; otherwise as the bundle says, or 0…1.
    raw : bool
        Leave uint8 inputs as they are.
    model : nn.Module or callable, optional
        What the batches are for: its forward says how it takes several inputs.
    purpose : str
        What targets are needed for, such as "train"; "": for nothing, so there may be none.
    name : str
        What errors call `data`.
    beside : optional
        Tensors with a value for each row of data in memory; batches get those of their rows.

    Yields
    ------
    Batch
        Inputs: uint8 converted to float32, other floats to float32 too. Targets: integers of
        one dimension as int64, others as they are.

    Raises
    ------
    TypeError
        If `data` or a batch is nothing of the above, or `model` does not take its inputs.
    ValueError
        If `data` is empty, its arrays differ in length, it may be read in several ways, or targets
        are missing.

    Examples
    --------
    >>> x, y = torch.zeros(5, 3), torch.arange(5)
    >>> [batch.size for batch in iter_batches((x, y), split="train", batch_size=2)]
    [2, 2, 1]
    """
    for what, value in (("batch_size", batch_size), ("max_samples", max_samples)):
        if value is not None and value < 1:
            raise ValueError(f"{what}: expected at least 1, got {value}")
    data = select_half(data, split)
    carried = carried_pixels(data)
    wanted = None if raw else pixels or carried or PixelNormalization()
    memory = in_memory(data, name)
    pairs: deque[Any] = deque()
    if memory is not None:
        if beside is not None:
            memory = memory.joined(beside)
        source = memory.batches(batch_size, shuffle, generator, max_samples)
        if beside is not None:
            source = _apart(source, pairs)
        if batch_fn is not None and carried is not None and wanted is not None:
            # Items of a Split are floats, so that is what a batch_fn expects.
            source = ((wanted.to_float(x), y) for x, y in source)
    else:
        source = _loader(data, batch_size, shuffle, generator, name, batch_fn)
    arguments = Arguments(model, bool(purpose), batch_fn is not None, name)
    batches = _read(source, batch_fn, wanted, max_samples, arguments, purpose, name)
    if beside is None:
        return batches
    return (replace(batch, beside=pairs.popleft()) for batch in batches)


def _apart(source: Iterator[Any], pairs: deque[Any]) -> Iterator[Any]:
    """Give the first of each pair, and keep the second until its batch was read."""
    for raw_batch, beside in source:
        pairs.append(beside)
        yield raw_batch


def check_repeatable(data: Any, name: str, why: str) -> None:
    """Raise ValueError where `data` can be gone through only once, as a generator."""
    if isinstance(data, Iterator):
        raise ValueError(
            f"{name}: expected data that can be gone through more than once, {why}, got "
            f"{type(data).__name__}, which cannot: give list({name}), a DataLoader or a Dataset"
        )


def data_pixels(data: Any) -> PixelNormalization | None:
    """Tell what uint8 pixels of `data` stand for.

    Returns
    -------
    PixelNormalization or None
        That of a bundle or a half, also inside a Subset or a DataLoader; the identity for
        tensors and arrays of uint8; None for anything else, where it is not known.

    Examples
    --------
    >>> data_pixels(torch.zeros(2, 784, dtype=torch.uint8)).is_identity
    True
    """
    carried = carried_pixels(data)
    if carried is not None:
        return carried
    if isinstance(data, (DataLoader, Subset)):
        return data_pixels(data.dataset)
    if isinstance(data, TensorDataset):
        return data_pixels(data.tensors)
    if isinstance(data, (tuple, list)):
        return data_pixels(data[0]) if len(data) else None
    values = list(data.values()) if isinstance(data, Mapping) else [data]
    found = any(
        is_array(v) and str(getattr(v, "dtype", "")).split(".")[-1] == "uint8" for v in values
    )
    return PixelNormalization() if found else None


def carried_pixels(data: Any) -> PixelNormalization | None:
    """Give the normalization that `data` itself carries: a bundle's, or that of its halves."""
    if isinstance(data, (Data, Split)):
        return data.pixels
    if isinstance(data, (DataLoader, Subset)):
        return carried_pixels(data.dataset)
    if isinstance(data, ConcatDataset):
        found = {carried_pixels(part) for part in data.datasets}
        return found.pop() if len(found) == 1 else None
    return None


def count_samples(data: Any, split: str, name: str = "data") -> int | None:
    """Tell how many samples a pass through `data` gives; None if that can't be known before.

    Examples
    --------
    >>> count_samples(torch.zeros(5, 3), "test")
    5
    """
    data = select_half(data, split)
    memory = in_memory(data, name)
    if memory is not None:
        return memory.n
    try:
        if isinstance(data, (tuple, list)) and form_of(data, name) != "samples":
            return None
        if not isinstance(data, DataLoader):
            return len(data)
        if data.batch_size is None or isinstance(data.dataset, IterableDataset):
            return None
        n = len(data.sampler)  # type: ignore[arg-type]
        return n - n % data.batch_size if data.drop_last else n
    except TypeError:
        return None


def select_half(data: Any, split: str) -> Any:
    """Give the half of a bundle that `split` names; other data as it is.

    Raises
    ------
    ValueError
        If `split` is neither "train" nor "test".
    """
    if split not in ("train", "test"):
        raise ValueError(f'split: expected "train" or "test", got {split!r}')
    if not isinstance(data, Data):
        return data
    return data.train if split == "train" else data.test


def _loader(
    data: Any,
    batch_size: int,
    shuffle: bool,
    generator: torch.Generator | None,
    name: str,
    batch_fn: BatchFn | None,
) -> Iterator[Any]:
    if isinstance(data, DataLoader):
        return _collated(data, name)
    if isinstance(data, IterableDataset):
        return _collated(DataLoader(data, batch_size=batch_size), name)
    indexed = isinstance(data, (Dataset, Sequence)) or (
        hasattr(data, "__getitem__") and hasattr(data, "__len__")
    )
    if isinstance(data, (str, bytes, Mapping)) or not (indexed or isinstance(data, Iterable)):
        raise TypeError(
            f"{name}: expected a bundle of load_dataset, a DataLoader, a Dataset, (x, y), a list "
            f"of batches or a tensor, got {type(data).__name__}: give one of them"
        )
    if not indexed:
        return iter(data)
    if not len(data):  # before DataLoader, whose error for an empty one speaks of num_samples
        return iter(())
    if isinstance(data, (tuple, list)):
        form = form_of(data, name)
        if form == "batches" or (form == "foreign" and batch_fn is not None):
            order = torch.randperm(len(data), generator=generator) if shuffle else range(len(data))
            return (data[int(i)] for i in order)
    return _collated(DataLoader(data, batch_size, shuffle=shuffle, generator=generator), name)


def _collated(loader: DataLoader[Any], name: str) -> Iterator[Any]:
    try:
        yield from loader
    except RuntimeError as error:
        if "stack expects" not in str(error):
            raise
        raise ValueError(
            f"{name}: expected samples of one shape, got others ({error}): pass a DataLoader with "
            "a collate_fn that pads them, or DataLoader(data, batch_size=None) if they are batches"
        ) from error
    except TypeError as error:
        if "collate" not in str(error):
            raise
        raise TypeError(
            f"{name}: expected samples of tensors, arrays or numbers, got others ({error}): give "
            "its Dataset a transform to tensors (ToTensor), pass a DataLoader with a collate_fn, "
            "or batch_fn=, which reads the batches of a list"
        ) from error


def _read(
    source: Iterator[Any],
    batch_fn: BatchFn | None,
    pixels: PixelNormalization | None,
    max_samples: int | None,
    arguments: Arguments,
    purpose: str,
    name: str,
) -> Iterator[Batch]:
    done = 0
    for raw_batch in source:
        left = None if max_samples is None else max_samples - done
        batch = make_batch(raw_batch, batch_fn, pixels, left)
        if not batch.size:
            continue
        if purpose and batch.target is None:
            raise ValueError(
                f"{name}: expected targets to {purpose} with, such as (x, y), got none: the last "
                "item of a batch is its target, a dict or a lone tensor has none; give batch_fn=, "
                "a function from a batch to (inputs, target)"
            )
        batch = arguments.fit(batch)
        done += batch.size
        yield batch
        if done == max_samples:
            return
    if not done:
        raise ValueError(
            f"{name}: expected samples, got none (an iterator can be gone through only once)"
        )
