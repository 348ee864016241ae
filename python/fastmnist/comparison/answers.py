"""Which rows a variant answers otherwise than the first one, and which classes lose by that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fastmnist.comparison.rows import Flip, Pixels
from fastmnist.data.batch import Batch
from fastmnist.measuring.evaluation import Evaluation
from fastmnist.pixels import PixelNormalization

MOST_FLIPS = 24
_MOST_CLASSES = 10_000
_MOST_SIDE = 32
_LEVEL = 0.05


@dataclass(frozen=True)
class Answers:
    """What a comparison of two variants' classes tells; see :class:`Row` for the fields."""

    p_value: float | None = None
    recall: tuple[float, ...] = ()
    losing: tuple[int, ...] = ()
    flips: tuple[Flip, ...] = ()
    flip_count: int = 0
    correct: bytes | None = None


def answers_of(first: Evaluation, own: Evaluation, rows: Batch, pixels: Any) -> Answers:
    """Compare the classes of two variants on the same rows.

    Parameters
    ----------
    first, own : Evaluation
        The same one for the first variant itself.
    rows : Batch
        What they were evaluated on.
    pixels : PixelNormalization or None
        What an uint8 pixel of these rows stands for.
    """
    if own.correct is None or own.predicted is None or own.actual is None:
        return Answers()
    correct = np.packbits(own.correct.numpy()).tobytes()
    recall = _recall(own.correct, own.actual)
    if own is first or first.correct is None or first.predicted is None:
        return Answers(recall=recall, correct=correct)
    differ = first.predicted != own.predicted
    found = torch.nonzero(differ).flatten()
    # Where a row has several targets, an index is none of a row.
    images = _images(rows, pixels) if len(found) and len(own.actual) == rows.size else None
    flips = tuple(
        Flip(
            index,
            int(own.actual[index]),
            int(first.predicted[index]),
            int(own.predicted[index]),
            None if images is None else images(index),
        )
        for index in found[:MOST_FLIPS].tolist()
    )
    return Answers(
        mcnemar(first.correct, own.correct),
        recall,
        _losing(first.correct, own.correct, own.actual),
        flips,
        len(found),
        correct,
    )


def mcnemar(before: Tensor, after: Tensor) -> float:
    """The exact test (Q. McNemar, Psychometrika 12, 1947): do the two err on different rows?

    Examples
    --------
    >>> right = torch.ones(10, dtype=torch.bool)
    >>> mcnemar(right, right), mcnemar(right, ~right)
    (1.0, 0.001953125)
    """
    from scipy.stats import binomtest

    lost = int((before & ~after).sum())
    won = int((after & ~before).sum())
    return 1.0 if lost + won == 0 else float(binomtest(lost, lost + won, 0.5).pvalue)


def class_counts(result: Evaluation) -> list[int]:
    """How many rows each class has; empty where there are no classes, or too many to tell."""
    if result.actual is None or not _are_few(result.actual):
        return []
    counts: list[int] = torch.bincount(result.actual).tolist()
    return counts


def digest_of(result: Evaluation) -> str | None:
    """What tells that two reports are of the same rows: a digest of their classes, in order."""
    if result.actual is None:
        return None
    return hashlib.sha256(result.actual.numpy().astype("<i4").tobytes()).hexdigest()[:32]


def _are_few(actual: Tensor) -> bool:
    return bool(len(actual)) and int(actual.min()) >= 0 and int(actual.max()) < _MOST_CLASSES


def _recall(correct: Tensor, actual: Tensor) -> tuple[float, ...]:
    if not _are_few(actual):
        return ()
    counts = torch.bincount(actual).double()
    right = torch.bincount(actual, weights=correct.double())
    return tuple((right / counts).tolist())


def _losing(before: Tensor, after: Tensor, actual: Tensor) -> tuple[int, ...]:
    """Classes whose rows were right more often, by a test of each that asks for more, the more
    classes are tested (Bonferroni)."""
    if not _are_few(actual):
        return ()
    lost = torch.bincount(actual[before & ~after], minlength=int(actual.max()) + 1)
    won = torch.bincount(actual[after & ~before], minlength=len(lost))
    tested = max(int((torch.bincount(actual) > 0).sum()), 1)
    found = []
    for index in torch.nonzero(lost > won).flatten().tolist():
        of_class = actual == index
        if mcnemar(before[of_class], after[of_class]) < _LEVEL / tested:
            found.append(index)
    return tuple(found)


def _images(
    rows: Batch, pixels: PixelNormalization | None
) -> Callable[[int], Pixels | None] | None:
    """What gives a row as an image; None where rows are none."""
    source = rows.pixels if rows.pixels is not None else (rows.args[0] if rows.args else None)
    if not isinstance(source, Tensor) or not 3 <= source.dim() <= 4 or min(source.shape) < 1:
        return None
    is_uint8, colors = source.dtype == torch.uint8, source.shape[1] if source.dim() == 4 else 1
    # Floats of three dimensions are rather sequences.
    if not (is_uint8 or (source.is_floating_point() and source.dim() == 4)):
        return None
    if min(source.shape[-2:]) < 2 or colors not in (1, 3):
        return None
    low, high = (0.0, 255.0) if is_uint8 else _range_of(source, pixels)

    def image(index: int) -> Pixels:
        one = source[index].double().nan_to_num()
        one = (one.mean(0) if one.dim() == 3 else one).sub(low).mul(255 / max(high - low, 1e-12))
        if max(one.shape) > _MOST_SIDE:
            scale = _MOST_SIDE / max(one.shape)
            height, width = (max(1, round(side * scale)) for side in one.shape)
            one = F.adaptive_avg_pool2d(one[None], (height, width))[0]
        levels: list[list[int]] = one.round().clamp(0, 255).to(torch.int64).tolist()
        return tuple(tuple(line) for line in levels)

    return image


def _range_of(source: Tensor, pixels: PixelNormalization | None) -> tuple[float, float]:
    """What black and white are among floats: as is known, as they look, or their least and
    greatest."""
    finite = source.nan_to_num()
    low, high = float(finite.min()), float(finite.max())
    if pixels is not None and pixels.channels == 1:
        ends = pixels.to_float(torch.tensor([[0], [255]], dtype=torch.uint8)).flatten()
        black, white = float(ends[0]), float(ends[1])
        if black - 0.01 * (white - black) <= low and high <= white + 0.01 * (white - black):
            return black, white
    usual = [(0.0, white) for white in (1.0, 255.0) if low >= 0 and high <= white]
    return usual[0] if usual else (low, high)
