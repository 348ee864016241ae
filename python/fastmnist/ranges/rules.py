"""Rules that make a range of what was seen: min–max, moving average, percentile, histogram, MSE.

A range ``[lo, hi]`` is what 255 steps of uint8 codes cover. Wider clips less and rounds coarser;
the rules that search weigh the two by the squared error of both, from counts of the values by size
(:mod:`fastmnist.ranges.observer`): rounding costs ``step²/12`` a value, clipping the square of what
is cut off, and exact zeros nothing, as they always have a code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What an observer saw: the smallest and largest value, their moving averages, the counts.

    Attributes
    ----------
    lo, hi : float
    average_lo, average_hi : float
        Moving averages over batches of the batch's own.
    edges : float64 ``[bins + 1]``, increasing
    counts : float64 ``[bins]``
        Values between neighbouring edges; zeros, which cost no error, are in `zeros` instead.
    zeros : float
    """

    lo: float
    hi: float
    average_lo: float
    average_hi: float
    edges: F64
    counts: F64
    zeros: float


@dataclass(frozen=True)
class Rule:
    """A rule for choosing a range. Your own subclasses work wherever an observer is expected.

    Set ``needs_counts = True`` for :attr:`Seen.counts`.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> class Wider(Rule):
    ...     def range(self, seen):
    ...         return 1.1 * seen.lo, 1.1 * seen.hi
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Static(torch.rand(8, 784), observer=Wider()))
    """

    needs_counts: ClassVar[bool] = False
    momentum: ClassVar[float] = 0.1

    def range(self, seen: Seen) -> tuple[float, float]:
        """Return the smallest and the largest value that have their own code."""
        raise NotImplementedError


@dataclass(frozen=True)
class MinMax(Rule):
    """Use the smallest and the largest observed value: nothing is clipped, outliers included.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> config = fm.Static(calibration=torch.rand(8, 784), observer=fm.MinMax())
    """

    def range(self, seen: Seen) -> tuple[float, float]:
        return seen.lo, seen.hi


@dataclass(frozen=True)
class MovingAverage(Rule):
    """Use moving averages of each batch's smallest and largest value, the default in training.

    Parameters
    ----------
    momentum : float
        Weight of the newest batch, above 0 and at most 1.

    Examples
    --------
    >>> import fastmnist as fm
    >>> config = fm.QAT(observer=fm.MovingAverage(momentum=0.01))
    """

    momentum: float = 0.1  # type: ignore[misc]

    def __post_init__(self) -> None:
        _check_number("momentum", self.momentum, 0, 1)
        if self.momentum == 0:
            raise ValueError("momentum: expected more than 0, got 0")

    def range(self, seen: Seen) -> tuple[float, float]:
        return seen.average_lo, seen.average_hi


@dataclass(frozen=True)
class Percentile(Rule):
    """Clip the same share of values at each end.

    Parameters
    ----------
    percentile : float
        Above 50 and up to 100: 99.9 clips the largest and the smallest 0.1 % of all values.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> config = fm.Static(calibration=torch.rand(8, 784), observer=fm.Percentile(99.99))
    """

    percentile: float = 99.9
    needs_counts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_number("percentile", self.percentile, 50, 100)
        if self.percentile == 50:
            raise ValueError("percentile: expected more than 50, got 50")

    def range(self, seen: Seen) -> tuple[float, float]:
        share = self.percentile / 100
        return _quantile(seen, 1 - share), _quantile(seen, share)


@dataclass(frozen=True)
class MSE(Rule):
    """Choose the range of least mean squared error, by grid search over both ends.

    Parameters
    ----------
    slack : float
        Take the widest range whose error exceeds the smallest by at most this share, 0 to 1:
        calibration data may contain few outliers, and other data larger ones.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> config = fm.Static(calibration=torch.rand(8, 784), observer=fm.MSE())
    """

    needs_counts: ClassVar[bool] = True
    slack: float = 0.0

    def __post_init__(self) -> None:
        _check_number("slack", self.slack, 0, 1)

    def range(self, seen: Seen) -> tuple[float, float]:
        errors = _Errors(seen)
        shares = np.concatenate([[0.0], np.geomspace(1e-3, 1.0, 96)])
        ends = np.meshgrid(min(seen.lo, 0.0) * shares, max(seen.hi, 0.0) * shares, indexing="ij")
        lo, hi = ends[0].ravel(), ends[1].ravel()
        error = errors.of(lo, hi)
        # The widest of those that are as good: other data may well have a larger outlier.
        good = error <= (1 + self.slack) * error.min()
        best = int(np.argmax(np.where(good, hi - lo, -np.inf)))
        return float(lo[best]), float(hi[best])


