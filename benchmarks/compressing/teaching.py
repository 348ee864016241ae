"""Rates that fall, a wide teacher for the images that may be learnt from, and its pupils."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import fastmnist as fm
from benchmarks.compressing.halves import Halves
from benchmarks.compressing.stages import Stages
from fastmnist.data import Split
from fastmnist.data.augmentation import Augment

BATCH = 128


def falling(first: float, last: float, steps: int) -> Callable[[Iterable[nn.Parameter]], Any]:
    """Adam whose rate falls as half a cosine, from `first` to `last` in so many steps."""

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(parameters, lr=first, fused=True)
        taken = 0

        def lower(*_: Any) -> None:
            nonlocal taken
            taken += 1
            share = min(1.0, taken / steps)
            for group in optimizer.param_groups:
                group["lr"] = last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))

        optimizer.register_step_post_hook(lower)
        return optimizer

    return make


def rising_and_falling(
    most: float, steps: int, decay: float
) -> Callable[[Iterable[nn.Parameter]], Any]:
    """AdamW in one cycle: its rate rises to `most` in a fifth of the steps, and falls to nearly 0.

    (L. N. Smith, N. Topin, "Super-convergence", 2019.)
    """

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = torch.optim.AdamW(parameters, lr=most, weight_decay=decay, fused=True)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, most, total_steps=steps + 1, pct_start=0.2
        )
        optimizer.register_step_post_hook(lambda *_: cycle.step())
        return optimizer

    return make


def steps_of(half: Split, epochs: int, batch: int = BATCH) -> int:
    """How many steps so many epochs take."""
    return epochs * math.ceil(len(half) / batch)


@dataclass(frozen=True)
class TeacherRecipe:
    """A wide network with dropout, trained on images that are moved and bent."""

    epochs: int
    width: int = 800
    seed: int = 0
    rotate: float = 12.0
    translate: float = 0.08
    scale: float = 0.12
    shear: float = 8.0
    alpha: float = 15.0
    batch: int = 256
    rate: float = 3e-3
    decay: float = 1e-4


def teacher(recipe: TeacherRecipe, halves: Halves, stages: Stages) -> nn.Module:
    """Train it on what may be learnt from; :func:`fastmnist.teacher` would see what is held out."""

    def make() -> nn.Module:
        torch.manual_seed(recipe.seed)
        n, width = halves.train.images[0].numel(), recipe.width
        hidden = [nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.3)]
        model = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.1),
            *[nn.Linear(n, width), nn.ReLU(), nn.Dropout(0.3)],
            *hidden,
            nn.Linear(width, len(halves.train.classes)),
        )
        steps = steps_of(halves.train, recipe.epochs, recipe.batch)
        move = fm.Affine(recipe.rotate, recipe.translate, recipe.scale, recipe.shear)
        bend = fm.Elastic(recipe.alpha)
        fm.train(
            model,
            halves.train,
            recipe.epochs,
            batch_size=recipe.batch,
            optimizer=rising_and_falling(recipe.rate, steps, recipe.decay),
            loss_fn=nn.CrossEntropyLoss(label_smoothing=0.02),
            seed=recipe.seed,
            augment=[move, bend],
            progress=False,
        )
        return model.eval()

    return stages.model("teacher", (recipe, halves.key), make).eval()


@dataclass(frozen=True)
class Lesson:
    """One round of distillation."""

    epochs: int
    first_rate: float
    last_rate: float
    moved: float = 1.0  # how far images are moved, of what a wide network bears
    temperature: float = 2.0
    alpha: float = 0.7

    def augment(self) -> Augment:
        """How images are moved: as far as `moved` says."""
        f = self.moved
        return fm.Affine(10 * f, 0.08 * f, 0.1 * f, 6 * f) if f else None


def taught(
    student: nn.Module, teachers: list[nn.Module], half: Split, lesson: Lesson, seed: int
) -> nn.Module:
    """Return a copy of the student that was given the lesson: masks and clusters stay."""
    if not lesson.epochs:
        return student
    return fm.distill(
        student,
        teachers,
        half,
        fm.Distillation(lesson.temperature, lesson.alpha),
        epochs=lesson.epochs,
        batch_size=BATCH,
        optimizer=falling(lesson.first_rate, lesson.last_rate, steps_of(half, lesson.epochs)),
        seed=seed,
        augment=lesson.augment(),
        progress=False,
    )
