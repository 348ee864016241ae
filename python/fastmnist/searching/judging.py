"""How a candidate compares with the original: on rows kept apart, in time, in size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmnist.compilation.compiling import compile as compile_model
from fastmnist.data.arguments import run_model
from fastmnist.data.batch import Batch, BatchFn
from fastmnist.data.batches import iter_batches
from fastmnist.data.meaning import meaning_of
from fastmnist.measuring.evaluation import in_mode
from fastmnist.measuring.metrics import Metric, metric_of, unit_of
from fastmnist.measuring.scoring import LossFn, hits
from fastmnist.measuring.tally import Tally
from fastmnist.measuring.turns import time_batches
from fastmnist.rewriting.verify import Rows
from fastmnist.saving.save_load import size

_SAMPLES = 64  # of the rows, drawn anew, for the spread of a metric that is no mean
_SEED = 0
_ROUNDS, _SECONDS = 9, 2.0  # of timing, all batches together
_LARGE = 1024
_EXAMPLE = 8  # rows


@dataclass(frozen=True)
class Loss:
    """By how much a candidate is worse than the original, on the same rows.

    Attributes
    ----------
    score : float
        The candidate's.
    drop : float
        By how much that is worse, in points or in the metric's unit; below 0: it is better.
    error : float
        Standard error of `drop`, of rows drawn as these were.
    """

    score: float
    drop: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of such intervals hold the true drop (normal approximation, paired)."""
        return self.drop - 1.96 * self.error, self.drop + 1.96 * self.error


class Judge:
    """Holds the rows kept apart, and what the original makes of them.

    Parameters
    ----------
    original : nn.Module
    rows : data
    metric : Metric or None
        None: accuracy where targets are classes, R² where they are other floats.
    """

    def __init__(
        self,
        original: nn.Module,
        rows: Any,
        *,
        metric: Metric | None,
        loss_fn: LossFn | None,
        batch_fn: BatchFn | None,
    ) -> None:
        pixels = meaning_of(rows, original).pixels
        self._batches: list[Batch] = [
            *iter_batches(
                rows,
                split="test",
                batch_size=1024,
                batch_fn=batch_fn,
                pixels=pixels,
                model=original,
                purpose="search",
                name="validation",
            )
        ]
        self._targets = _joined([batch.target for batch in self._batches])
        self.n = sum(batch.size for batch in self._batches)
        outputs = self.outputs(original)
        if metric is None:
            tally = Tally(None, loss_fn)
            tally.add(outputs, self._targets)
            tally.value()
            metric = tally.metric
        assert metric is not None
        if metric.greater_is_better is None:
            metric.loss_of(0.0, 0.0)  # raises, and says what is missing
        self.metric = metric_of(metric) or metric
        self._is_share = unit_of(metric.name) == 100
        self.score, self._values = self._score(outputs)
        self._draws = np.random.default_rng(_SEED).integers(0, self.n, (_SAMPLES, self.n))
        self._resampled = None if self._is_share else self._resample(outputs)

    def outputs(self, model: Any) -> Any:
        """What a model makes of all rows."""
        module = model if isinstance(model, nn.Module) else None
        with torch.inference_mode(), in_mode(module, training=False):
            found = [
                torch.as_tensor(run_model(model, batch, "validation")) for batch in self._batches
            ]
        return torch.cat(found)

    def loss(self, model: Any) -> Loss:
        """Hold a candidate against the original."""
        outputs = self.outputs(model)
        score, values = self._score(outputs)
        if values is not None and self._values is not None:
            lost = int((self._values & ~values).sum())
            won = int((values & ~self._values).sum())
            return Loss(score, 100 * (lost - won) / self.n, 100 * paired_error(lost, won, self.n))
        drop = self.metric.loss_of(self.score, score)
        drop = drop if math.isfinite(drop) else math.inf
        drawn = self._resample(outputs)
        assert self._resampled is not None
        apart = np.asarray(drawn) - np.asarray(self._resampled)
        apart = apart[np.isfinite(apart)]
        error = float(apart.std(ddof=1)) if len(apart) > 1 else math.inf
        return Loss(score, drop, error)

    def rows(self, count: int) -> Rows:
        """The first rows, as a model is called with."""
        first = self._batches[0]
        return Rows.first_of(first, "validation")

    @property
    def first(self) -> Batch:
        """The first batch of them, up to 1,024 rows: what times are measured on."""
        return self._batches[0]

    def _score(self, outputs: Any) -> tuple[float, Tensor | None]:
        score = self.metric(outputs, self._targets)
        right = hits(outputs, self._targets, probabilities=True) if self._is_share else None
        return score, right

    def _resample(self, outputs: Any) -> list[float]:
        found = []
        for draw in self._draws:
            index = torch.from_numpy(draw)
            found.append(self.metric(outputs[index], self._targets[index]))
        return found


def paired_error(lost: int, won: int, n: int) -> float:
    """Standard error of a difference of two shares of the same rows.

    With one more difference than there are, half each way (A. Agresti, Y. Min, "Simple improved
    confidence intervals for comparing matched proportions", Statistics in Medicine 24, 2005): no
    difference among a hundred rows does not mean that there is none among others.

    Examples
    --------
    >>> round(paired_error(0, 0, 98), 3)
    0.01
    """
    total = n + 2
    return math.sqrt(max((lost + won + 1) - (lost - won) ** 2 / total, 0.0)) / total


@dataclass(frozen=True)
class Cost:
    """What a candidate takes.

    Attributes
    ----------
    latency : float
        Seconds of a call with one row: median.
    throughput : float
        Rows a second in batches of 1,024, or of as many as there are.
    size : int
        Bytes of its file.
    is_compiled : bool
        Whether it runs as one native call; else module by module.
    """

    latency: float
    throughput: float
    size: int
    is_compiled: bool


def runnable(model: nn.Module, rows: Rows) -> tuple[Any, bool]:
    """The model as people would run it: as one native call, or as it is where that can't be."""
    try:
        return compile_model(model, example=rows), True
    except (TypeError, ValueError, RuntimeError):
        return model, False


def costs(models: list[nn.Module], judge: Judge) -> list[Cost]:
    """Measure models beside each other; the first is what the others' times are scaled by.

    Times are ratios to the first one's, times the first one's: a slow moment hits all alike.
    """
    rows, first = judge.rows(_EXAMPLE), judge.first
    nets = [runnable(model, rows) for model in models]
    sizes = [1, min(_LARGE, first.size)]
    with torch.inference_mode():
        single, many = time_batches(
            [net for net, _ in nets], [first] * len(nets), sizes, _ROUNDS, _SECONDS
        )
    return [
        Cost(
            single[0].p50 / single[i].ratio,
            sizes[1] / (many[0].p50 / many[i].ratio),
            size(model),
            nets[i][1],
        )
        for i, model in enumerate(models)
    ]


def _joined(parts: list[Any]) -> Any:
    return torch.cat([torch.as_tensor(part) for part in parts])


def example_of(rows: Any, model: nn.Module, batch_fn: BatchFn | None) -> Rows:
    """Some rows as the model is called with."""
    pixels = meaning_of(rows, model).pixels
    batches = iter_batches(
        rows,
        split="test",
        batch_size=_EXAMPLE,
        max_samples=_EXAMPLE,
        batch_fn=batch_fn,
        pixels=pixels,
        model=model,
    )
    return Rows.first_of(next(batches), "data")