@dataclass(frozen=True)
class Histogram(Rule):
    """Drop outermost values, from the emptier end, as long as that lowers the error.

    This is the search of torch.ao's HistogramObserver: it stops when the squared error first rises,
    and thus clips less than :class:`MSE`.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> config = fm.Static(calibration=torch.rand(8, 784), observer="histogram")
    """

    needs_counts: ClassVar[bool] = True

    def range(self, seen: Seen) -> tuple[float, float]:
        errors = _Errors(seen)
        full = np.flatnonzero(seen.counts)
        ends_lo = np.minimum(seen.edges[full], 0.0)
        ends_hi = np.maximum(seen.edges[full + 1], 0.0)
        lo, hi = min(seen.lo, 0.0), max(seen.hi, 0.0)
        first, last = 0, len(full) - 1
        error = float(errors.of(np.array([lo]), np.array([hi]))[0])
        while first < last:
            # What remains when the lowest, or the highest, bin that holds something is dropped.
            next_lo, next_hi = float(ends_lo[first + 1]), float(ends_hi[last - 1])
            drop_low = next_lo - lo >= hi - next_hi
            trial = (next_lo, hi) if drop_low else (lo, next_hi)
            if trial == (lo, hi):
                break
            new = float(errors.of(np.array([trial[0]]), np.array([trial[1]]))[0])
            if new > error:
                break
            error, (lo, hi) = new, trial
            first, last = first + drop_low, last - (not drop_low)
        return lo, hi


RULES: dict[str, type[Rule]] = {
    "minmax": MinMax,
    "moving_average": MovingAverage,
    "percentile": Percentile,
    "histogram": Histogram,
    "mse": MSE,
}


def rule_of(observer: Any) -> Rule:
    """Return the rule that a name, a class or a rule stands for.

    Raises
    ------
    TypeError, ValueError
        Naming the argument `observer`, if it is none.
    """
    if isinstance(observer, str):
        # "min-max", "MinMax" and "min_max" are what people write, too.
        plain = {name.replace("_", ""): rule for name, rule in RULES.items()}
        key = "".join(letter for letter in observer.lower() if letter.isalnum())
        if key not in plain:
            raise ValueError(f"observer: expected one of {', '.join(RULES)}, got '{observer}'")
        return plain[key]()
    if isinstance(observer, type) and issubclass(observer, Rule):
        return observer()
    if not isinstance(observer, Rule):
        raise TypeError(
            f"observer: expected a name ({', '.join(RULES)}) or a rule such as "
            f"fm.Percentile(99.9), got {type(observer).__name__}"
        )
    return observer


def _quantile(seen: Seen, share: float) -> float:
    counts = seen.counts.copy()
    middle = len(counts) // 2
    counts[middle] += seen.zeros
    total = np.cumsum(counts)
    wanted = share * total[-1]
    i = int(np.searchsorted(total, wanted, side="left"))
    i = min(i, len(counts) - 1)
    if i == middle:
        return 0.0
    before = total[i] - counts[i]
    inside = (wanted - before) / counts[i] if counts[i] else 0.0
    value = seen.edges[i] + inside * (seen.edges[i + 1] - seen.edges[i])
    return float(min(max(value, seen.lo), seen.hi))


class _Errors:
    """Mean squared errors of ranges, from running sums over the bins: a few steps for each."""

    def __init__(self, seen: Seen) -> None:
        centers = (seen.edges[1:] + seen.edges[:-1]) / 2
        self.edges = seen.edges

        def sums(weights: F64) -> F64:
            return np.concatenate([[0.0], np.cumsum(weights)])

        self.count = sums(seen.counts)
        self.sum = sums(seen.counts * centers)
        self.squares = sums(seen.counts * centers * centers)

    def of(self, lo: F64, hi: F64) -> F64:
        """Total squared error for each pair: of rounding between the ends, of clipping beyond."""
        below = np.searchsorted(self.edges, lo, side="left").clip(0, len(self.count) - 1)
        above = np.searchsorted(self.edges, hi, side="right").clip(1, len(self.count)) - 1
        above = np.maximum(above, below)
        step = (hi - lo) / 255
        # Values below half a step become 0, which costs their squares.
        low_zero = np.searchsorted(self.edges, -step / 2).clip(0, len(self.count) - 1)
        high_zero = np.searchsorted(self.edges, step / 2).clip(0, len(self.count) - 1)
        low_zero, high_zero = np.clip(low_zero, below, above), np.clip(high_zero, below, above)
        near_zero = self.squares[high_zero] - self.squares[low_zero]
        rounded = self.count[above] - self.count[below]
        rounded = rounded - (self.count[high_zero] - self.count[low_zero])
        inside = rounded * step * step / 12 + near_zero

        def clipped(count: F64, total: F64, squares: F64, at: F64) -> F64:
            return np.maximum(squares - 2 * at * total + at * at * count, 0.0)

        low = clipped(self.count[below], self.sum[below], self.squares[below], lo)
        end = len(self.count) - 1
        high = clipped(
            self.count[end] - self.count[above],
            self.sum[end] - self.sum[above],
            self.squares[end] - self.squares[above],
            hi,
        )
        errors: F64 = inside + low + high
        return errors


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low} to {high}, got {value}")
