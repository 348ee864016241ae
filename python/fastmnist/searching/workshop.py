"""Makes what recipes say, steps that several of them share once.

Recipes form a tree of prefixes::

    original ─┬─ distill(48,128) ─┬─ int8
              │                   ├─ cluster16 ── int8
              │                   └─ prune50 ──── cluster16 ── int8
              └─ prune80 ─────────── int8

Every node is made once at each rung; the first step of a branch, which is trained longest, goes on
from what it was a rung below.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from fastmnist.distillation.config import Distillation
from fastmnist.rewriting.copies import plain_copy
from fastmnist.searching.optimizing import apply
from fastmnist.searching.recipe import Recipe, keep_recipe
from fastmnist.searching.splitting import split_rows
from fastmnist.searching.steps import Step, with_epochs
from fastmnist.searching.tuning import Tuning
from fastmnist.searching.words import QUANTIZE, Student

ETA = 3  # how much longer a rung trains than the one below
_LATER = 0.25  # of a first step's epochs, for each step that follows

Keep = Callable[[str, int, nn.Module | None], nn.Module | None]


@dataclass
class Workshop:
    """What is made of one model.

    Attributes
    ----------
    original : nn.Module
    tuning : Tuning
    unit : float
        Epochs of a first step at rung 0; below 1 they see a share of the rows.
    keep : callable, optional
        Stores the first step of a branch (key, rung, model), or gives what was stored (of None).
    """

    original: nn.Module
    tuning: Tuning
    unit: float
    keep: Keep | None = None
    _nodes: dict[tuple[str, int], nn.Module] = field(default_factory=dict)

    def epochs(self, step: Step, is_first: bool, rung: int) -> int:
        """How long is trained after a step."""
        if not step.trained_epochs:
            return 0
        wanted = self.unit * float(ETA**rung) * (1.0 if is_first else _LATER)
        return max(1, round(wanted))

    def concrete(self, recipe: Recipe, rung: int) -> Recipe:
        """The recipe with the epochs that it is given at a rung."""
        steps = [
            with_epochs(step, self.epochs(step, i == 0, rung)) if step.trained_epochs else step
            for i, step in enumerate(recipe)
        ]
        return Recipe(tuple(steps))

    def cost(self, recipe: Recipe, rung: int) -> float:
        """Epochs that making it takes, with what is there already."""
        missing = 0.0
        for i, step in enumerate(recipe):
            if (self.key_of(recipe, i), rung) in self._nodes:
                missing = 0.0
                continue
            share = self._share(rung)
            epochs = self.epochs(step, i == 0, rung) * share
            if i == 0 and (self.key_of(recipe, 0), rung - 1) in self._nodes:
                epochs -= self.epochs(step, True, rung - 1) * self._share(rung - 1)
            missing += epochs
        return missing

    def make(self, recipe: Recipe, rung: int) -> nn.Module:
        """Apply the recipe, from where earlier work on it ended.

        Raises
        ------
        TypeError, ValueError
            If a step can't be done to this model.
        OutOfTime
            At the deadline.
        """
        model = self.original
        tuning = self._tuning(rung)
        for i, step in enumerate(recipe):
            key = self.key_of(recipe, i)
            if (key, rung) in self._nodes:
                model = self._nodes[key, rung]
                continue
            below = self._below(key, rung) if i == 0 else None
            if below is not None and step.word.phase != QUANTIZE:
                model = self._trained_on(step, below, tuning, rung)
            else:
                model = apply(step, model, tuning, self.epochs(step, i == 0, rung))
            if step.word.phase != QUANTIZE:
                self._nodes[key, rung] = model
                if i == 0 and self.keep is not None and step.trained_epochs:
                    self.keep(key, rung, model)
        model = plain_copy(model) if model is self.original else model
        keep_recipe(model, self.concrete(recipe, rung))
        return model

    def forget(self, below: int) -> None:
        """Give up what rungs below made, but for what the next one goes on from."""
        for key, rung in [*self._nodes]:
            if rung < below:
                del self._nodes[key, rung]

    def _below(self, key: str, rung: int) -> nn.Module | None:
        if (key, rung - 1) in self._nodes:
            return self._nodes[key, rung - 1]
        return self.keep(key, rung - 1, None) if rung and self.keep is not None else None

    def _trained_on(self, step: Step, below: nn.Module, tuning: Tuning, rung: int) -> nn.Module:
        more = max(1, self.epochs(step, True, rung) - self.epochs(step, True, rung - 1))
        config = step.config
        teaching = config.distillation if isinstance(config, Student) else None
        teaching = config if isinstance(config, Distillation) else teaching
        return tuning.train(plain_copy(below), more, step.lr, step.augment, teaching)

    @staticmethod
    def key_of(recipe: Recipe, last: int | None = None) -> str:
        """A recipe's text, up to a step, without the epochs that rungs choose."""
        steps = recipe.steps if last is None else recipe.steps[: last + 1]
        texts = (replace(step, epochs=None) if step.trained_epochs else step for step in steps)
        return "+".join(map(str, texts))

    def _share(self, rung: int) -> float:
        """Of the rows, that an epoch sees: where there is no time for all of them."""
        return min(1.0, self.unit * float(ETA**rung))

    def _tuning(self, rung: int) -> Tuning:
        tuning = replace(self.tuning, seed=self.tuning.seed + rung)
        share = self._share(rung)
        if share >= 1.0:
            return tuning
        return replace(tuning, data=part_of(self.tuning.data, share, self.tuning.seed + rung))


def part_of(data: Any, share: float, seed: int) -> Any:
    """A share of the rows, drawn at random."""
    return split_rows(data, share=min(max(share, 0.0), 0.999), seed=seed)[1]


def rounded_unit(unit: float) -> float:
    """Whole epochs, or a share of one."""
    return float(math.floor(unit)) if unit >= 1 else unit
