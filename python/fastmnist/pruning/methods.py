"""What pruning removes: the smallest weights, random ones, whole neurons, or what a mask says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from fastmnist.display.words import kind_of

Scope = Literal["layer", "global"]


def checked_amount(what: str, amount: Any) -> float:
    """Return `amount` as a float from 0 to 1, or raise an error that calls it `what`."""
    if isinstance(amount, bool) or not isinstance(amount, Real):
        raise TypeError(f"{what}: expected a float from 0 to 1, got {type(amount).__name__}")
    share = float(amount)
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise ValueError(f"{what}: expected a share from 0 to 1, got {amount}")
    return share


def checked_count_or_share(what: str, amount: Any) -> int | float:
    """Return an int of at least 0, a number of weights, or a float from 0 to 1, a share of them.

    As in ``torch.nn.utils.prune``: 1 is one weight, 1.0 all of them.
    """
    if isinstance(amount, Integral) and not isinstance(amount, bool):
        return checked_integer(what, amount, 0)
    return checked_amount(what, amount)


def checked_integer(what: str, value: Any, least: int) -> int:
    """Return `value` as an int of at least `least`, or raise an error that calls it `what`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{what}: expected an int, got {type(value).__name__}")
    if value < least:
        raise ValueError(f"{what}: expected at least {least}, got {value}")
    return int(value)


def _check_scope(scope: Any) -> None:
    if scope not in ("layer", "global"):
        raise ValueError(
            f"scope: expected 'layer' (the share of each layer) or 'global' (of all together), "
            f"got {scope!r}"
        )


@dataclass(frozen=True)
class L1Unstructured:
    """Prune the given share of the weights, those of smallest magnitude.

    It removes the weights that ``torch.nn.utils.prune.l1_unstructured`` chooses or, for all layers
    together, ``global_unstructured``.

    Parameters
    ----------
    amount : float or int
        A float from 0 to 1 is the share of the weights to remove, an int their number, as in torch:
        1.0 means all of them, 1 means one.
    scope : {"layer", "global"}
        Whether the amount applies to each layer, or to all layers together. Then magnitudes are
        compared across layers, so layers with small weights lose more.

    Raises
    ------
    TypeError, ValueError
        If `amount` is not a number or is out of range, or `scope` is unknown.

    Examples
    --------
    >>> L1Unstructured(0.8, scope="global")
    L1Unstructured(amount=0.8, scope='global')
    """

    amount: float | int
    scope: Scope = "layer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", checked_count_or_share("amount", self.amount))
        _check_scope(self.scope)


@dataclass(frozen=True)
class RandomUnstructured:
    """Prune the given share of the weights at random: the baseline for other methods.

    Parameters
    ----------
    amount : float or int
        A float from 0 to 1 is the share of the weights to remove, an int their number, as in torch.
    scope : {"layer", "global"}
        Whether the amount applies to each layer, or to all layers together.
    seed : int, optional
        Makes the choice reproducible, and leaves torch's global random state unchanged. Default:
        drawn from the global state, which gives the same choice as torch's ``random_unstructured``.

    Raises
    ------
    TypeError, ValueError
        If `amount` is not a number or is out of range, `scope` is unknown, or `seed` is not an int.

    Examples
    --------
    >>> RandomUnstructured(0.5, seed=0).amount
    0.5
    """

    amount: float | int
    scope: Scope = "layer"
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", checked_count_or_share("amount", self.amount))
        _check_scope(self.scope)
        if self.seed is not None:
            seed = checked_integer("seed", self.seed, 0)
            if seed >= 2**63:
                raise ValueError(f"seed: expected less than 2**63, got {seed}")
            object.__setattr__(self, "seed", seed)


