"""What the layers of a prepared model are given, kept as far as a range needs it.

An :class:`InputObserver` sits in a prepared layer and sees every input. It keeps the smallest and
largest value, overall and per feature, their moving averages, and, where a rule
(:mod:`fastmnist.ranges.rules`) asks for it, a count of the values by size. Everything is a buffer,
so that ``state_dict`` carries it, devices move it and checkpoints resume; but for what only serves
warnings and speed.

Values are counted by the upper 14 bits of their float32::

    sign | exponent (8 bits) | mantissa (5 of 23 bits)        16,384 bins, 3 % wide each

so one set of bins serves values of any size, never grows or is divided anew, and the order of the
batches makes no difference; inside a bin positions are interpolated.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fastmnist.ranges.rules import F64, Rule, Seen

_SHIFT = 18  # bits of a float32 that a bin does not tell apart
_BINS = 1 << (32 - _SHIFT)
_MOST_SITES = 64  # calls of one layer that are told apart


class InputObserver(nn.Module):
    """What one layer was given so far.

    Parameters
    ----------
    features : int
    rule : Rule
    """

    rows: Tensor
    column_lo: Tensor
    column_hi: Tensor
    average: Tensor
    origin: Tensor
    counts: Tensor
    # In how many of the rows seen by this very observer each feature had its smallest value, which
    # in images and after a ReLU is the zero. Not in the state_dict: it only serves the choice of
    # kernels.
    _at_lowest: Tensor | None = None
    _rows_of_lowest = 0

    def __init__(self, features: int, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("column_lo", torch.zeros(features, dtype=torch.float32))
        self.register_buffer("column_hi", torch.zeros(features, dtype=torch.float32))
        self.register_buffer("average", torch.zeros(2, dtype=torch.float32))
        if rule.needs_counts:
            self.register_buffer("counts", torch.zeros(_BINS, dtype=torch.int64))
        # 1 while the layer was only ever given an input of the model's, at most reshaped; and
        # while that was always the first, the one that may be pixels. Numbers, because copies
        # that are averaged (EMA) get numbers only; an average with a 0 is no longer 1.
        self.register_buffer("origin", torch.ones(2, dtype=torch.float32))
        self._started = False
        # Ranges by call of the layer within one call of the model: of a layer that is called
        # several times. Not in the state_dict, as they only serve for a warning.
        self._ranges: list[Tensor] = []
        self._model_call, self._site = -1, 0

    @property
    def started(self) -> bool:
        """Whether anything was seen; noted on the host, so that asking never waits for a GPU."""
        if not self._started:
            # Averaged or loaded values came without a call; an average rounds `rows` to 0.
            seen = (self.rows, self.column_lo, self.column_hi, self.average)
            self._started = any(bool(buffer.any()) for buffer in seen)
        return self._started

    @property
    def is_model_input(self) -> bool:
        """Whether the layer was only ever given an input of the model's."""
        return float(self.origin[0]) == 1

    @property
    def is_first_input(self) -> bool:
        """Whether it was only ever given the first of them."""
        return float(self.origin[1]) == 1

    @torch.no_grad()
    def watch(self, x: Tensor, position: int | None, model_call: int = 0) -> None:
        """Take in finite values ``[..., features]``.

        Values that are not finite are left out; who wants an error asks before. `position` tells
        which of the model's own inputs they are, None if they are none; `model_call` in which call
        of the model they come.
        """
        rows = x.detach().float().reshape(-1, x.shape[-1])
        if rows.shape[0] == 0:
            return
        finite = torch.isfinite(rows)
        lo = torch.where(finite, rows, torch.inf).amin(dim=0)
        hi = torch.where(finite, rows, -torch.inf).amax(dim=0)
        empty = lo > hi  # a feature without a finite value
        first = not self.started
        old_lo = torch.where(empty, 0.0, lo) if first else self.column_lo
        old_hi = torch.where(empty, 0.0, hi) if first else self.column_hi
        self._count_lowest(rows, lo, None if first else old_lo)
        self.column_lo.copy_(torch.minimum(lo, old_lo))
        self.column_hi.copy_(torch.maximum(hi, old_hi))
        batch = torch.stack(
            (torch.where(empty, 0.0, lo).amin(), torch.where(empty, 0.0, hi).amax())
        )
        self.average.copy_(
            batch if first else torch.lerp(self.average, batch, float(self.rule.momentum))
        )
        if self.rule.needs_counts:
            values = rows if bool(finite.all()) else rows[finite]
            bins = (values.contiguous().view(torch.int32).reshape(-1) >> _SHIFT) & (_BINS - 1)
            self.counts += torch.bincount(bins, minlength=_BINS)
        self.rows += rows.shape[0]
        self._note_site(batch, model_call)
        self._started = True
        if position is None:
            self.origin.zero_()
        elif position:
            self.origin[1] = 0

    def _count_lowest(self, rows: Tensor, lo: Tensor, before: Tensor | None) -> None:
        at_lowest = (rows == lo).sum(dim=0)
        if before is not None:
            at_lowest = at_lowest.where(lo <= before, 0)
            if self._at_lowest is not None:
                at_lowest += self._at_lowest.to(lo.device).where(before <= lo, 0)
        self._at_lowest = at_lowest
        self._rows_of_lowest += rows.shape[0]

    def lowest(self) -> tuple[npt.NDArray[np.float32], F64 | None]:
        """The smallest value of each feature, and its share of the rows where that is known."""
        lowest = self.column_lo.cpu().numpy()
        if self._at_lowest is None:
            return lowest, None
        return lowest, self._at_lowest.double().cpu().numpy() / self._rows_of_lowest

    def _forget_lowest(self) -> None:
        self._at_lowest, self._rows_of_lowest = None, 0

    def _note_site(self, batch: Tensor, model_call: int) -> None:
        self._site = self._site + 1 if model_call == self._model_call else 0
        self._model_call = model_call
        if self._site == len(self._ranges) < _MOST_SITES:
            self._ranges.append(batch)
        elif self._site < len(self._ranges):
            lo, hi = self._ranges[self._site], batch
            self._ranges[self._site] = torch.stack((lo[0].minimum(hi[0]), lo[1].maximum(hi[1])))

    def spans(self) -> list[float]:
        """The largest magnitude that each call of the layer in one of the model's was given."""
        return [float(span.abs().max()) for span in self._ranges]

    def set_range(self, lo: Tensor, hi: Tensor, *, is_first_input: bool) -> None:
        """Begin with ranges per feature that are known, as of a layer quantized before."""
        self.origin.fill_(is_first_input)
        self.column_lo.copy_(lo)
        self.column_hi.copy_(hi)
        self.average.copy_(torch.stack((lo.amin(), hi.amax())))
        self.rows.fill_(max(1, int(self.rows)))
        self._forget_lowest()
        self._started = True

    def range(self) -> tuple[float, float]:
        """Return what the rule makes of what was seen."""
        lo, hi = float(self.column_lo.min()), float(self.column_hi.max())
        average_lo, average_hi = self.average.tolist()
        edges, counts, zeros = (
            _sorted_counts(self.counts.cpu().numpy()) if self.rule.needs_counts else _NO_COUNTS
        )
        if self.rule.needs_counts and counts.sum() + zeros == 0:  # as after set_range
            return lo, hi
        chosen = self.rule.range(Seen(lo, hi, average_lo, average_hi, edges, counts, zeros))
        return _checked(chosen, self.rule)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._started = False  # as what was loaded tells
        self._forget_lowest()

    def _apply(self, fn: Any, recurse: bool = True) -> InputObserver:
        # Moved with the model, but never rounded: a half-precision range would not be the range.
        for key, buffer in self._buffers.items():
            if buffer is not None:
                moved = fn(buffer)
                same = moved.dtype == buffer.dtype
                self._buffers[key] = moved if same else buffer.to(moved.device)
        return self

    def extra_repr(self) -> str:
        about = ", ".join(f"{f.name}={getattr(self.rule, f.name)}" for f in fields(self.rule))
        return f"{type(self.rule).__name__}({about}), rows={int(self.rows)}"


