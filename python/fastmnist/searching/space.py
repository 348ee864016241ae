"""Which recipes a search tries: what is usual, and students of every width that may do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from fastmnist.data.batch import Batch
from fastmnist.searching.recipe import Recipe
from fastmnist.searching.steps import Step
from fastmnist.searching.widths import hidden_widths
from fastmnist.searching.words import Student

# Of each hidden layer's neurons: what is likely to do first.
_SHARES = (0.5, 0.75, 1 / 3, 0.25, 1 / 6)
_UNTRAINED = ("int8", "dynamic", "int4", "prune30@0+int8", "cluster32@0+int8")
_ENDS = ("int8", "cluster16+int8", "qat4", "prune50+cluster16+int8")
_TRAINED = (
    "cluster16+int8",
    "prune50+int8",
    "prune80+int8",
    "prune80+cluster16+int8",
    "prune90+cluster16+int8",
    "qat4",
)
_SHRUNK = ("neurons50", "neurons75")
_BLOCK = 16  # neurons that kernels work on at once
# Students learn by the targets more than by a teacher that knows them by heart, and at a high rate:
# on MNIST, 12 epochs, 784-48-128-10 reached 97.2 % with 0.9, 97.4 with 0.5.
_STUDENT = "distill({widths},alpha=0.5,lr=0.003{augment})"
# A teacher that never saw moved images knows them worse than their labels do.
_STUDENT_MOVED = "distill({widths},alpha=0.0,lr=0.003{augment})"


def candidates(model: nn.Module, first: Batch, has_targets: bool) -> list[Recipe]:
    """Recipes worth trying for this model, the most promising of each kind first.

    Parameters
    ----------
    first : Batch
        Some rows: images are moved about where something is trained.
    has_targets : bool
        Whether rows have targets, that students learn by.
    """
    augment = ",augment" if _are_images(first) and has_targets else ""
    widths = hidden_widths(model)
    groups = [[*_UNTRAINED], [_moved(text, augment) for text in _TRAINED]]
    if widths:
        shrunk = [text for text in _SHRUNK if _removes_some(model, text)]
        narrow = students([*widths.values()], augment, has_targets)
        groups += [
            [_moved(f"{text}+{end}", augment) for text in first_steps]
            for first_steps in (narrow, shrunk)
            for end in _ENDS
        ]
    texts: list[str] = []
    while any(groups):  # in turns, so that a short search sees some of each kind
        texts += [group.pop(0) for group in groups if group]
    return [*{str(recipe): recipe for recipe in map(Recipe.parse, texts)}.values()]


def students(widths: Sequence[int], augment: str, has_targets: bool) -> list[str]:
    """Steps that make narrower networks of these widths."""
    found: dict[tuple[int, ...], None] = {}
    for share in _SHARES:
        found[tuple(_rounded(share * width, width) for width in widths)] = None
    found.pop(tuple(widths), None)
    form = _STUDENT_MOVED if augment else _STUDENT
    return [form.format(widths=",".join(map(str, own)), augment=augment) for own in found]


def _rounded(width: float, most: int) -> int:
    """A multiple of 16 where there is one; of fewer than 32 neurons any number."""
    if most < 2 * _BLOCK:
        return max(1, round(width))
    return min(most, max(_BLOCK, round(width / _BLOCK) * _BLOCK))


def _moved(text: str, augment: str) -> str:
    """The recipe with its images moved wherever it trains."""
    if not augment:
        return text
    steps = [
        Step(step.config, step.epochs, step.lr, augment=True)
        if step.trained_epochs and not isinstance(step.config, Student)
        else step
        for step in Recipe.parse(text)
    ]
    return str(Recipe(tuple(steps)))


def _removes_some(model: nn.Module, text: str) -> bool:
    from fastmnist.pruning import prune

    try:
        prune(model, Recipe.parse(text).steps[0].config)
    except (TypeError, ValueError):
        return False
    return True


def _are_images(batch: Batch) -> bool:
    """Whether the model is given images, which can be moved about."""
    x: Any = batch.args[0] if batch.args else None
    return hasattr(x, "ndim") and x.ndim == 4 and x.shape[1] in (1, 3) and min(x.shape[2:]) >= 8
