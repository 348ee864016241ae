"""Which recipes a search tries: what is usual, networks of fewer neurons, and ends for the best.

What a recipe loses is decided by its shape and its training far more than by how its weights are
stored in the end, so the rungs see each shape once, with plain int8; the best shapes get the other
ends (:data:`ENDS`) when the rungs are through.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from fastmnist.data.batch import Batch
from fastmnist.searching.recipe import Recipe
from fastmnist.searching.steps import Step
from fastmnist.searching.widths import hidden_widths

ENDS = ("cluster16+int8", "qat4", "prune50+cluster16+int8")
_UNTRAINED = ("int4", "cluster32@0+int8", "prune30@0+int8", "dynamic")
_TRAINED = ("qat4", "cluster16+int8", "prune80+cluster16+int8", "prune80+int8", "lowrank50+int8")
_REMOVED = (50, 75, 25, 62.5, 87.5)  # percent of the neurons
_LR = 0.003  # what is left of a network learns anew, at a high rate


def candidates(model: nn.Module, first: Batch, has_targets: bool) -> list[Recipe]:
    """Recipes worth trying for this model, the most promising of each kind first.

    Parameters
    ----------
    first : Batch
        Some rows: images are moved about where something is trained.
    has_targets : bool
        Whether rows have targets: with none, moved images would be taught by a model that never
        saw any.
    """
    moved = has_targets and _are_images(first)
    groups = [[*_UNTRAINED], [*_TRAINED]]
    if widths := hidden_widths(model):
        groups.append([f"neurons{share:g}(lr={_LR})+int8" for share in _REMOVED])
        half = ",".join(str(max(1, width // 2)) for width in widths.values())
        groups[1].append(f"distill({half},alpha=0.5,lr={_LR})+int8")
    texts: list[str] = []
    while any(groups):  # in turns, so that a short search sees some of each kind
        texts += [group.pop(0) for group in groups if group]
    found: dict[str, Recipe] = {}
    for text in texts:
        recipe = _moved(Recipe.parse(text), moved)
        found.setdefault(str(recipe), recipe)
    return [*found.values()]


def other_ends(recipe: Recipe) -> list[Recipe]:
    """The same shape, trained alike, with its weights stored in the other ways."""
    if str(recipe.steps[-1]) != "int8" or len(recipe) != 2 or recipe.steps[0].word.phase != 1:
        return []
    moved = recipe.steps[0].augment
    return [Recipe((recipe.steps[0], *_moved(Recipe.parse(end), moved).steps)) for end in ENDS]


def _moved(recipe: Recipe, moved: bool) -> Recipe:
    """The recipe with its images moved wherever it trains."""
    if not moved:
        return recipe
    steps = [
        Step(step.config, step.epochs, step.lr, augment=True) if step.trained_epochs else step
        for step in recipe
    ]
    return Recipe(tuple(steps))


def _are_images(batch: Batch) -> bool:
    """Whether the model is given images, which can be moved about."""
    x: Any = batch.args[0] if batch.args else None
    return hasattr(x, "ndim") and x.ndim == 4 and x.shape[1] in (1, 3) and min(x.shape[2:]) >= 8
