"""Training: short to call, quick on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastmnist.data.augmentation import Augment
from fastmnist.data.batches import BatchFn
from fastmnist.measuring.evaluation import Evaluation, evaluate
from fastmnist.measuring.metrics import MetricLike
from fastmnist.measuring.scoring import LossFn
from fastmnist.training.epochs import Objective, OptimizerLike, fit
from fastmnist.training.history import EpochRecord, History

__all__ = ["EpochRecord", "Evaluation", "History", "evaluate", "train"]


def train(
    model: nn.Module,
    data: Any,
    epochs: int = 10,
    *,
    batch_size: int = 32,
    lr: float = 1e-3,
    optimizer: OptimizerLike | None = None,
    loss_fn: LossFn | None = None,
    metric: MetricLike = None,
    seed: int | None = None,
    validation: Any = None,
    device: torch.device | str | None = None,
    batch_fn: BatchFn | None = None,
    progress: bool | None = None,
    shuffle: bool = True,
    augment: Augment = None,
) -> History:
    """Train a model in place: Adam and cross entropy, unless told otherwise.

    Parameters
    ----------
    model : torch.nn.Module
        In training mode meanwhile; each submodule is in the mode it was in afterwards. Masks
        of ``torch.nn.utils.prune`` stay. The data's pixel normalization is recorded on it.
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches
        With targets; of a bundle, its train half. A generator gives one epoch.
    epochs : int
        How often to go through the data.
    batch_size : int
        Samples in a batch; a DataLoader keeps its own. With BatchNorm a last batch of one sample,
        which can't be normalized, is left out.
    lr : float
        Learning rate of the default optimizer.
    optimizer : torch.optim.Optimizer or callable, optional
        One made for this model's parameters, or a function from parameters to one, such as
        ``lambda p: torch.optim.SGD(p, lr=0.1)``.
    loss_fn : callable, optional
        ``loss_fn(outputs, target)`` instead of cross entropy.
    metric : str, Metric or callable, optional
        As for :func:`fastmnist.evaluate`: computed once an epoch, of all outputs.
    seed : int, optional
        Makes order and dropout repeatable, and leaves torch's global random numbers as they
        were. Otherwise they are drawn from those, so ``torch.manual_seed`` works.
    validation : True or data, optional
        Evaluated after each epoch; True takes the bundle's test half.
    device : torch.device or str, optional
        Where the model is moved to, and stays.
    batch_fn : callable, optional
        Reads a batch: to ``(args, kwargs, target)`` or ``(inputs, target)``.
    progress : bool, optional
        Show a progress bar; None shows one in a terminal or a notebook.
    shuffle : bool
        Whether samples come in another order each epoch; a DataLoader decides itself.
    augment : Affine, Elastic or a sequence of them, optional
        Every epoch sees the images of the batches (their first input) otherwise moved, turned and
        bent. Pixels that were uint8 are whole ones still. `validation` is left as it is.

    Returns
    -------
    History
        Loss, accuracy (or the metric) and seconds of each epoch. Stopped from the keyboard
        (Ctrl-C), the model stays as far trained as it is, and the whole epochs so far are returned.

    Raises
    ------
    TypeError, ValueError
        If an argument is none of the above, the model has nothing to train, the data is empty or
        without targets, a target is out of range, or the loss becomes infinite or NaN (the
        weights then stay as they were before that step).

    Examples
    --------
    >>> x, y = torch.eye(4), torch.arange(4)
    >>> history = train(nn.Linear(4, 4), (x, y), epochs=2, seed=0)
    >>> len(history), history.loss[1] < history.loss[0]
    (2, True)
    """
    return fit(
        model,
        data,
        epochs,
        Objective(loss_fn),
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        metric=metric,
        seed=seed,
        validation=validation,
        device=device,
        batch_fn=batch_fn,
        progress=progress,
        shuffle=shuffle,
        augment=augment,
    )
