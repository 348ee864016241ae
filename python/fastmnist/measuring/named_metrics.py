"""The metrics that have names, each of all rows at once.

=============  ===================================================================================
name           definition
=============  ===================================================================================
``accuracy``   share of rows whose greatest output is the target's class
``mse``        mean of ``(output - target)²`` over all rows and outputs
``mae``        mean of ``|output - target|``
``rmse``       square root of ``mse``: of several outputs one root, that of the mean over them all
               (scikit-learn takes a root for each output, and the mean of those)
``r2``         coefficient of determination, as ``sklearn.metrics.r2_score`` computes it: of several
               outputs the mean of theirs
``f1``         macro average over the classes among targets and answers: the mean of their F1, each
               class counting alike, also where there are two; one output for two classes, and
               several labels a row, are refused, as nothing says from which value on a label holds
``auc``        area under the ROC curve; of two classes that of the second, of more the macro
               average of one class against the rest; targets 0 and 1 of [N, K] outputs: the mean
               of the K, each with both values among its targets
=============  ===================================================================================

``f1`` and ``auc`` are scikit-learn's. All is computed in float64; of outputs that are NaN
or infinite ``r2`` and ``auc`` are NaN. Outputs [N, 1] and targets [N] are of one shape here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from fastmnist.measuring.r_squared import RSquared
from fastmnist.measuring.scoring import are_labels, hits, same_but_for_ones

Array = npt.NDArray[Any]


def _accuracy(outputs: Any, targets: Any) -> float:
    right = hits(outputs, targets, probabilities=True)
    if right is None:
        raise no_accuracy(outputs, targets)
    return float(right.double().mean())


def _mse(outputs: Any, targets: Any) -> float:
    y, t = values_of("mse", outputs, targets)
    return float(np.mean((y - t) ** 2))


def _mae(outputs: Any, targets: Any) -> float:
    y, t = values_of("mae", outputs, targets)
    return float(np.mean(np.abs(y - t)))


def _rmse(outputs: Any, targets: Any) -> float:
    y, t = values_of("rmse", outputs, targets)
    return float(np.sqrt(np.mean((y - t) ** 2)))


def _r2(outputs: Any, targets: Any) -> float:
    found = RSquared()
    found.add(*values_of("r2", outputs, targets))
    return found.value()


def _f1(outputs: Any, targets: Any) -> float:
    from sklearn.metrics import f1_score

    y, t = _tensors("f1", outputs, targets)
    if y.is_floating_point() and hits(y, t, probabilities=True) is not None:
        y, t = y.argmax(1), t.argmax(1) if t.is_floating_point() else t
    floats = y.is_floating_point() or t.is_floating_point()
    if floats or y.shape != t.shape or are_labels(y, t):
        raise ValueError(
            "metric f1: expected outputs [N, classes] and targets of classes, got "
            f"{about(outputs)} and {about(targets)}: for one logit a row, or several labels, say "
            "from which value on a label holds, with metric=fm.Metric('f1', lambda y, t: "
            "sklearn.metrics.f1_score(t, y > 0), greater_is_better=True), average='macro' for "
            "several labels"
        )
    return float(f1_score(t.flatten().numpy(), y.flatten().numpy(), average="macro"))


def _auc(outputs: Any, targets: Any) -> float:
    from sklearn.metrics import roc_auc_score

    y, t = _tensors("auc", outputs, targets)
    scores, classes = y.double().numpy(), t.numpy()
    if not np.isfinite(scores).all():
        return float("nan")
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if classes.ndim == 2 and classes.shape[1] == 1:
        classes = classes[:, 0]
    several = scores.ndim == 2 and classes.ndim == 1
    expected = scores.shape[1] if several else 2
    columns = classes.T if classes.ndim == 2 else [classes]
    found = set(np.unique(classes).tolist())
    complete = all(set(np.unique(column).tolist()) == set(range(expected)) for column in columns)
    if not complete or scores.ndim > 2 or (scores.shape != classes.shape and not several):
        raise ValueError(
            f"metric auc: expected targets of each of {expected} classes, 0 to {expected - 1}, got "
            f"{about(outputs)} and {about(targets)} of {len(found)} values, or not of each in "
            "every column: give data with every class, or a metric of your own"
        )
    if several and expected == 2:
        scores = scores[:, 1] - scores[:, 0]
    elif several:
        scores = _probabilities(scores)
    return float(roc_auc_score(classes, scores, multi_class="ovr", average="macro"))


# name -> function of outputs and targets, whether more is better
NAMED: dict[str, tuple[Callable[[Any, Any], float], bool]] = {
    "accuracy": (_accuracy, True),
    "mse": (_mse, False),
    "mae": (_mae, False),
    "rmse": (_rmse, False),
    "r2": (_r2, True),
    "f1": (_f1, True),
    "auc": (_auc, True),
}


def no_accuracy(outputs: Any, targets: Any) -> ValueError:
    """Say that outputs and targets allow no accuracy, and what does."""
    return ValueError(
        "outputs, targets: expected float [N, classes] and integers [N] for an accuracy, got "
        f"{about(outputs)} and {about(targets)}: give metric=, such as 'r2' or 'mae' for a "
        "regression, 'auc' for one output that tells two classes apart, or a function of outputs "
        "and targets"
    )


def about(value: Any) -> str:
    """Tell type and shape of a value, for an error."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


def _tensors(name: str, outputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
        raise TypeError(
            f"metric {name}: expected tensors of outputs and targets, got {about(outputs)} and "
            f"{about(targets)}: give a function of outputs and targets as metric="
        )
    return outputs.detach().cpu(), targets.detach().cpu()


def values_of(name: str, outputs: Any, targets: Any) -> tuple[Array, Array]:
    """Give outputs and targets as float64 [N, K], of one shape.

    Raises
    ------
    TypeError, ValueError
        If they are no tensors, or of other shapes, for the metric that is named.
    """
    y, t = _tensors(name, outputs, targets)
    if same_but_for_ones(y, t):
        t = t.reshape(y.shape)
    if y.shape != t.shape:
        raise ValueError(
            f"metric {name}: expected outputs and targets of one shape, got {about(outputs)} and "
            f"{about(targets)}: give a function of outputs and targets as metric="
        )
    n = len(y) if y.ndim else 1
    return y.reshape(n, -1).double().numpy(), t.reshape(n, -1).double().numpy()


def _probabilities(scores: Array) -> Array:
    """Rows that add up to 1: as they are, or the softmax of logits."""
    if (scores >= 0).all() and np.allclose(scores.sum(1), 1, atol=1e-4):
        return np.asarray(scores / scores.sum(1, keepdims=True))
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))
