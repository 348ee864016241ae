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
    """Train a model in place, by default with Adam and cross entropy.

    Small networks are trained by one torch thread, whatever ``torch.get_num_threads()`` says: a
    second one would wait longer for its share of a step than it computes.

    Parameters
    ----------
    model : torch.nn.Module
        Trained in training mode; the modes of all submodules are restored afterwards. Masks of
        ``torch.nn.utils.prune`` stay. The data's pixel normalization is recorded on the model.
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches
        With targets; for a bundle, its training half. A generator lasts for one epoch.
    epochs : int
        Number of passes through the data.
    batch_size : int
        Samples per batch; a DataLoader keeps its own. With BatchNorm, a last batch of one sample is
        skipped, because it cannot be normalized.
    lr : float
        Learning rate of the default optimizer.
    optimizer : torch.optim.Optimizer or callable, optional
        An optimizer of this model's parameters, or a function from parameters to an optimizer, such
        as ``lambda p: torch.optim.SGD(p, lr=0.1)``.
    loss_fn : callable, optional
        ``loss_fn(outputs, target)`` instead of cross entropy.
    metric : str, Metric or callable, optional
        As for :func:`fastmnist.evaluate`, computed once per epoch over all outputs.
    seed : int, optional
        Makes order and dropout reproducible, and leaves torch's global random state unchanged.
        Default: use the global state, so ``torch.manual_seed`` works.
    validation : True or data, optional
        Evaluated after each epoch; True means the bundle's test half.
    device : torch.device or str, optional
        The model is moved there, and stays there.
    batch_fn : callable, optional
        Converts a batch to ``(args, kwargs, target)`` or ``(inputs, target)``.
    progress : bool, optional
        Show a progress bar. None: only in a terminal or a notebook.
    shuffle : bool
        Whether to shuffle the samples in each epoch; a DataLoader decides itself.
    augment : Affine, Elastic or a sequence of them, optional
        Augment the images (the first input of each batch) anew in every epoch. uint8 pixels stay
        integers. `validation` is not augmented.

    Returns
    -------
    History
        Loss, accuracy (or the metric) and seconds of each epoch. After Ctrl-C, the model keeps its
        training so far, and the completed epochs are returned.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, the model has nothing to train, the data is empty or without
        targets, a target is out of range, or the loss becomes infinite or NaN (the weights then
        stay as before that step).

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
