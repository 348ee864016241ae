"""Ranks of several layers that together keep a share of their weights.

What a layer loses by a rank is the share of its squared singular values beyond it; a layer that is
left whole loses nothing and keeps all of its weights. One price for a weight, the same for all
layers, decides: each takes the rank at which loss plus price is least, and the price is the lowest
at which all fit. What is left of the budget goes, one number at a time, to where it gains most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_HALVINGS = 60


@dataclass(frozen=True)
class _Choices:
    """The ranks that one layer can have: those that save, and its full one.

    Attributes
    ----------
    ranks : list of int
    costs : list of int
        Weights at each rank.
    losses : list of float
        Shares of squared singular values at each rank.
    """

    ranks: list[int]
    costs: list[int]
    losses: list[float]

    @classmethod
    def of(cls, outputs: int, inputs: int, singular: Tensor) -> _Choices:
        each, whole = outputs + inputs, outputs * inputs
        saving = range(1, math.ceil(whole / each))  # rank * each < whole
        squares = singular.double().square()
        total = float(squares.sum()) or 1.0
        left = [*((squares.sum() - squares.cumsum(0)).clamp_min(0) / total).tolist()]
        return cls(
            [*saving, min(outputs, inputs)],
            [*(rank * each for rank in saving), whole],
            [*(left[rank - 1] for rank in saving), 0.0],
        )

    def best(self, price: float) -> int:
        """The choice at which loss plus price is least; of two as good, the cheaper."""
        totals = torch.tensor(self.losses) + price * torch.tensor(self.costs, dtype=torch.float64)
        return int(totals.argmin())


def ranks_within(layers: Mapping[str, tuple[int, int, Tensor]], ratio: float) -> dict[str, int]:
    """The rank of each layer; the smaller side stands for a layer that is left whole.

    Parameters
    ----------
    layers : mapping
        Outputs, inputs and singular values, largest first, by name.
    ratio : float
        Share of all their weights to keep, at most; but no rank is below 1.

    Examples
    --------
    >>> flat = torch.ones(8)
    >>> ranks_within({"a": (8, 100, flat), "b": (8, 8, flat)}, 0.5)
    {'a': 3, 'b': 8}
    """
    choices = {name: _Choices.of(*layer) for name, layer in layers.items()}
    budget = ratio * sum(choice.costs[-1] for choice in choices.values())

    def taken(price: float) -> dict[str, int]:
        return {name: choice.best(price) for name, choice in choices.items()}

    def cost(chosen: Mapping[str, int]) -> int:
        return sum(choices[name].costs[i] for name, i in chosen.items())

    low, high = 0.0, 1.0  # at a loss of 1 per weight every layer takes rank 1
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high) if low else high / 16
        if cost(taken(middle)) <= budget:
            high = middle
        else:
            low = middle
    chosen = taken(high)
    while steps := [
        ((choice.losses[i] - choice.losses[to]) / (choice.costs[to] - choice.costs[i]), name, to)
        for name, choice in choices.items()
        for i in [chosen[name]]
        for to in {i + 1, len(choice.ranks) - 1}
        if i < to < len(choice.ranks)
        and cost(chosen) + choice.costs[to] - choice.costs[i] <= budget
    ]:
        _, name, to = max(steps)
        chosen[name] = to
    return {name: choices[name].ranks[i] for name, i in chosen.items()}
