"""How one batch is read: which part is the target, which the model's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fastmnist.pixels import PixelNormalization

BatchFn: TypeAlias = Callable[[Any], tuple[Any, ...]]

_TO_FLOAT32 = frozenset({torch.float64, torch.float16, torch.bfloat16})
_TO_INT64 = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32})


@dataclass(frozen=True)
class Batch:
    """One batch: ``model(*args, **kwargs)`` is to give `target`.

    Parameters
    ----------
    args : tuple
        Positional arguments of the model.
    kwargs : dict
        Keyword arguments of the model.
    target : torch.Tensor or None
        What the last item of the batch was; None if it had inputs only.
    size : int
        Number of samples.
    pixels : torch.Tensor or None
        The first positional argument as it was, if that was uint8.
    beside : Any
        Tensors of other values of these rows, which are for no model.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    target: Tensor | None
    size: int
    pixels: Tensor | None = None
    beside: Any = None

    def to(self, device: torch.device | str) -> Batch:
        """Give the same batch with its tensors on `device`."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Batch(
            tree_map(move, self.args),
            tree_map(move, self.kwargs),
            tree_map(move, self.target),
            self.size,
            self.pixels,
            tree_map(move, self.beside),
        )


def make_batch(
    batch: Any, batch_fn: BatchFn | None, pixels: PixelNormalization | None, limit: int | None
) -> Batch:
    """Read a batch by the rules of this project.

    The last item is the target, the rest are positional arguments; a dict is keywords; a lone
    tensor or a list of one has no target. uint8 inputs are pixels, floats become float32,
    integer targets of one dimension int64.

    Parameters
    ----------
    batch : Any
        What a DataLoader gives.
    batch_fn : callable or None
        Reads the batch instead: to ``(args, kwargs, target)`` or ``(inputs, target)``.
    pixels : PixelNormalization or None
        What uint8 inputs stand for; None leaves them as they are.
    limit : int or None
        Keep no more than so many samples.

    Raises
    ------
    TypeError
        If it can't be read so.
    """
    args, kwargs, target = _split(batch) if batch_fn is None else _by_function(batch, batch_fn)
    given = as_tensor(args[0]) if args and is_array(args[0]) else None
    raw = given if given is not None and given.dtype == torch.uint8 else None
    args = tuple(as_input(value, pixels) for value in args)
    kwargs = {str(name): as_input(value, pixels) for name, value in kwargs.items()}
    target = _target(target)
    size = _size(args, kwargs, target)
    if limit is not None and size > limit:

        def cut(tensor: Tensor) -> Tensor:
            return tensor[:limit] if tensor.ndim and len(tensor) == size else tensor

        args, kwargs, target, raw = tree_map(cut, (args, kwargs, target, raw))
        size = limit
    return Batch(args, kwargs, target, size, raw)


def is_array(value: Any) -> bool:
    """Tell whether `value` is a tensor, a NumPy array or a table of pandas and the like."""
    return isinstance(value, (Tensor, np.ndarray)) or hasattr(value, "to_numpy")


def is_numbers(value: Any) -> bool:
    """Tell whether `value` is a list of numbers, such as labels."""
    listed = isinstance(value, (list, range)) and len(value) > 0
    return listed and all(isinstance(number, (int, float)) for number in value)


def as_tensor(value: Any) -> Tensor:
    """Give an array of any library as a tensor, sharing memory where that is safe.

    Raises
    ------
    TypeError
        If it holds something else than numbers.
    """
    if isinstance(value, Tensor):
        return value
    array = value.to_numpy() if hasattr(value, "to_numpy") else np.asarray(value)
    # torch takes neither foreign byte orders nor negative strides, and warns of read-only memory.
    array = np.require(array, dtype=array.dtype.newbyteorder("="), requirements=["C", "W"])
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise TypeError(f"arrays: expected numbers, got dtype {array.dtype}: {error}") from None


def tree_map(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply `function` to every tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(tree_map(function, item) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(tree_map(function, item) for item in value)
    if isinstance(value, Mapping):
        return {name: tree_map(function, item) for name, item in value.items()}
    return value


def _split(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    if is_array(batch):
        return (batch,), {}, None
    if isinstance(batch, Mapping):
        return (), dict(batch), None
    if not isinstance(batch, (tuple, list)) or not batch:
        got = "an empty one" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise TypeError(
            f"batch: expected a tensor, a dict, or a tuple or list of them, got {got}: give "
            "batch_fn=, a function from a batch to (inputs, target)"
        )
    inputs, target = (batch, None) if len(batch) == 1 else (batch[:-1], batch[-1])
    return (*_arguments(inputs), target)


def _by_function(batch: Any, batch_fn: BatchFn) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    result = batch_fn(batch)
    if isinstance(result, (tuple, list)) and len(result) == 2:
        inputs = result[0] if isinstance(result[0], (tuple, list)) else (result[0],)
        return (*_arguments(inputs), result[1])
    if isinstance(result, (tuple, list)) and len(result) == 3:
        args, kwargs, target = result
        if isinstance(kwargs, Mapping) or kwargs is None:
            args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
            return args, dict(kwargs or {}), target
    got = type(result).__name__
    if isinstance(result, (tuple, list)):
        got += " of " + ", ".join(type(item).__name__ for item in result)
    raise TypeError(
        "batch_fn: expected (inputs, target) or (args, kwargs as a dict, target) from it, got "
        f"{got}"
    )


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Part what comes before the target into positional arguments and keywords."""
    args = tuple(item for item in inputs if not isinstance(item, Mapping))
    kwargs = {k: v for item in inputs if isinstance(item, Mapping) for k, v in item.items()}
    return args, kwargs


def as_input(value: Any, pixels: PixelNormalization | None) -> Any:
    """An argument as models take it: floats in float32, uint8 as what its pixels stand for."""
    if is_array(value):
        tensor = as_tensor(value)
        if tensor.dtype in _TO_FLOAT32:
            return tensor.to(torch.float32)
        if tensor.dtype == torch.uint8 and pixels is not None:
            return pixels.to_float(tensor)
        return tensor
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return type(value)(as_input(item, pixels) for item in value)
    if isinstance(value, Mapping):
        return {name: as_input(item, pixels) for name, item in value.items()}
    return value


def _target(value: Any) -> Any:
    if is_array(value):
        value = as_tensor(value)
    elif isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value):
        value = torch.as_tensor(value)
    if isinstance(value, (int, float)) or (isinstance(value, Tensor) and not value.ndim):
        raise ValueError(
            f"target: expected one for each row of the batch, got {value!r}, as one sample has: "
            "give a list of samples, or DataLoader(samples, batch_size=32)"
        )
    if isinstance(value, Tensor) and value.ndim == 1 and value.dtype in _TO_INT64:
        return value.to(torch.int64)
    return value


def _size(args: Any, kwargs: Any, target: Any) -> int:
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        if tensor.ndim:
            sizes.append(len(tensor))
        return tensor

    tree_map(note, (args, kwargs, target))
    if not sizes:
        raise TypeError("batch: expected at least one tensor with a batch dimension, got none")
    return sizes[0]
