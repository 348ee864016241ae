"""How low a rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """The rank to keep of each layer's weight matrix, given in one of three ways.

    Parameters
    ----------
    rank : int or mapping of str to int, optional
        The rank itself, from 1 to the smaller of a layer's inputs and outputs. A mapping gives
        ranks by layer, and thereby selects the layers.
    energy : float, optional
        Choose the smallest rank that keeps this share of the sum of squared singular values; above
        0, at most 1. With data, that sum is the variance of the layer's outputs.
    ratio : float, optional
        Choose the ranks at which the selected layers together keep at most this share of their
        weights and lose least; a layer that would lose too much stays whole. Above 0, below 1; each
        rank is at least 1.

    Raises
    ------
    TypeError, ValueError
        If not exactly one of the three is given, or it is invalid.

    Examples
    --------
    >>> LowRank(energy=0.9).rank_of(Tensor([3.0, 1.5, 0.5]))
    2
    """

    rank: int | Mapping[str, int] | None = None
    energy: float | None = None
    ratio: float | None = None

    def __post_init__(self) -> None:
        given = [n for n in ("rank", "energy", "ratio") if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                "rank, energy, ratio: expected exactly one of them, got "
                f"{' and '.join(given) or 'none'}: such as LowRank(ratio=0.5)"
            )
        if isinstance(self.rank, Mapping):
            if not self.rank:
                raise ValueError("rank: expected a rank for at least one layer, got none")
            ranks = {name: _rank(f"rank['{name}']", r) for name, r in self.rank.items()}
            object.__setattr__(self, "rank", MappingProxyType(ranks))
        elif self.rank is not None:
            object.__setattr__(self, "rank", _rank("rank", self.rank))
        if self.energy is not None:
            _share("energy", self.energy, "above 0 and at most 1", closed=True)
        if self.ratio is not None:
            _share("ratio", self.ratio, "above 0 and below 1", closed=False)

    def __reduce__(self) -> tuple[Any, ...]:
        rank = dict(self.rank) if isinstance(self.rank, Mapping) else self.rank
        return type(self), (rank, self.energy, self.ratio)

    @property
    def is_one_for_all(self) -> bool:
        """Whether it applies to all layers alike, without naming any."""
        return not isinstance(self.rank, Mapping)

    def rank_of(self, singular: Tensor) -> int:
        """Return a layer's rank for its singular values, largest first, by `energy` or `rank`."""
        if self.energy is not None:
            shares = singular.double().square().cumsum(0)
            enough = shares >= self.energy * shares[-1] * (1 - 1e-12)
            return int(enough.nonzero()[0]) + 1
        assert isinstance(self.rank, int)
        return self.rank


def _rank(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return int(value)


def _share(name: str, value: Any, what: str, *, closed: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a share {what}, got {type(value).__name__}")
    if not (0 < float(value) < 1 or (closed and value == 1)):
        raise ValueError(f"{name}: expected a share {what}, got {value}")