def _checked(chosen: Any, rule: Rule) -> tuple[float, float]:
    """A rule's answer as two float32 in order; rules may be anybody's."""
    try:
        lo, hi = (float(np.float32(end)) for end in chosen)
    except (TypeError, ValueError):
        raise TypeError(
            f"observer: expected {type(rule).__name__}.range to return two numbers, got {chosen!r}"
        ) from None
    if not (np.isfinite([lo, hi]).all() and lo <= hi):
        raise ValueError(
            f"observer: expected {type(rule).__name__}.range to return finite numbers, the smaller "
            f"first, got {chosen!r}"
        )
    return lo, hi


_NO_COUNTS = (np.zeros(1), np.zeros(0), 0.0)


def _sorted_counts(counts: npt.NDArray[np.int64]) -> tuple[F64, F64, float]:
    """Edges and counts in the order of the values; the two bins around 0 are the zeros."""
    half = _BINS // 2
    # Edges of the positive bins: the floats whose lower bits are 0. The last bins are inf and NaN.
    last = int(np.float32(np.inf).view(np.uint32)) >> _SHIFT
    upper = (np.arange(last + 1, dtype=np.uint32) << _SHIFT).view(np.float32).astype(np.float64)
    upper[-1] = float(np.finfo(np.float32).max)
    positive, negative = counts[1:last], counts[half + 1 : half + last]
    edges = np.concatenate([-upper[:0:-1], upper[1:]])
    # Between the smallest negative and positive edges lie the zeros, and what is as good as zero.
    ordered = np.concatenate([negative[::-1], [0], positive]).astype(np.float64)
    return edges, ordered, float(counts[0] + counts[half])
