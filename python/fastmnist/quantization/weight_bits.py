"""How many bits the weights of each layer get: one number for all, or by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from torch import nn

from fastmnist.display.words import kind_of
from fastmnist.int8.quantizer import WeightRule
from fastmnist.layers.kept import shares_values
from fastmnist.rewriting.selection import unknown

WeightBits: TypeAlias = int | Mapping[str, int]


def check_weight_bits(bits: Any) -> None:
    """Raise TypeError or ValueError unless it is from 2 to 8, or a mapping of names to such."""
    if isinstance(bits, Mapping):
        if not bits:
            raise ValueError(
                "weight_bits: expected names and bits, such as {'linear3': 8, '*': 4}, got an "
                "empty mapping"
            )
        for name, own in bits.items():
            if not isinstance(name, str):
                raise TypeError(f"weight_bits: expected names of layers, got {kind_of(name)}")
            _check(f"weight_bits['{name}']", own)
    else:
        _check("weight_bits", bits)


def _check(what: str, bits: Any) -> None:
    if isinstance(bits, bool) or not isinstance(bits, int):
        raise TypeError(f"{what}: expected an int from 2 to 8, got {kind_of(bits)}")
    if not 2 <= bits <= 8:
        raise ValueError(f"{what}: expected from 2 to 8 bits, got {bits}")


def check_names(bits: WeightBits, names: Iterable[str]) -> None:
    """Raise ValueError for an entry that stands for none of the layers."""
    every = [*names]
    if isinstance(bits, Mapping):
        for entry in bits:
            if not any(_fits(entry, name) for name in every):
                raise ValueError(f"weight_bits: {unknown(entry, every)}")


def bits_of(bits: WeightBits, name: str) -> int:
    """What holds for a layer: its own name before what names it, that before patterns; else 8."""
    if not isinstance(bits, Mapping):
        return bits
    parents = [name[:i] for i, letter in enumerate(name) if letter == "."][::-1]
    for path in (name, *parents):
        if path in bits:
            return bits[path]
    return next((own for entry, own in bits.items() if _fits(entry, name)), 8)


def _fits(entry: str, name: str) -> bool:
    paths = [name[:i] for i, letter in enumerate(name) if letter == "."]
    return any(path == entry or fnmatchcase(path, entry) for path in (*paths, name))


def weight_rule(bits: WeightBits, per_channel: bool, name: str, layer: nn.Module) -> WeightRule:
    """How a layer's weights become codes; values that all outputs share keep sharing one scale."""
    return WeightRule(per_channel and not shares_values(layer), bits_of(bits, name))
