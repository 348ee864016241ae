"""The training that follows a step: how long, at which rates, and by what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from torch.nn import functional

from fastmnist.data.augmentation import Affine
from fastmnist.data.batch import BatchFn
from fastmnist.data.batches import check_repeatable, iter_batches
from fastmnist.distillation.config import Distillation
from fastmnist.distillation.distilling import distill
from fastmnist.measuring.scoring import LossFn, are_numbers
from fastmnist.rewriting.masks import apply_masks
from fastmnist.training.loop import train

_LR = 1e-3
_MOVED = Affine(rotate=10, translate=0.08, scale=0.1, shear=5)
# Shares of the epochs, and what the learning rate is multiplied by in each: steps become small in
# the end, which is worth more than a longer training at one rate.
_STAGES = ((0.6, 1.0), (0.25, 0.3), (0.15, 0.1))


@dataclass(frozen=True)
class Tuning:
    """What training within a recipe works with.

    Attributes
    ----------
    data : Any
        Rows to train on; of a bundle, its training half.
    teacher : nn.Module
        What the recipe began with: whom students, and data without targets, are taught by.
    batch_size : int
    loss_fn, batch_fn, seed
        As for :func:`fastmnist.train`.
    has_targets : bool
    progress : bool or None
        Whether bars are shown.
    """

    data: Any
    teacher: nn.Module
    batch_size: int
    loss_fn: LossFn | None
    batch_fn: BatchFn | None
    seed: int
    has_targets: bool
    progress: bool | None = None

    @classmethod
    def of(
        cls,
        data: Any,
        teacher: nn.Module,
        *,
        batch_size: int = 128,
        loss_fn: LossFn | None = None,
        batch_fn: BatchFn | None = None,
        seed: int = 0,
        progress: bool | None = None,
    ) -> Tuning:
        """Look at the first rows: are there targets, and are they classes?"""
        check_repeatable(data, "data", "for each step of a recipe")
        first = next(
            iter_batches(data, split="train", batch_size=32, batch_fn=batch_fn, max_samples=32)
        )
        if loss_fn is None and first.target is not None and are_numbers(first.target):
            loss_fn = functional.mse_loss
        has_targets = first.target is not None
        return cls(data, teacher, batch_size, loss_fn, batch_fn, seed, has_targets, progress)

    def on(self, data: Any, seed: int) -> Tuning:
        """The same on other rows, in another order."""
        return replace(self, data=data, seed=seed)

    def train(
        self,
        model: nn.Module,
        epochs: int,
        lr: float | None = None,
        augment: bool = False,
        teaching: Distillation | None = None,
    ) -> nn.Module:
        """Give the model, trained: itself or a copy of it, in eval mode.

        By the targets; where there are none, or with `teaching`, by the teacher.
        """
        moved = _MOVED if augment else None
        if teaching is None and not self.has_targets:
            teaching = Distillation(alpha=1.0)
        elif teaching is not None and not self.has_targets:
            teaching = replace(teaching, alpha=1.0)
        for at, (count, factor) in enumerate(stages(epochs)):
            rate = (_LR if lr is None else lr) * factor
            common: dict[str, Any] = {
                "batch_size": self.batch_size,
                "lr": rate,
                "loss_fn": self.loss_fn,
                "seed": self.seed + at,
                "batch_fn": self.batch_fn,
                "progress": self.progress,
                "augment": moved,
            }
            if teaching is not None:
                model = distill(model, self.teacher, self.data, teaching, epochs=count, **common)
                history = model.history
            else:
                history = train(model, self.data, epochs=count, **common)
            if history.interrupted:
                raise KeyboardInterrupt
        model.eval()
        apply_masks(model)
        return model


def stages(epochs: int) -> Iterator[tuple[int, float]]:
    """Epochs at each learning rate, and its factor; short trainings have fewer rates.

    Examples
    --------
    >>> [*stages(1)], [*stages(10)]
    ([(1, 1.0)], [(6, 1.0), (2, 0.3), (2, 0.1)])
    """
    if epochs < len(_STAGES):
        counts = [1] * epochs
    else:
        counts = [max(1, round(share * epochs)) for share, _ in _STAGES[:-1]]
        counts.append(max(1, epochs - sum(counts)))
        counts[0] = epochs - sum(counts[1:])
    for count, (_, factor) in zip(counts, _STAGES, strict=False):
        yield count, factor
