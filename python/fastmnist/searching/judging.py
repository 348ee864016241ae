"""How a candidate compares with the original: on rows kept apart, in time, in size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmnist.compilation.compiling import compile as compile_model
from fastmnist.data.arguments import run_model
from fastmnist.data.batch import Batch, BatchFn, tree_map
from fastmnist.data.batches import iter_batches
from fastmnist.data.meaning import meaning_of
from fastmnist.display.words import kind_of
from fastmnist.measuring.evaluation import in_mode
from fastmnist.measuring.metrics import ACCURACY, Metric, unit_of
from fastmnist.measuring.scoring import LossFn, hits
from fastmnist.measuring.tally import Tally
from fastmnist.measuring.turns import time_batches
from fastmnist.rewriting.verify import Rows
from fastmnist.saving.save_load import size

_SAMPLES = 64  # bootstrap samples of the rows, for the spread of a metric that is not a mean
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
        self.metric = metric
        self.score, self._values = self._score(outputs)
        self._resampled = None if self._values is not None else self._resample(outputs)

    @property
    def digest(self) -> str:
        """What tells these rows from others."""
        digest = hashlib.sha256()

        def take(tensor: Tensor) -> Tensor:
            digest.update(f"{tensor.dtype} {[*tensor.shape]}".encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
            return tensor

        for batch in self._batches:
            tree_map(take, (batch.args, batch.kwargs, batch.target))
        return digest.hexdigest()[:16]

    def outputs(self, model: Any) -> Any:
        """What a model makes of all rows."""
        module = model if isinstance(model, nn.Module) else None
        with torch.inference_mode(), in_mode(module, training=False):
            found = [run_model(model, batch, "validation") for batch in self._batches]
        for part in found:
            if isinstance(part, tuple | list | Mapping):
                raise TypeError(
                    f"model: expected one tensor of outputs to judge by, got {kind_of(part)}: "
                    "wrap it in a module that returns that tensor alone"
                )
        return torch.cat([*map(torch.as_tensor, found)])

    def loss(self, model: Any) -> Loss:
        """Hold a candidate against the original."""
        outputs = self.outputs(model)
        score, values = self._score(outputs)
        if values is not None and self._values is not None:
            lost = int((self._values & ~values).sum())
            won = int((values & ~self._values).sum())
            n = values.numel()  # for sequences, more than the number of rows
            return Loss(score, 100 * (lost - won) / n, 100 * paired_error(lost, won, n))
        drop = self.metric.loss_of(self.score, score)
        drop = drop if math.isfinite(drop) else math.inf
        drawn = self._resample(outputs)
        assert self._resampled is not None
        apart = np.asarray(drawn) - np.asarray(self._resampled)
        apart = apart[np.isfinite(apart)]
        error = float(apart.std(ddof=1)) if len(apart) > 1 else math.inf
        error *= unit_of(self.metric.name)
        return Loss(score, drop, error)

    @property
    def first(self) -> Batch:
        """The first batch of them, up to 1,024 rows: what times are measured on."""
        return self._batches[0]

    def _score(self, outputs: Any) -> tuple[float, Tensor | None]:
        score = self.metric(outputs, self._targets)
        # The user's own function may be called accuracy, too: only it knows what is correct.
        is_counted = self.metric == ACCURACY
        return score, hits(outputs, self._targets, probabilities=True) if is_counted else None

    def _resample(self, outputs: Any) -> list[float]:
        found, generator = [], np.random.default_rng(_SEED)
        for _ in range(_SAMPLES):
            index = torch.from_numpy(generator.integers(0, self.n, self.n))
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


@dataclass(frozen=True)
class Runner:
    """A model as it is timed: made once, however often others are timed beside it.

    Attributes
    ----------
    net : CompiledModel or nn.Module
    is_compiled : bool
    size : int
        Bytes of its file.
    """

    net: Any
    is_compiled: bool
    size: int

    @classmethod
    def of(cls, model: nn.Module, judge: Judge) -> Runner:
        """Compile it, where that can be."""
        net, is_compiled = runnable(model, Rows.first_of(judge.first, "validation"))
        return cls(net, is_compiled, size(model))


def costs(runners: Sequence[Runner], judge: Judge) -> list[Cost]:
    """Measure models beside each other; the first is what the others' times are scaled by.

    Times are ratios to the first one's, times the first one's: a slow moment hits all alike.
    """
    first = judge.first
    sizes = [1, min(_LARGE, first.size)]
    with torch.inference_mode():
        single, many = time_batches(
            [one.net for one in runners], [first] * len(runners), sizes, _ROUNDS, _SECONDS
        )
    return [
        Cost(
            single[0].p50 / single[i].ratio,
            sizes[1] / (many[0].p50 / many[i].ratio),
            one.size,
            one.is_compiled,
        )
        for i, one in enumerate(runners)
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
