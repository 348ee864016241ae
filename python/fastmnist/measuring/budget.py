"""How much may be lost: which layers a transform may change until a drop holds."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from torch import nn

from fastmnist.data.batches import check_repeatable
from fastmnist.measuring.evaluation import evaluate
from fastmnist.measuring.metrics import Metric, metric_of
from fastmnist.measuring.sqnr import outputs_of, sqnr

Make = Callable[[Collection[str]], nn.Module]


def layers_within(
    model: nn.Module,
    make: Make,
    names: list[str],
    max_drop: Any,
    data: Any,
    metric: Metric | None = None,
    batch_fn: Any = None,
) -> tuple[list[str], str]:
    """Choose as many layers as lose no more than `max_drop`, worst ones left out first.

    Parameters
    ----------
    make : callable
        ``make(names)`` gives the model with these layers changed.
    max_drop : float
        By how much the metric may become worse: accuracy in points, any other in its own unit
        (0.02 of an MAE: from 0.10 to 0.12).
    metric : Metric, optional
        Whose direction is known; default: as :func:`fastmnist.evaluate`.

    Returns
    -------
    list of str, str
        The layers, and why not the others.

    Raises
    ------
    TypeError, ValueError
        If `max_drop` is no number of at least 0, there is no data, or not one layer can be changed
        so.
    """
    if isinstance(max_drop, bool) or not isinstance(max_drop, int | float):
        raise TypeError(f"max_drop: expected a number, got {type(max_drop).__name__}")
    if not 0 <= max_drop < float("inf"):
        raise ValueError(f"max_drop: expected 0 or more, got {max_drop}")
    if data is None:
        raise ValueError("data: expected data with targets to measure max_drop on, got None")
    check_repeatable(data, "data", "for max_drop")
    before = evaluate(model, data, metric=metric, batch_fn=batch_fn)
    used = metric or metric_of(before.metric)
    assert used is not None

    def drop(candidate: nn.Module) -> float:
        after = evaluate(candidate, data, metric=used, batch_fn=batch_fn)
        return used.loss_of(before, after)

    names = [*names]
    lost = drop(make(names))
    if lost <= max_drop:
        return names, ""
    # By noise, not by accuracy: a single layer often costs no measurable accuracy.
    quality = {
        name: sqnr(*outputs_of([model, make([name])], data, batch_fn=batch_fn)) for name in names
    }
    while not lost <= max_drop and len(names) > 1:  # NaN is not an allowed loss
        names.remove(min(names, key=lambda name: quality[name]))
        lost = drop(make(names))
    if not lost <= max_drop:
        raise ValueError(
            f"max_drop: expected a loss of at most {max_drop:g}, got {lost:.3g} of {used.name} "
            f"with no layer but '{names[0]}' changed: allow more, calibrate on more data, or train "
            "with fm.prepare_qat"
        )
    return names, f"max_drop={max_drop:g} would not hold with it"
