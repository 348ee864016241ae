"""A metric: a name, a direction, and a number computed over a whole data set, never over batches.

What a `metric=` argument may be, everywhere:

- a name: ``"accuracy"``, ``"mse"``, ``"mae"``, ``"rmse"``, ``"r2"``, ``"f1"``, ``"auc"``
  (:mod:`fastmnist.measuring.named_metrics` defines them);
- a loss of torch (``nn.MSELoss()``, ``F.mse_loss``): less is better;
- an object of torchmetrics, or of its form: ``update``, ``compute``, ``higher_is_better``;
- a function of ``sklearn.metrics``: ``…_score`` is better greater, ``…_error`` and ``…_loss`` less;
- any function ``f(outputs, targets)``, with ``greater_is_better=`` where the direction matters;
- a :class:`Metric`, which says all that itself.

None is the accuracy where targets are classes, and R² where they are other floats.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fastmnist.measuring.foreign_metrics import foreign_metric
from fastmnist.measuring.named_metrics import NAMED
from fastmnist.measuring.scoring import match_dtype, same_but_for_ones

MetricLike: TypeAlias = Any  # str | Metric | Callable[[Any, Any], Any] | an object of torchmetrics


@dataclass(frozen=True)
class Metric:
    """A metric to judge models by.

    Parameters
    ----------
    name : str
        The heading of its column, and its key in JSON. A metric called "accuracy" is a share, 0…1,
        that is printed in percent; its losses are counted in points.
    compute : callable
        ``compute(outputs, targets)`` takes all rows at once and returns a number, or a tensor that
        is averaged.
    greater_is_better : bool or None
        None if unknown.

    Examples
    --------
    >>> import torch
    >>> worst = Metric("worst", lambda y, t: (y - t).abs().max(), greater_is_better=False)
    >>> worst(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    2.0
    >>> worst.loss_of(before=2.0, after=2.5)
    0.5
    """

    name: str
    compute: Callable[[Any, Any], Any]
    greater_is_better: bool | None = None

    def __call__(self, outputs: Any, targets: Any) -> float:
        """Give its value.

        Raises
        ------
        TypeError
            If ``compute`` returns no number.
        """
        targets = match_dtype(outputs, targets)
        value = self.compute(outputs, targets)
        if _differ_by_ones(outputs, targets):
            self._check_pairs(outputs, targets)
        if isinstance(value, Tensor):
            return float(value.detach().double().mean())
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"metric: expected a number or a tensor from '{self.name}', got "
                f"{type(value).__name__}: give one that returns one number"
            ) from None

    def _check_pairs(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError if ``[N] - [N, 1]`` is broadcast to all pairs, ``[N, N]``, in silence.

        A few rows tell: the value is that of all pairs, and not that of each with its own.
        """
        few, own = outputs[:64], targets[:64]
        try:
            value, pairs, each = (
                torch.as_tensor(self.compute(*both)).double()
                for both in (
                    (few, own),
                    torch.broadcast_tensors(few, own),
                    (few.reshape(-1), own.reshape(-1)),
                )
            )
        except Exception:  # it objects to their shapes
            return
        if torch.allclose(value, pairs, rtol=1e-4) and not torch.allclose(value, each, rtol=1e-4):
            raise ValueError(
                f"metric: expected '{self.name}' to compare outputs with their own targets, got "
                f"one that compares each with all, as {list(outputs.shape)} against "
                f"{list(targets.shape)} broadcasts: give targets of the outputs' shape"
            )

    def loss_of(self, before: float, after: float) -> float:
        """Return how much worse `after` is, in the metric's unit; for accuracy, in points.

        Raises
        ------
        ValueError
            If the direction is unknown.
        """
        if self.greater_is_better is None:
            raise _no_direction(self.name, "to tell what is worse")
        worse = before - after if self.greater_is_better else after - before
        return worse * unit_of(self.name)


_NAMED = {name: Metric(name, *definition) for name, definition in NAMED.items()}
ACCURACY, R2 = _NAMED["accuracy"], _NAMED["r2"]


def _differ_by_ones(outputs: Any, targets: Any) -> bool:
    """Whether floats are one a row in both, ``[N]`` here and ``[N, 1]`` there."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        return False
    floats = outputs.is_floating_point() and targets.is_floating_point()
    return floats and outputs.shape != targets.shape and same_but_for_ones(outputs, targets)


def metric_of(metric: MetricLike, greater_is_better: bool | None = None) -> Metric | None:
    """Read the arguments `metric` and `greater_is_better`; None stays None: the default.

    Raises
    ------
    TypeError, ValueError
        If it is no metric, or the direction is not that of the metric.

    Examples
    --------
    >>> metric_of("mae").greater_is_better
    False
    """
    if greater_is_better is not None and not isinstance(greater_is_better, bool):
        raise TypeError(
            "greater_is_better: expected True, False or None, got "
            f"{type(greater_is_better).__name__}"
        )
    if metric is None:
        if greater_is_better is None:
            return None
        raise ValueError(
            "greater_is_better: expected beside metric= alone, got no metric: give it too, or "
            "leave it out"
        )
    found = _read(metric)
    known = found.greater_is_better
    if known is not None and greater_is_better not in (None, known):
        raise ValueError(
            f"greater_is_better: expected {known}, as '{found.name}' is better "
            f"{'greater' if known else 'less'}, got {greater_is_better}: leave it out, or give "
            "fm.Metric(name, function, greater_is_better=…)"
        )
    return found if known is not None else replace(found, greater_is_better=greater_is_better)


def directed_metric(
    metric: MetricLike, greater_is_better: bool | None, purpose: str
) -> Metric | None:
    """Read a metric for a `purpose` that needs its direction, such as "max_drop".

    Raises
    ------
    TypeError, ValueError
        As :func:`metric_of`; if the direction is not known.
    """
    found = metric_of(metric, greater_is_better)
    if found is not None and found.greater_is_better is None:
        raise _no_direction(found.name, f"for {purpose}")
    return found


def unit_of(name: str) -> float:
    """Give the factor from a metric's value to what is printed: 100 for accuracy, else 1."""
    return 100.0 if name == ACCURACY.name else 1.0


def shown(name: str, value: float) -> str:
    """Give a value as tables have it."""
    return f"{value:.2%}" if name == ACCURACY.name else f"{value:.4g}"


def shown_difference(name: str, difference: float) -> str:
    """Give a difference of two values as tables have it: of accuracy in points."""
    return f"{difference * 100:+.2f}" if name == ACCURACY.name else f"{difference:+.4g}"


def direction_note(name: str, greater_is_better: bool | None) -> str:
    """Tell in a table's words which direction is better; "" of accuracy, as everyone knows."""
    if name == ACCURACY.name:
        return ""
    if greater_is_better is None:
        return f"{name}: which direction is better was not said (greater_is_better=)"
    return f"{name}: {'greater' if greater_is_better else 'less'} is better"


def _read(metric: MetricLike) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        name = metric.lower()
        if name not in _NAMED:
            near = difflib.get_close_matches(name, _NAMED, n=1)
            hint = f": did you mean '{near[0]}'?" if near else ""
            raise ValueError(
                f"metric: expected one of {', '.join(_NAMED)}, or a function of outputs and "
                f"targets, got '{metric}'{hint or ': give one of them'}"
            )
        return _NAMED[name]
    if isinstance(metric, type) or not (callable(metric) or hasattr(metric, "compute")):
        got = f"the class {metric.__name__}" if isinstance(metric, type) else repr(metric)
        raise TypeError(
            f"metric: expected a name, a function of outputs and targets, or fm.Metric, got {got}: "
            "give one of them"
        )
    if (foreign := foreign_metric(metric)) is not None:
        return Metric(*foreign)
    return Metric(_name_of(metric), metric)


def _name_of(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    return "metric" if name == "<lambda>" else str(name)


def _no_direction(name: str, purpose: str) -> ValueError:
    return ValueError(
        f"metric: expected to know whether more or less of '{name}' is better, {purpose}: give "
        "greater_is_better=True or False with it"
    )
