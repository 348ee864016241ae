"""What a tuple or a list is: one data set, batches, or samples.

The rule goes by type and shape, in this order:

=============================================  ====================================================
what                                           read as
=============================================  ====================================================
a tuple whose last item is an array            one data set: the last is the target, the others are
                                               arguments, ``((a, b), y)`` and ``({"name": a}, y)``
                                               too; alone, or with None at the end, no target
a tuple of three or more arrays that differ    batches without targets
in length and in nothing else
a list of arrays of different types or         one data set, as a DataLoader's own batches are
numbers of dimensions: ``[x, y]``
a list of arrays of one type and number of     batches without targets; of one dimension: rows
dimensions: ``[x, x, x]``
a list or tuple of tuples, lists or dicts      batches where all arrays of an item have as many
                                               rows, and one has two dimensions or more; samples
                                               where a part is a number, or lengths differ
=============================================  ====================================================

What may be either is refused: ``DataLoader(data, batch_size=None)`` says "batches",
``DataLoader(data, batch_size=32)`` "samples", and ``batch_fn=`` reads batches of any other form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from fastmnist.data.batch import as_tensor, is_array, is_numbers

Form = Literal["one set", "batches", "samples", "foreign"]

_LOOKED_AT = 32  # items of a long list, and its last: a last batch is smaller


class Part(NamedTuple):
    """An array or number inside an item."""

    shape: tuple[int, ...]
    is_float: bool

    @property
    def kind(self) -> tuple[int, bool]:
        """What is the same in each batch: number of dimensions and type."""
        return len(self.shape), self.is_float


def form_of(data: Sequence[Any], name: str) -> Form:
    """Tell what a list or tuple is, by the rule above; "foreign": of other things than numbers.

    Raises
    ------
    TypeError
        If inputs are lists of numbers.
    ValueError
        If it may be one or the other, named as `name`.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.zeros(32, 20), torch.zeros(32, dtype=torch.int64)
    >>> form_of((x, y), "data"), form_of([x, x, x], "data"), form_of([(x, y), (x, y)], "data")
    ('one set', 'batches', 'batches')
    >>> form_of([(x[0], 3), (x[1], 5)], "data")
    'samples'
    """
    items = list(data) if len(data) <= _LOOKED_AT else [*data[:_LOOKED_AT], data[-1]]
    if not items:
        return "samples"
    if any(map(_holds_plain_inputs, items)) and not _is_set(data):
        raise TypeError(
            f"{name}: expected tensors or arrays, got lists of numbers, which DataLoader would "
            "collate column by column: give torch.tensor(…) of them"
        )
    if all(map(is_array, items)):
        parts = [_part(item) for item in items]
        return _of_tuple(parts) if isinstance(data, tuple) else _of_list(parts, name)
    if _is_set(data):
        return "one set"
    if all(isinstance(item, (tuple, list, Mapping)) for item in items):
        return _of_items(items, name)
    found = [_parts_of(item) for item in items]
    if any(parts is None for parts in found):
        return "foreign"
    if any(map(_holds_arrays, items)):
        raise _unclear(name, "arrays beside " + ", ".join(type(i).__name__ for i in items[:3]))
    return "samples"


def _is_set(data: Sequence[Any]) -> bool:
    """Whether the last item is a target, and those before are arrays or hold some."""
    *inputs, last = data if len(data) > 1 else (*data, None)
    if isinstance(data, list) and (len(data) != 2 or last is None):
        return False
    ends = last is None or is_array(last) or is_numbers(last)
    return ends and all(map(_holds_arrays, inputs))


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(map(is_array, value.values()))
    if isinstance(value, (tuple, list)):
        return bool(value) and all(map(is_array, value))
    return is_array(value)


def _holds_plain_inputs(item: Any) -> bool:
    """Whether an input is a list of numbers; a list at the end is one of labels."""
    if isinstance(item, Mapping):
        return any(map(is_numbers, item.values()))
    if not isinstance(item, (tuple, list)) or not item:
        return False
    inputs = item[:-1] if len(item) > 1 else item
    return is_numbers(item) or any(map(_holds_plain_inputs, inputs))


def _of_tuple(parts: list[Part]) -> Form:
    lengths = {part.shape[:1] for part in parts}
    alike = len({(part.kind, part.shape[1:]) for part in parts}) == 1
    if len(lengths) > 1 and alike and len(parts) > 2 and len(parts[0].shape) > 1:
        return "batches"
    return "one set"


def _of_list(parts: list[Part], name: str) -> Form:
    kinds = {part.kind for part in parts}
    if len(kinds) > 1:
        return "one set"
    ((dimensions, is_float),) = kinds
    if dimensions == 0:
        return "samples"
    lengths, rests = ({p.shape[:1] for p in parts}, {p.shape[1:] for p in parts})
    if dimensions == 1:
        if len(parts) == 2 or len(lengths) > 1:
            raise _unclear(name, f"a list of {len(parts)} arrays of one dimension")
        return "samples"
    if len(rests) == 1 or (len(lengths) > 1 and not (dimensions == 2 and is_float)):
        return "batches"
    if dimensions == 2 and is_float:
        return "one set"  # columns of a model are as many in every batch
    raise _unclear(name, f"a list of arrays of shapes {_shapes(parts)}")


def _of_items(items: list[Any], name: str) -> Form:
    known: list[list[Part]] = []
    for item in items:
        parts = _parts_of(item)
        if parts is None:
            return "foreign"
        known.append(parts)
    if not all(known):
        return "samples"
    pairs = zip(known, items, strict=True)
    looks = {_look(parts, isinstance(item, Mapping)) for parts, item in pairs}
    if looks == {"sample"}:
        return "samples"
    if looks != {"batch"} or len({tuple(part.kind for part in parts) for parts in known}) > 1:
        raise _unclear(name, f"items with arrays of shapes {_shapes(known[0])}")
    return "batches"


def _look(parts: list[Part], is_dict: bool) -> str:
    if any(not part.shape for part in parts) or len({part.shape[0] for part in parts}) > 1:
        return "sample"
    if any(len(part.shape) > 1 for part in parts):
        return "batch"
    # Rows of a network's inputs are floats; integers may be words of one row, or of a batch.
    return "sample" if is_dict or len(parts) == 1 or parts[0].is_float else "unclear"


def _parts_of(item: Any) -> list[Part] | None:
    """Give the arrays and numbers in an item; None where it holds something else."""
    if item is None:
        return []
    if is_array(item) or is_numbers(item):
        return [_part(item)]
    if isinstance(item, (bool, int, float, str)) or hasattr(item, "__float__"):
        return [Part((), False)]
    if isinstance(item, Mapping):
        item = [*item.values()]
    if not isinstance(item, (tuple, list)):
        return None
    found: list[Part] = []
    for value in item:
        inner = _parts_of(value)
        if inner is None:
            return None
        found += inner
    return found


def _part(value: Any) -> Part:
    if is_numbers(value):
        return Part((len(value),), any(isinstance(number, float) for number in value))
    array = value if hasattr(value, "shape") and hasattr(value, "dtype") else as_tensor(value)
    return Part(tuple(array.shape), "float" in str(array.dtype).lower())


def _shapes(parts: list[Part]) -> str:
    return " and ".join(str([*part.shape]) for part in parts[:3])


def _unclear(name: str, what: str) -> ValueError:
    return ValueError(
        f"{name}: expected one data set, batches or samples, got {what}, which may be several of "
        "these: give a tuple (x, y) for one data set, DataLoader(data, batch_size=None) for "
        "batches, DataLoader(data, batch_size=32) for samples, or batch_fn=, a function from a "
        "batch to (inputs, target)"
    )
