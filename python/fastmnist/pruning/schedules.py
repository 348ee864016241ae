"""Gradual pruning: how much is removed at each step, with training between the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fastmnist.pruning.methods import checked_amount, checked_integer


@dataclass(frozen=True)
class Cubic:
    """Prune in `steps` amounts from `start` to the method's: much at first, then ever less.

    After step ``i`` of ``n`` the share removed is ``final + (start - final) * (1 - i/n)**3``
    (Zhu and Gupta, "To prune, or not to prune", 2017, arXiv:1710.01878, equation 1).

    Parameters
    ----------
    steps : int
        How often to prune, at least 1; the last step reaches the final amount.
    start : float
        Amount at which the curve starts, from 0 to 1, not above the final amount.
    every : int
        Epochs of training between two steps, at least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> [round(Cubic(steps=4).amount(0.8, step), 3) for step in (1, 2, 3, 4)]
    [0.463, 0.7, 0.788, 0.8]
    """

    steps: int = 5
    start: float = 0.0
    every: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", checked_integer("steps", self.steps, 1))
        object.__setattr__(self, "start", checked_amount("start", self.start))
        object.__setattr__(self, "every", checked_integer("every", self.every, 1))

    def amount(self, final: float, step: int) -> float:
        """Return the share that is removed after step 1, 2, … `steps`."""
        return final + (self.start - final) * (1 - step / self.steps) ** 3


@dataclass(frozen=True)
class Constant:
    """Prune the final amount from the first step on; later steps choose again what to remove.

    Parameters
    ----------
    steps : int
        How often to choose the weights, at least 1.
    every : int
        Epochs of training between two steps, at least 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.

    Examples
    --------
    >>> Constant(steps=2).amount(0.8, step=1)
    0.8
    """

    steps: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", checked_integer("steps", self.steps, 1))
        object.__setattr__(self, "every", checked_integer("every", self.every, 1))

    def amount(self, final: float, step: int) -> float:
        """Return the share that is removed after step 1, 2, … `steps`."""
        return final


Schedule: TypeAlias = Cubic | Constant
