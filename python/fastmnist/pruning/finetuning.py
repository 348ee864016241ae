"""How to train between and after the steps of pruning, and what that must not be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fastmnist.data.augmentation import Augment
from fastmnist.data.batch import BatchFn
from fastmnist.display.words import kind_of
from fastmnist.pruning.methods import CustomMask, Method, checked_integer
from fastmnist.pruning.schedules import Constant, Cubic, Schedule
from fastmnist.pruning.targets import Target
from fastmnist.training.finetuning import check_augment, check_finetune


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
    check_finetune(finetune)
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
    augment = check_augment(augment, finetune, checked)
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
