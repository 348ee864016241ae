"""What a command trains by: a loss by name, or the one that the targets ask for."""

from __future__ import annotations

import difflib
from typing import Any

from torch.nn import functional

from fastmnist.command.references import find
from fastmnist.command.sources import first_rows
from fastmnist.measuring.scoring import are_numbers

_NAMED = {
    "cross_entropy": functional.cross_entropy,
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}


def loss_of(name: str | None, data: Any, batch_fn: Any) -> Any:
    """Give a loss function; None stands for the library's own, cross entropy.

    Parameters
    ----------
    name : str or None
        "cross_entropy", "mse", "mae", "huber", or a reference to ``fn(outputs, targets)``. None:
        "mse" where the targets are floats that are no shares of classes.
    data : Any
        What the first targets are read of.
    batch_fn : callable or None
        Who reads its batches.

    Raises
    ------
    ValueError
        If there is no such loss.
    """
    if name is None:
        first = first_rows(data, batch_fn)
        is_regression = first is not None and are_numbers(first.target)
        return functional.mse_loss if is_regression else None
    if ":" in name:
        return find(name, "--loss", "PKG.MOD:FN")
    if name not in _NAMED:
        near = difflib.get_close_matches(name, _NAMED, n=1)
        hint = f": did you mean '{near[0]}'?" if near else ""
        known = ", ".join(_NAMED)
        raise ValueError(f"--loss: expected {known} or PKG.MOD:FN, got '{name}'{hint}")
    return _NAMED[name]
