"""Pruning: set the weights that matter least to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from fastmnist.applied import Change, record
from fastmnist.copies import plain_copy


@dataclass(frozen=True)
class L1Unstructured:
    """The given share of each layer's weights, those of smallest magnitude.

    Parameters
    ----------
    amount : float
        Share of the weights of each layer to remove, above 0 and at most 1.

    Raises
    ------
    TypeError, ValueError
        If `amount` is no number, or outside of that.
    """

    amount: float

    def __post_init__(self) -> None:
        if isinstance(self.amount, bool) or not isinstance(self.amount, Real):
            raise TypeError(
                f"amount: expected a float from 0 to 1, got {type(self.amount).__name__}"
            )
        if not (math.isfinite(self.amount) and 0 <= self.amount <= 1):
            raise ValueError(f"amount: expected a share from 0 to 1, got {self.amount}")
        object.__setattr__(self, "amount", float(self.amount))


def prune(model: Any, method: L1Unstructured) -> nn.Module:
    """Return a copy of `model` with weights of its Linear layers set to zero.

    The masks are torch's own (``weight_orig``, ``weight_mask``), so that
    ``torch.nn.utils.prune`` and checkpoints understand them and fine-tuning keeps the zeros.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it was. A model that is pruned already loses the share of what is left.
    method : L1Unstructured

    Returns
    -------
    torch.nn.Module
        Of the same class, float32 on the CPU, in eval mode.

    Raises
    ------
    TypeError
        If `model` is no module or `method` no pruning method.
    ValueError
        If there is no Linear layer, or `method` would remove nothing.

    Examples
    --------
    >>> import fastmnist as fm
    >>> pruned = fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.5))
    >>> float((pruned.linear1.weight == 0).float().mean())
    0.5
    """
    if not isinstance(method, L1Unstructured):
        got = f"the class {method.__name__}" if isinstance(method, type) else type(method).__name__
        raise TypeError(f"method: expected a pruning method such as L1Unstructured(0.5), got {got}")
    pruned = plain_copy(model)
    layers = {name: m for name, m in pruned.named_modules() if isinstance(m, nn.Linear)}
    if not layers:
        raise ValueError(
            "model: expected at least one torch.nn.Linear to prune, got none: prune before "
            "quantizing"
        )
    done = []
    # Without a graph: `weight` is then a plain tensor, which deepcopy and pickle accept.
    with torch.no_grad():
        for name, layer in layers.items():
            before = int((layer.weight == 0).sum())
            torch_prune.l1_unstructured(layer, "weight", method.amount)
            zeros, total = int((layer.weight == 0).sum()), layer.weight.numel()
            if zeros > before:
                done.append(Change(name, f"pruned: {zeros / total:.1%} of {total:,} weights are 0"))
    if not done:
        raise ValueError(
            f"method: expected an amount that removes weights, got {method.amount}, which removes "
            "none"
        )
    record(pruned, done)
    return pruned
