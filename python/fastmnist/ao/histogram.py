"""torch.ao's HistogramObserver: counts in even bins, and a range of small squared error.

Its search is Caffe2's norm minimization: it drops a hundred-thousandth of the values at a time, at
the end where that narrows the range more, until the squared error rises. Values are assumed to be
spread evenly in their bins, and all codes of the dtype to be used. :class:`fastmnist.Histogram` is
fastmnist's own version, whose bins fit values of any magnitude.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fastmnist.ao.min_max import MinMaxObserver
from fastmnist.ao.uniform import codes_of

F64 = npt.NDArray[np.float64]
_STEP = 1e-5


class HistogramObserver(MinMaxObserver):
    """Observe a histogram, and choose a range of small squared error.

    Parameters
    ----------
    bins : int

    Attributes
    ----------
    histogram : float32 ``[bins]``
        How many values between `min_val` and `max_val` lie in each of as many even bins. When the
        range grows, what was counted moves to the bins that the finer ones of `upsample_rate` lie
        in.
    """

    histogram: Tensor
    upsample_rate = 16

    def __init__(self, bins: int = 2048, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.is_dynamic:
            raise NotImplementedError("is_dynamic: expected False, as a histogram is of all values")
        self.bins = bins
        self.register_buffer(
            "histogram", torch.zeros(bins, dtype=torch.float32, device=self.eps.device)
        )

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Count the finite values of `x` and return it."""
        values = x.detach().float()
        values = values[torch.isfinite(values)]
        if values.numel() == 0:
            return x
        before = float(self.min_val), float(self.max_val)
        self._take(values.min(), values.max())
        now = float(self.min_val), float(self.max_val)
        if before != now and before[0] <= before[1]:
            self.histogram.copy_(self._moved(before, now))
        self.histogram += torch.histc(values, self.bins, *now)
        return x

    def _moved(self, before: tuple[float, float], now: tuple[float, float]) -> Tensor:
        """What was counted, in bins of the range as it is now."""
        device, finer = self.histogram.device, self.bins * self.upsample_rate
        if before[0] == before[1]:
            where = torch.tensor(before[:1], dtype=torch.float32, device=device)
            return torch.histc(where, self.bins, *now) * self.histogram.sum()
        middles = torch.linspace(*before, finer + 1, dtype=torch.float32, device=device)[:-1]
        middles = middles + (before[1] - before[0]) / finer / 2
        edges = torch.linspace(*now, self.bins + 1, dtype=torch.float32, device=device)
        bins = (torch.bucketize(middles, edges, right=True) - 1).clamp(0, self.bins - 1)
        counts = self.histogram.repeat_interleave(self.upsample_rate) / self.upsample_rate
        return torch.bincount(bins, weights=counts, minlength=self.bins)

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return scale and zero point of the observed values; 1 and 0, with a warning, if none."""
        if bool(self.min_val > self.max_val):
            return super().calculate_qparams()
        first, last = _search(self.histogram.double().cpu().numpy(), codes_of(self.dtype))
        width = (self.max_val - self.min_val) / self.bins
        return self._calculate_qparams(
            self.min_val + width * first, self.min_val + width * (last + 1)
        )

    def reset_min_max_vals(self) -> None:
        """Forget all observed values."""
        super().reset_min_max_vals()
        self.histogram.zero_()


def _search(counts: F64, codes: int) -> tuple[int, int]:
    """The first and the last bin of the range."""
    share = np.cumsum(counts)
    steps = np.full(round(1 / _STEP) + 2, _STEP)
    # The bins in which the next values from either end lie, after so many steps there; shares are
    # added up one by one, as elsewhere, so that they are rounded as elsewhere.
    lows, highs = np.cumsum(steps), np.cumsum(np.concatenate(([1.0], -steps)))[1:]
    lefts = np.searchsorted(share, lows * share[-1]).tolist()
    rights = (np.searchsorted(share, highs * share[-1], side="right") - 1).tolist()
    i = j = first = 0
    last, least = len(counts) - 1, np.inf
    while i + j < len(steps) - 2:
        left, right = min(max(lefts[i], first), last), max(min(rights[j], last), first)
        if left - first > last - right:
            i, trial = i + 1, (left, last)
        else:
            j, trial = j + 1, (first, right)
        if trial == (first, last):
            continue
        error = _error(counts, *trial, codes)
        if error > least:
            break
        least, (first, last) = error, trial
    return first, last


def _error(counts: F64, first: int, last: int, codes: int) -> float:
    """Squared error of all values, in bins squared, if the codes cover these bins."""
    step = (last - first + 1) / codes
    begin = np.arange(len(counts)) - float(first)
    lower, upper = (np.clip(np.floor(end / step), 0, codes - 1) for end in (begin, begin + 1))
    # The first code's part of a bin, the whole codes between, and the last code's part.
    parts = _integral(begin - (lower + 0.5) * step, step / 2)
    parts += (upper - lower - 1) * _integral(-step / 2, step / 2)
    parts += _integral(-step / 2, begin + 1 - (upper + 0.5) * step)
    return float((parts * counts).sum())


def _integral(begin: Any, end: Any) -> Any:
    """Of the square."""
    return (end**3 - begin**3) / 3
