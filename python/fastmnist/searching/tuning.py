"""The training that follows a step: how long, at which rates, by what, and until when."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fastmnist.data.augmentation import Affine
from fastmnist.data.batch import BatchFn
from fastmnist.data.batches import check_repeatable, count_samples, iter_batches
from fastmnist.distillation.config import Distillation
from fastmnist.distillation.distilling import distill
from fastmnist.measuring.scoring import LossFn, are_numbers
from fastmnist.pruning.methods import checked_integer
from fastmnist.rewriting.masks import apply_masks
from fastmnist.training.loop import train
from fastmnist.training.threads import few_threads

LR = 1e-3
_LAST_RATE = 0.02  # of the first, at the end of a training
_WARM_UP = 0.03  # of the steps, while the rate rises
_MOVED = Affine(rotate=10, translate=0.08, scale=0.1, shear=5)
# As few_threads has it; more than elsewhere, as a search shares its machine with its own timing.
_SMALL = 256_000_000


class OutOfTime(Exception):
    """Training was stopped, as there is no more time."""


@dataclass(frozen=True)
class Tuning:
    """What training within a recipe works with.

    Attributes
    ----------
    data : Any
        Rows to train on; for a bundle, its training half.
    teacher : nn.Module
        What the recipe began with: whom students, and data without targets, are taught by.
    batch_size : int
    loss_fn, batch_fn, seed
        As for :func:`fastmnist.train`.
    has_targets : bool
    progress : bool or None
        Whether bars are shown.
    deadline : float
        When to stop, by ``time.monotonic``.
    """

    data: Any
    teacher: nn.Module
    batch_size: int
    loss_fn: LossFn | None
    batch_fn: BatchFn | None
    seed: int
    has_targets: bool
    progress: bool | None = None
    deadline: float = math.inf

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
        deadline: float = math.inf,
    ) -> Tuning:
        """Look at the first rows: are there targets, and are they classes?"""
        check_repeatable(data, "data", "for each step of a recipe")
        checked_integer("batch_size", batch_size, 1)
        first = next(
            iter_batches(data, split="train", batch_size=32, batch_fn=batch_fn, max_samples=32)
        )
        if loss_fn is None and first.target is not None and are_numbers(first.target):
            loss_fn = functional.mse_loss
        return cls(
            data,
            teacher,
            batch_size,
            loss_fn,
            batch_fn,
            seed,
            first.target is not None,
            progress,
            deadline,
        )

    def on(self, data: Any, seed: int) -> Tuning:
        """The same on other rows, in another order."""
        return replace(self, data=data, seed=seed)

    def until(self, deadline: float) -> Tuning:
        """The same with another deadline."""
        return replace(self, deadline=deadline)

    def train(
        self,
        model: nn.Module,
        epochs: int,
        lr: float | None = None,
        augment: bool = False,
        teaching: Distillation | None = None,
    ) -> nn.Module:
        """Give the model, trained: itself or a copy of it, in eval mode.

        By the targets; where there are none, or with `teaching`, by the teacher. Dropout is off
        meanwhile.

        Raises
        ------
        OutOfTime
            At the deadline.
        KeyboardInterrupt
            After Ctrl-C, which ends a whole recipe.
        """
        if teaching is None and not self.has_targets:
            teaching = Distillation(alpha=1.0)
        elif teaching is not None and not self.has_targets:
            teaching = replace(teaching, alpha=1.0)
        rows = count_samples(self.data, "train")
        steps = None if rows is None else epochs * math.ceil(rows / self.batch_size)
        rates = _Rates(LR if lr is None else lr, steps, self.deadline)
        common: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": self.batch_size,
            "optimizer": rates.optimizer,
            "loss_fn": self.loss_fn,
            "seed": self.seed,
            "batch_fn": self.batch_fn,
            "progress": self.progress,
            "augment": _MOVED if augment else None,
        }
        with few_threads(model, self.batch_size, _SMALL):
            kept = _without_dropout(model)
            if teaching is not None:
                model = distill(model, self.teacher, self.data, teaching, **common)
                history: Any = model.history
            else:
                history = train(model, self.data, **common)
        if history.interrupted:
            raise KeyboardInterrupt
        for name, module in model.named_modules():
            if name in kept:
                module.p = kept[name]
        model.eval()
        apply_masks(model)
        return model


def _without_dropout(model: nn.Module) -> dict[str, Any]:
    """Turn dropout off; give what it was. What is left of a network learns too little, not too
    much by heart: half of the digits network's neurons reached 97.7 % in three epochs without it,
    and 97.1 % with it."""
    kept = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            kept[name], module.p = module.p, 0.0
    return kept


class _Rates:
    """Adam, whose learning rate rises, and falls along half a cosine to almost nothing."""

    def __init__(self, lr: float, steps: int | None, deadline: float) -> None:
        self._lr, self._steps, self._deadline = lr, steps, deadline
        self._done = 0

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Make the optimizer."""
        made = torch.optim.Adam([*parameters], lr=self._lr, fused=True)
        made.register_step_pre_hook(self._before_step)
        return made

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if time.monotonic() > self._deadline:
            raise OutOfTime
        for group in optimizer.param_groups:
            group["lr"] = self._lr * rate_at(self._done, self._steps)
        self._done += 1


def rate_at(step: int, steps: int | None) -> float:
    """What the learning rate is multiplied by.

    Examples
    --------
    >>> [round(rate_at(step, 101), 2) for step in (0, 4, 52, 100)]
    [0.2, 1.0, 0.51, 0.02]
    """
    if steps is None:
        return 1.0
    rising = math.ceil(_WARM_UP * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    share = min((step - rising) / max(steps - 1 - rising, 1), 1.0)
    return _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from `seed`; afterwards they go on as if nothing was drawn.

    Raises
    ------
    TypeError
        If it is no integer.
    """
    checked_integer("seed", seed, -(2**63))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
