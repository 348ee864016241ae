"""Pruning: remove the weights, or the neurons, that matter least.

Reading order: ``methods`` (what to remove), ``targets`` (from which layers), ``masks`` (weights
set to zero), ``neurons`` on ``flow`` and ``shrinking`` (neurons removed), ``empty`` (those that are
left without weights), ``schedules`` and ``finetuning`` (in steps, with training between),
``pruner`` (the transform), ``undoing`` and ``counting``.
"""

from fastmnist.pruning.counting import Sparsity, sparsity
from fastmnist.pruning.methods import CustomMask, L1Unstructured, RandomUnstructured, Structured
from fastmnist.pruning.pruner import prune
from fastmnist.pruning.schedules import Constant, Cubic
from fastmnist.pruning.undoing import unprune

__all__ = [
    "Constant",
    "Cubic",
    "CustomMask",
    "L1Unstructured",
    "RandomUnstructured",
    "Sparsity",
    "Structured",
    "prune",
    "sparsity",
    "unprune",
]
