"""What is known of each kind of layer that a file can hold: how it is described, and rebuilt.

A layer class enters itself here, where it is defined, so that saving and loading need no list of
classes and a new kind of layer is one file. A *kind* is the word in the file; the tensors of a
layer are in the file under its state-dict keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

from fastmnist.files.fields import required_field

Arrays = Mapping[str, npt.NDArray[Any]]
Description = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    Attributes
    ----------
    name : str
    describe : callable
        ``describe(layer)`` gives as plain JSON what the layer's tensors leave out; None where its
        model's class makes it as it is, so that a file need not tell of it.
    rebuild : callable
        ``rebuild(description, prefix, arrays)`` makes a layer whose tensors have the shapes that
        the arrays under `prefix` have; it trusts neither and raises ValueError.
    is_frozen : bool
        Whether no gradient flows through it.
    takes_numbers : bool
        Whether `rebuild` takes the tensors' numbers too; else they are loaded afterwards.
    in_parts : bool
        Whether it is made of layers that are traced, described and rebuilt each by itself.
    """

    name: str
    describe: Callable[[Any], Description | None]
    rebuild: Callable[[Description, str, Arrays], nn.Module]
    is_frozen: bool = False
    takes_numbers: bool = False
    in_parts: bool = False


class _Saved(Protocol):
    def describe(self) -> Description: ...

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> nn.Module: ...


_by_type: dict[type, Kind] = {}
_by_name: dict[str, Kind] = {}
# Classes of whole models that are made without arguments: a file need not be given one.
_models: dict[str, type[nn.Module]] = {}
Layer = TypeVar("Layer", bound=type[_Saved])
Model = TypeVar("Model", bound=type[nn.Module])


def saved(
    name: str, *, is_frozen: bool = False, takes_numbers: bool = False, in_parts: bool = False
) -> Callable[[Layer], Layer]:
    """Enter a class of ours, which has `describe` and `rebuild`, as a kind of layer."""

    def enter(cls: Layer) -> Layer:
        kind = Kind(name, cls.describe, cls.rebuild, is_frozen, takes_numbers, in_parts)
        register(cls, kind)
        return cls

    return enter


def register(cls: type, kind: Kind) -> None:
    """Enter a class, which may be torch's, as a kind of layer. Two may share a kind."""
    _by_type[cls] = kind
    _by_name.setdefault(kind.name, kind)


def made_without_arguments(cls: Model) -> Model:
    """Enter a class of models that a file rebuilds by itself."""
    _models[cls.__name__] = cls
    return cls


def kind_of(module: nn.Module) -> Kind | None:
    """The kind of a layer, by its very class: a subclass may compute something else."""
    return _by_type.get(type(module))


def rebuild(description: Any, prefix: str, arrays: Arrays) -> nn.Module:
    """Make a layer as described.

    Raises
    ------
    ValueError
        If the description, or a tensor that it needs, is not as it should be.
    """
    return named(description).rebuild(description, prefix, arrays)


def named(description: Any) -> Kind:
    """The kind that a description names."""
    name = required_field(description, "type", str)
    if name not in _by_name:
        known = ", ".join(f"'{known}'" for known in sorted(_by_name))
        raise ValueError(f"type: expected one of {known}, got '{name}'")
    return _by_name[name]


def model_class(name: Any) -> type[nn.Module] | None:
    """The class of models of that name, if there is one that is made without arguments."""
    return _models.get(name) if isinstance(name, str) else None


def model_name(model: nn.Module) -> str | None:
    """The reverse: the name under which a file rebuilds the model by itself."""
    name = type(model).__name__
    return name if _models.get(name) is type(model) else None


def shape_of_weight(
    description: Description, prefix: str, arrays: Arrays, *, has_bias: bool
) -> tuple[int, int]:
    """Outputs and inputs of a described Linear, whose tensors must be there in these shapes.

    Asked before a layer is made: a file must not make us allocate what it does not hold.
    """
    weight, bias = arrays.get(f"{prefix}weight"), arrays.get(f"{prefix}bias")
    shape = required_field(description, "shape", list)
    if weight is None or [*weight.shape] != shape[::-1] or 0 in weight.shape:
        came = "nothing" if weight is None else [*weight.shape]
        raise ValueError(
            f"tensor '{prefix}weight': expected shape {shape[::-1]}, inputs and outputs of at "
            f"least 1, got {came}"
        )
    if has_bias != (bias is not None) or (bias is not None and bias.shape != weight.shape[:1]):
        expected = f"shape [{weight.shape[0]}]" if has_bias else "none"
        came = "nothing" if bias is None else [*bias.shape]
        raise ValueError(f"tensor '{prefix}bias': expected {expected}, got {came}")
    outputs, inputs = weight.shape
    return int(outputs), int(inputs)


def array_of(arrays: Arrays, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """The named array, which must be there in this shape."""
    array = arrays.get(name)
    if array is None or array.shape != shape:
        came = "nothing" if array is None else [*array.shape]
        raise ValueError(f"tensor '{name}': expected shape {[*shape]}, got {came}")
    return array
