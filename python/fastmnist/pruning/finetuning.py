"""Training between and after the steps of pruning: the library's, or the user's own function."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fastmnist.data.augmentation import Augment, checked_augment
from fastmnist.data.batch import BatchFn
from fastmnist.display.words import kind_of
from fastmnist.pruning.methods import CustomMask, Method, checked_integer
from fastmnist.pruning.schedules import Constant, Cubic, Schedule
from fastmnist.pruning.targets import Target
from fastmnist.rewriting.masks import apply_masks
from fastmnist.training.loop import train


@dataclass(frozen=True)
class Plan:
    """In which steps to prune, and how to train after each.

    Attributes
    ----------
    schedule : Cubic or Constant
    finetune : None, function or data
    epochs : int
        How long to train after the last step.
    batch_fn : callable, optional
        Reads a batch of the data to train on.
    augment : Affine, Elastic or a sequence of them, optional
        Moves the images of that data.
    """

    schedule: Schedule
    finetune: Any
    epochs: int
    batch_fn: BatchFn | None = None
    augment: Augment = None


def checked_plan(
    method: Method,
    finetune: Any,
    schedule: Any,
    epochs: Any,
    batch_fn: BatchFn | None = None,
    augment: Augment = None,
) -> Plan:
    """Check the arguments against each other."""
    if isinstance(finetune, type | nn.Module):
        raise TypeError(
            "finetune: expected data to train on, or a function that trains the model it is given, "
            f"got {kind_of(finetune)}"
        )
    if schedule is not None and not isinstance(schedule, Cubic | Constant):
        raise TypeError(f"schedule: expected Cubic(steps=5) or Constant(), got {kind_of(schedule)}")
    if finetune is None and (schedule is not None or epochs is not None):
        what = "epochs" if schedule is None else "schedule"
        raise ValueError(
            f"{what}: expected finetune= with it (data, or a function that trains the model)"
        )
    if isinstance(method, CustomMask) and schedule is not None:
        raise ValueError("schedule: expected none with masks, which have no amount to go up")
    checked = checked_integer("epochs", 1 if epochs is None else epochs, 1)
    if augment is not None:
        augment = checked_augment(augment)
        if finetune is None or callable(finetune):
            raise ValueError(
                "augment: expected finetune= with data to train on, got "
                f"{'none' if finetune is None else 'a function'}: a function augments by itself, "
                "finetune=lambda m: fm.train(m, data, augment=…)"
            )
    plan = Constant() if schedule is None else schedule
    return Plan(plan, finetune, checked, batch_fn, augment)


def check_start(schedule: Schedule, targets: list[Target]) -> None:
    """Raise ValueError if a schedule starts above what it should reach."""
    start = schedule.start if isinstance(schedule, Cubic) else 0.0
    for target in targets:
        if start > 0 and isinstance(target.amount, int):
            raise ValueError(
                f"start: expected 0, as '{target.name}' is to lose a number of weights, got "
                f"{start}: give a share, a float"
            )
        if start > target.amount:
            raise ValueError(
                f"start: expected at most the final amount, {target.amount} for '{target.name}', "
                f"got {start}"
            )


def check_trainable(finetune: Any, targets: list[Target]) -> None:
    """Raise where masks would freeze a weight in training.

    Attention reads the weight of its ``out_proj`` without calling the layer, so that torch's mask,
    a hook of that call, is never applied again.
    """
    for target in targets:
        if finetune is not None and isinstance(target.layer, NonDynamicallyQuantizableLinear):
            raise ValueError(
                f"finetune: expected layers that their model calls, got '{target.name}', which "
                f"attention reads without calling it; leave it out with exclude=['{target.name}'], "
                "or prune without finetune"
            )


def train_for(model: nn.Module, plan: Plan, epochs: int) -> bool:
    """Train in place, in training mode; say whether to go on (not after Ctrl-C)."""
    going_on, finetune = True, plan.finetune
    if callable(finetune):
        for _ in range(epochs):
            model.train()
            with torch.enable_grad():
                result = finetune(model)
            if inspect.isgenerator(result):
                raise TypeError(
                    "finetune: expected a function that trains the model, got a generator, which "
                    "does nothing until somebody goes through it"
                )
            if isinstance(result, nn.Module) and result is not model:
                raise TypeError(
                    "finetune: expected a function that trains the model it is given in place, "
                    f"got one that returns another {type(result).__name__}"
                )
            if getattr(result, "interrupted", False) is True:
                going_on = False
                break
    else:
        try:
            history = train(model, finetune, epochs, batch_fn=plan.batch_fn, augment=plan.augment)
            going_on = not history.interrupted
        except ValueError as error:
            if "loss_fn=" not in str(error):
                raise
            raise ValueError(
                f"finetune: {error}: here by a function, finetune=lambda m: fm.train(m, data, "
                "loss_fn=torch.nn.MSELoss())"
            ) from error
    model.cpu().float().eval()
    apply_masks(model)
    return going_on
