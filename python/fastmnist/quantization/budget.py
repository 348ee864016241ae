"""How much may be lost: layers left out until a drop holds."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastmnist.measuring.evaluation import evaluate
from fastmnist.measuring.sqnr import outputs_of, sqnr
from fastmnist.quantization.makers import (
    Attempt,
)


def within(
    model: nn.Module,
    attempt: Attempt,
    max_drop: float,
    data: Any,
    metric: Any,
    batch_fn: Any = None,
) -> nn.Module:
    """Quantize as many layers as lose no more than `max_drop`, worst ones left out first.

    Raises
    ------
    ValueError
        If none can be quantized so.
    """
    unit = 1.0 if metric is not None else 100.0
    before = float(evaluate(model, data, metric=metric, batch_fn=batch_fn))
    names = [*attempt.layers]

    def drop(candidate: nn.Module) -> float:
        after = evaluate(candidate, data, metric=metric, batch_fn=batch_fn)
        return (before - float(after)) * unit

    result = attempt.make(names)
    lost = drop(result)
    why = f"max_drop={max_drop:g} would not hold with it"
    if lost <= max_drop:
        return result
    # By noise, not by accuracy: of that, one layer alone often costs none that can be measured.
    quality = {
        name: sqnr(*outputs_of([model, attempt.make([name])], data, batch_fn=batch_fn))
        for name in names
    }
    while lost > max_drop and len(names) > 1:
        names.remove(min(names, key=lambda name: quality[name]))
        result = attempt.make(names, why)
        lost = drop(result)
    if lost > max_drop:
        raise ValueError(
            f"max_drop: expected a loss of at most {max_drop:g}, got {lost:.3g} with no layer but "
            f"'{names[0]}' quantized: allow more, calibrate on more data, or train with "
            "fm.prepare_qat"
        )
    return result
