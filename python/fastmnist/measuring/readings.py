"""Whether uint8 pixels are read as the model was trained on them.

Where nobody said what a pixel stands for, it is read as ``p/255``. A model that was trained on
``images.float()``, or under a Normalize, then computes on other numbers and is quietly bad. Two
things tell the readings apart: labels, by accuracy, or by R² where they are the values of a
regression; without labels, how much the answers say about the rows (the mutual information of row
and class, ``H(mean p) - mean H(p)``, as in J. Bridle, A. Heading and D. MacKay, "Unsupervised
classifiers, mutual information and phantom targets", 1991): a model on numbers that are 255 times
too small gives nearly the same answer to every row.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastmnist.data.batch import Batch
from fastmnist.display.callers import callers_level
from fastmnist.measuring.named_metrics import values_of
from fastmnist.measuring.r_squared import RSquared
from fastmnist.measuring.scoring import same_but_for_ones
from fastmnist.pixels import PixelNormalization

MOST_ROWS = 256  # that readings are compared on
_FEWEST_ROWS = 32
_GAIN, _GAIN_OF_R2 = 0.05, 0.2  # in accuracy and in R², from which another reading is believed
_LEAST = 0.3  # below that no reading fits
_LITTLE, _MUCH = 0.05, 0.65  # shares of the information, of the other's and of what can be had
_RAW = PixelNormalization.of_range("0..255")
_OTHERS = {
    'pixels="0..255" (or std=1/255)': _RAW,
    "mean=0.5, std=0.5": PixelNormalization.of(0.5, 0.5),
    "mean=0.1307, std=0.3081": PixelNormalization.of(0.1307, 0.3081),
}


class Readings:
    """Keeps the first uint8 rows that go by, to compare readings of them afterwards.

    Parameters
    ----------
    is_told : bool
        Whether the meaning of a pixel was specified: then there is nothing to doubt.
    """

    def __init__(self, is_told: bool) -> None:
        self._wanted = not is_told
        self._pixels: list[Tensor] = []
        self._targets: list[Tensor | None] = []

    def add(self, batch: Batch) -> None:
        """Take in a batch, of a model with one argument."""
        if batch.pixels is None or len(batch.args) != 1 or batch.kwargs:
            self._wanted = False
            return
        if self._wanted and sum(map(len, self._pixels)) < MOST_ROWS:
            target = batch.target
            known = isinstance(target, Tensor) and (
                target.dtype == torch.int64 or target.is_floating_point()
            )
            target = target if known else None
            self._pixels.append(batch.pixels[:MOST_ROWS])
            self._targets.append(None if target is None else target[:MOST_ROWS])

    def warn(self, run: Callable[[Tensor], Any]) -> None:
        """Warn if another reading than p/255 fits the model `run` clearly better."""
        if not (self._wanted and self._pixels):
            return
        known = [target for target in self._targets if target is not None]
        target = torch.cat(known) if len(known) == len(self._targets) else None
        said = doubt_about_pixels(run, torch.cat(self._pixels), target)
        if said is not None:
            warnings.warn(said, UserWarning, stacklevel=callers_level())


def doubt_about_pixels(
    run: Callable[[Tensor], Any], pixels: Tensor, target: Tensor | None
) -> str | None:
    """Say in a sentence if another reading than ``p/255`` fits the model clearly better.

    Parameters
    ----------
    run : callable
        The model in eval mode, from floats to outputs.
    pixels : torch.Tensor, uint8
        Rows as they are given; the first 256 serve.
    target : torch.Tensor or None
        Their classes, int64, or floats of a regression, if they are known.

    Returns
    -------
    str or None
        None where both readings do, or nothing can be said: outputs that are no classes, few rows.

    Examples
    --------
    >>> rows = torch.arange(40, dtype=torch.uint8)[:, None]
    >>> by_size = lambda x: torch.cat([16 - x, x - 16], dim=1)  # trained on p: which half is it?
    >>> doubt_about_pixels(by_size, rows, (rows[:, 0] > 16).long())[:44]
    'uint8 rows are read as p/255, as nothing sai'
    """
    pixels = pixels[:MOST_ROWS]
    target = None if target is None else target[:MOST_ROWS]
    if len(pixels) < _FEWEST_ROWS:
        return None
    explained = None
    if target is not None and target.is_floating_point():
        explained = _fit(run, pixels, target, PixelNormalization())
    if target is not None and explained is not None:
        fits = (_fit(run, pixels, target, reading) for reading in _OTHERS.values())
        wanted = max(explained, 0.0) + _GAIN_OF_R2
        words = "the model explains {} of the targets of {} rows (R²)"
        return _by_targets(explained, fits, len(pixels), wanted, words)
    as_read = _classes(run, pixels, PixelNormalization())
    if as_read is None:
        return None
    if target is not None and target.dtype == torch.int64 and target.shape == pixels.shape[:1]:
        target = target.to(as_read.device)
        now = _accuracy(as_read, target)
        others = (
            None
            if (classes := _classes(run, pixels, reading)) is None
            else _accuracy(classes, target)
            for reading in _OTHERS.values()
        )
        return _by_targets(
            now, others, len(pixels), max(now + _GAIN, _LEAST), "{} of {} rows are right"
        )
    return _by_information(run, pixels, as_read)


def _by_targets(
    now: float, others: Iterator[float | None], rows: int, wanted: float, words: str
) -> str | None:
    """Name the reading that is best, if it has what is `wanted`; `others` are run only for that."""
    if wanted > 1:
        return None
    found = [-math.inf if value is None else value for value in others]
    best = max(found)
    if best < wanted:
        return None
    name = [*_OTHERS][found.index(best)]
    share = f"{max(now, 0.0):.0%}"
    return _sentence(f"under which {words.format(share, rows)}; with {name} it is {best:.0%}", name)


def _by_information(run: Callable[[Tensor], Any], pixels: Tensor, as_read: Tensor) -> str | None:
    raw = _classes(run, pixels, _RAW)
    if raw is None:
        return None
    now, other, most = _information(as_read), _information(raw), math.log(as_read.shape[1])
    if not (other > _MUCH * most and now < _LITTLE * other):
        return None
    return _sentence(
        "under which the model gives nearly the same answer to every row; with values of 0 to 255 "
        "it tells them apart",
        'pixels="0..255" (or std=1/255), or the mean= and std= of its training,',
    )


def _sentence(found: str, name: str) -> str:
    return (
        f"uint8 rows are read as p/255, as nothing said what a pixel stands for, {found}: if the "
        f"model was trained on such values, give {name} where it is quantized, compiled, evaluated "
        "or compared, or float rows, made as for training"
    )


def _classes(
    run: Callable[[Tensor], Any], pixels: Tensor, reading: PixelNormalization
) -> Tensor | None:
    """Log-probabilities ``[N, classes]`` under a reading; None if the outputs are no such thing."""
    outputs = run(reading.to_float(pixels))
    outputs = outputs if isinstance(outputs, Tensor) else None
    if outputs is None or outputs.dim() != 2 or not outputs.is_floating_point():
        return None
    if len(outputs) != len(pixels) or outputs.shape[1] < 2:
        return None
    values = outputs.detach().float()
    if not bool(torch.isfinite(values).all()):
        return None
    ones = torch.ones(len(values), dtype=torch.float32, device=values.device)
    if bool((values >= 0).all()) and torch.allclose(values.sum(1), ones, atol=1e-3):
        return values.clamp(min=1e-30).log()  # probabilities already
    return torch.log_softmax(values, dim=1)


def _fit(
    run: Callable[[Tensor], Any], pixels: Tensor, target: Tensor, reading: PixelNormalization
) -> float | None:
    """R² under a reading; None of targets that may be classes, or unlike the outputs."""
    outputs = run(reading.to_float(pixels))
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        return None
    if not same_but_for_ones(outputs, target) or bool(((target == 0) | (target == 1)).all()):
        return None
    found = RSquared()
    found.add(*values_of("r2", outputs, target))
    value = found.value()
    return value if math.isfinite(value) else None


def _accuracy(classes: Tensor, target: Tensor) -> float:
    return float((classes.argmax(1) == target).double().mean())


def _information(classes: Tensor) -> float:
    """Mutual information of row and class, in nats."""
    p, mean = classes.exp(), classes.exp().mean(0)
    of_mean = -(mean * mean.clamp(min=1e-30).log()).sum()
    return float(of_mean + (p * classes).sum(1).mean())