@dataclass(frozen=True)
class Structured:
    """Remove the given share of each layer's neurons, those whose weights have the smallest norm.

    As in ``torch.nn.utils.prune.ln_structured(layer, "weight", amount, n, dim=0)``, neurons are
    ranked by the norm of their row of the weight (all layers before any is changed). But they are
    removed, not set to zero: the layer, a BatchNorm1d after it and the layers that read it become
    smaller. The output layer keeps its neurons.

    A layer of ``width`` neurons should keep ``wanted = width - round(amount * width)``. It keeps
    the nearest multiple of `multiple_of` (the larger of two equally near), but at least one
    multiple and at most `width`. A layer narrower than one multiple keeps exactly `wanted`, but at
    least 1. At amount 0 a layer is left unchanged.

    A removed neuron no longer contributes anything, its bias included. The exception is a neuron
    whose weights are all zero, so that it outputs the same number for every row: that number is
    added to the bias of the layers that read it (if they have one). Such neurons are removed
    exactly.

    Parameters
    ----------
    amount : float
        Share of the neurons to remove, from 0 to less than 1.
    n : {1, 2}
        The norm: the sum of magnitudes (1), or the root of the sum of squares (2).
    multiple_of : int
        Widths are rounded to multiples of this, because kernels work on blocks of 16 neurons. 1
        disables rounding.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> Structured(0.5).kept(96), Structured(0.6).kept(96), Structured(0.9).kept(10)
    (48, 32, 1)
    """

    amount: float
    n: Literal[1, 2] = 2
    multiple_of: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", checked_amount("amount", self.amount))
        check_some_neurons_stay("amount", self.amount)
        if isinstance(self.n, bool) or self.n not in (1, 2):
            raise ValueError(f"n: expected 1 or 2, the norm by which neurons rank, got {self.n!r}")
        object.__setattr__(self, "multiple_of", checked_integer("multiple_of", self.multiple_of, 1))

    def kept(self, width: int, amount: float | None = None) -> int:
        """Return how many of `width` neurons are kept, by the rule above."""
        amount = self.amount if amount is None else amount
        wanted = width - round(amount * width)
        if amount == 0 or width < self.multiple_of:
            return max(1, wanted)
        multiples = math.floor(wanted / self.multiple_of + 0.5)
        return min(max(multiples, 1), width // self.multiple_of) * self.multiple_of


def check_some_neurons_stay(what: str, amount: float) -> None:
    """Raise ValueError if `amount`, called `what`, is all of a layer's neurons."""
    if amount == 1:
        raise ValueError(
            f"{what}: expected a share of neurons from 0 to less than 1, got {amount}: a layer "
            "cannot lose all of them"
        )


@dataclass(frozen=True, eq=False)
class CustomMask:
    """Prune by your own masks: 0 removes a weight, 1 keeps it.

    Parameters
    ----------
    masks : mapping of str to tensor or array
        Masks by layer name, in the shape of the weight, ``[outputs, inputs]``; booleans, or numbers
        that are all 0 or 1. They are copied.

    Raises
    ------
    TypeError
        If `masks` is not a mapping from names to tensors or arrays of booleans or real numbers.
    ValueError
        If it is empty, or a mask contains anything but 0 and 1.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> pruned = fm.prune(model, fm.CustomMask({"0": torch.eye(3, 4)}))
    >>> int((pruned[0].weight != 0).sum())
    3
    """

    masks: Mapping[str, torch.Tensor]

    def __post_init__(self) -> None:
        if not isinstance(self.masks, Mapping):
            raise TypeError(
                "masks: expected a mapping such as {'linear1': mask}, got "
                f"{type(self.masks).__name__}"
            )
        if not self.masks:
            raise ValueError("masks: expected a mask for at least one layer, got none")
        masks = {name: _checked_mask(name, mask) for name, mask in self.masks.items()}
        object.__setattr__(self, "masks", MappingProxyType(masks))

    def __reduce__(self) -> tuple[Any, ...]:
        return CustomMask, (dict(self.masks),)  # a mappingproxy cannot be pickled

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name!r}: {[*mask.shape]}" for name, mask in self.masks.items())
        return f"CustomMask({{{shapes}}})"


def _checked_mask(name: Any, mask: Any) -> torch.Tensor:
    """Return a copy as booleans on the CPU."""
    if not isinstance(name, str):
        raise TypeError(f"masks: expected names of layers, got {name!r}")
    if not isinstance(mask, torch.Tensor | np.ndarray):
        raise TypeError(f"masks['{name}']: expected a tensor or array, got {type(mask).__name__}")
    if isinstance(mask, np.ndarray):
        if mask.dtype.kind not in "biuf":
            raise TypeError(f"masks['{name}']: expected booleans, or 0 and 1, got {mask.dtype}")
        ones, allowed = mask == 1, bool(((mask == 0) | (mask == 1)).all())
        result = torch.from_numpy(np.ascontiguousarray(ones))
    else:
        if mask.is_complex() or mask.is_quantized:
            raise TypeError(f"masks['{name}']: expected booleans, or 0 and 1, got {mask.dtype}")
        mask = mask.detach().cpu()
        result, allowed = mask == 1, bool(((mask == 0) | (mask == 1)).all())
    if not allowed:
        raise ValueError(f"masks['{name}']: expected only 0 and 1, got other values")
    return result


Method: TypeAlias = L1Unstructured | RandomUnstructured | Structured | CustomMask


def checked_method(method: Any) -> Method:
    """Return `method`, a mapping of masks as CustomMask, or raise TypeError."""
    if isinstance(method, Mapping):
        return CustomMask(method)
    if isinstance(method, L1Unstructured | RandomUnstructured | Structured | CustomMask):
        return method
    raise TypeError(
        "method: expected a pruning method such as L1Unstructured(0.5), RandomUnstructured, "
        f"Structured or a mapping of masks, got {kind_of(method)}"
    )
