"""R², the coefficient of determination, of rows that come in batches: nothing of them is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


class RSquared:
    """``1 - Σ(t - y)² / Σ(t - mean(t))²`` for each output, and the mean of these.

    Of an output whose targets are all the same it is 1 where they are met and 0 else, as
    ``sklearn.metrics.r2_score`` has it. Means and squares are merged batch by batch (T. F. Chan,
    G. H. Golub, R. J. LeVeque, The American Statistician 37, 1983).

    Examples
    --------
    >>> r2 = RSquared()
    >>> for y, t in (([[1.0], [2.0]], [[1.0], [2.5]]), ([[3.0]], [[3.0]])):
    ...     r2.add(np.array(y), np.array(t))
    >>> round(r2.value(), 4)
    0.8846
    """

    def __init__(self) -> None:
        self.rows = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0
        self._errors: Any = 0.0

    def add(self, outputs: Values, targets: Values) -> None:
        """Take in rows: outputs and targets, float64 [N, K]."""
        n = len(targets)
        if not n:
            return
        total = self.rows + n
        mean = targets.mean(0)
        shift = mean - self._mean
        self._squares = (
            self._squares + ((targets - mean) ** 2).sum(0) + shift**2 * (self.rows * n / total)
        )
        self._mean = self._mean + shift * (n / total)
        self._errors = self._errors + ((targets - outputs) ** 2).sum(0)
        self.rows = total

    def value(self) -> float:
        """Give it; NaN where an output was NaN or infinite.

        Raises
        ------
        ValueError
            If there were fewer than two rows.
        """
        if self.rows < 2:
            raise ValueError(
                f"metric r2: expected two rows or more, got {self.rows}: give more data"
            )
        if not np.isfinite(self._errors).all():
            return float("nan")
        constant = self._squares == 0
        ratio = self._errors / np.where(constant, 1.0, self._squares)
        return float(np.mean(np.where(constant, self._errors == 0, 1.0 - ratio)))
