"""Training as a part of a transform: on data, or by the user's own function."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastmnist.data.augmentation import Augment, checked_augment
from fastmnist.data.batch import BatchFn
from fastmnist.display.words import kind_of
from fastmnist.rewriting.masks import apply_masks
from fastmnist.training.loop import train


def check_finetune(finetune: Any) -> None:
    """Raise TypeError for what could be neither data nor a function that trains."""
    if isinstance(finetune, type | nn.Module):
        raise TypeError(
            "finetune: expected data to train on, or a function that trains the model it is given, "
            f"got {kind_of(finetune)}"
        )


def check_augment(augment: Any, on: Any, epochs: int) -> Augment:
    """Raise ValueError where no data is trained on whose images could be moved."""
    if augment is None:
        return None
    parts = checked_augment(augment)
    if on is None or not epochs or callable(on):
        raise ValueError(
            "augment: expected data to fine-tune on with it, got "
            f"{'a function' if callable(on) else 'none'}: a function augments by itself, "
            "finetune=lambda m: fm.train(m, data, augment=…)"
        )
    return parts


@dataclass(frozen=True)
class Finetuning:
    """How a transform trains its result.

    Attributes
    ----------
    on : None, function or data
    epochs : int
    lr : float
    batch_fn : callable, optional
        Reads a batch of the data to train on.
    augment : Affine, Elastic or a sequence of them, optional
        Moves the images of that data.
    """

    on: Any = None
    epochs: int = 0
    lr: float = 1e-3
    batch_fn: BatchFn | None = None
    augment: Augment = None

    @classmethod
    def checked(
        cls,
        data: Any,
        finetune: Any,
        epochs: Any,
        lr: Any,
        max_drop: Any,
        batch_fn: BatchFn | None,
        augment: Augment = None,
    ) -> Finetuning:
        """Check the arguments of a transform against each other.

        `data` is what to train on, unless `finetune` is given; with `max_drop`, only if there are
        `epochs`.
        """
        check_finetune(finetune)
        if epochs is not None:
            if isinstance(epochs, bool) or not isinstance(epochs, int):
                raise TypeError(f"epochs: expected an int, got {kind_of(epochs)}")
            if epochs < 0:
                raise ValueError(f"epochs: expected at least 0, got {epochs}")
            if epochs and data is None and finetune is None:
                raise ValueError("epochs: expected data= to train on with it, got None")
        if isinstance(lr, bool) or not isinstance(lr, int | float):
            raise TypeError(f"lr: expected a number, got {kind_of(lr)}")
        if not 0 <= lr < math.inf:
            raise ValueError(f"lr: expected a finite number of at least 0, got {lr}")
        on = data if finetune is None else finetune
        if epochs is None:
            epochs = int(on is not None and (finetune is not None or max_drop is None))
        return cls(on, epochs, float(lr), batch_fn, check_augment(augment, on, epochs))

    def train(self, model: nn.Module) -> bool:
        """Train in place, in training mode; say whether to go on (not after Ctrl-C)."""
        if self.on is None or not self.epochs:
            return True
        return train_for(model, self.on, self.epochs, self.batch_fn, self.lr, self.augment)


def check_finite(name: str, layer: nn.Module) -> None:
    """Raise RuntimeError if training left a layer without numbers."""
    if not all(bool(torch.isfinite(p).all()) for p in layer.parameters()):
        raise RuntimeError(
            f"finetune: expected finite weights after training, got NaN or inf in '{name}': a "
            "smaller learning rate may help"
        )


def train_for(
    model: nn.Module,
    finetune: Any,
    epochs: int,
    batch_fn: BatchFn | None = None,
    lr: float = 1e-3,
    augment: Augment = None,
) -> bool:
    """Train in place, in training mode; say whether to go on (not after Ctrl-C)."""
    going_on = True
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
            history = train(model, finetune, epochs, lr=lr, batch_fn=batch_fn, augment=augment)
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
