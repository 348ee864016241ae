"""Metrics of torch, torchmetrics and scikit-learn, whose directions and forms are known.

Nothing is imported for it: they are told by the forms of their classes and functions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from fastmnist.measuring.scoring import is_torch_loss, mean_loss, same_but_for_ones

Known: TypeAlias = tuple[str, Callable[[Any, Any], Any], bool | None]

# scikit-learn's metrics that take scores of the classes instead of the class.
_OF_SCORES = frozenset(
    {
        "average_precision_score",
        "brier_score_loss",
        "d2_brier_score",
        "d2_log_loss_score",
        "hinge_loss",
        "log_loss",
        "roc_auc_score",
        "top_k_accuracy_score",
    }
)


def foreign_metric(metric: Any) -> Known | None:
    """Give name, function of outputs and targets, and whether more is better; None if unknown.

    Examples
    --------
    >>> from torch import nn
    >>> name, _, greater_is_better = foreign_metric(nn.MSELoss())
    >>> name, greater_is_better
    ('MSELoss', False)
    """
    if is_torch_loss(metric):
        return _name_of(metric), partial(mean_loss, metric), False
    if all(callable(getattr(metric, part, None)) for part in ("update", "compute", "reset")):
        return _name_of(metric), partial(_by_updates, metric), _known_direction(metric)
    if _is_sklearn(metric):
        name = _name_of(metric)
        # Its guide: "_score" is to be maximized, "_error", "_loss" and "_deviance" minimized.
        endings = {"_score": True, "_error": False, "_loss": False, "_deviance": False}
        direction = next((up for end, up in endings.items() if name.endswith(end)), None)
        return name, partial(_by_arrays, metric), False if name == "brier_score_loss" else direction
    return None


def _by_updates(metric: Any, outputs: Any, targets: Any) -> Any:
    """On a copy, so that an object that is in use elsewhere keeps its state."""
    own = copy.deepcopy(metric)
    own.reset()
    tensors = isinstance(outputs, Tensor) and isinstance(targets, Tensor)
    if tensors and same_but_for_ones(outputs, targets):  # such objects refuse [N, 1] and [N]
        targets = targets.reshape(outputs.shape)
    with _explained(metric, outputs, targets):
        own.update(outputs, targets)
        return own.compute()


def _by_arrays(metric: Any, outputs: Any, targets: Any) -> Any:
    """scikit-learn takes targets first, and classes or their probabilities."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        raise TypeError(
            f"metric {_name_of(metric)}: expected tensors of outputs and targets, got "
            f"{type(outputs).__name__} and {type(targets).__name__}: give a function of both"
        )
    y, t = outputs.detach().cpu().double(), targets.detach().cpu()
    if not t.is_floating_point() and y.ndim == 2 and y.shape[1] > 1 and t.ndim == 1:
        if _name_of(metric) not in _OF_SCORES:
            y = y.argmax(1)
        elif bool((y < 0).any()) or bool(((y.sum(1) - 1).abs() > 1e-4).any()):
            y = y.softmax(1)
        if y.ndim == 2 and y.shape[1] == 2 and _name_of(metric) != "log_loss":
            y = y[:, 1]
    elif same_but_for_ones(y, t):
        y = y.reshape(t.shape)
    with _explained(metric, outputs, targets):
        return metric(t.numpy(), y.numpy())


@contextmanager
def _explained(metric: Any, outputs: Any, targets: Any) -> Iterator[None]:
    """Say whose error it is, and what it was given."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        got = " and ".join(
            f"{part.dtype} {[*part.shape]}" if isinstance(part, Tensor) else type(part).__name__
            for part in (outputs, targets)
        )
        raise ValueError(
            f"metric {_name_of(metric)}: expected outputs and targets that it takes, got {got}: "
            f"{error}: give its options with functools.partial, or a function of both"
        ) from error


def _known_direction(metric: Any) -> bool | None:
    direction = getattr(metric, "higher_is_better", None)
    return direction if isinstance(direction, bool) else None


def _is_sklearn(metric: Any) -> bool:
    while isinstance(metric, partial):
        metric = metric.func
    return str(getattr(metric, "__module__", "")).startswith("sklearn.metrics")


def _name_of(metric: Any) -> str:
    while isinstance(metric, partial):
        metric = metric.func
    return str(getattr(metric, "__name__", type(metric).__name__))
