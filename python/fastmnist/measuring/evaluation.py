"""How good a model is on data it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmnist.data.batches import BatchFn, carried_pixels, count_samples, iter_batches
from fastmnist.data.meaning import meaning_of, pixels_of
from fastmnist.display.progress import ProgressBar
from fastmnist.measuring.scoring import LossFn, Metric, compute_loss, hits, metric_total


class Evaluation(float):
    """A float, the accuracy 0…1 (or the metric), that also knows how it came about.

    Attributes
    ----------
    loss : float or None
        Mean per sample; None where it can't be computed.
    n : int
        Number of samples.
    correct : torch.Tensor or None
        bool [n], on the CPU: which samples were right, in the data's order, as paired tests
        need it. None with a metric of one's own.

    Examples
    --------
    >>> accuracy = Evaluation(0.975, loss=0.083, n=10_000)
    >>> accuracy
    0.9750 (loss 0.0830, n=10000)
    >>> accuracy > 0.97, f"{accuracy:.1%}"
    (True, '97.5%')
    """

    loss: float | None
    n: int
    correct: Tensor | None

    def __new__(
        cls, value: float, loss: float | None = None, n: int = 0, correct: Tensor | None = None
    ) -> Evaluation:
        self = super().__new__(cls, value)
        self.loss = loss
        self.n = n
        self.correct = correct
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (float(self), self.loss, self.n, self.correct)

    def __repr__(self) -> str:
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        return f"{float(self):.4f} ({loss}n={self.n})"

    __str__ = float.__repr__


def evaluate(
    model: nn.Module | Callable[..., Any],
    data: Any,
    *,
    batch_size: int = 1024,
    loss_fn: LossFn | None = None,
    metric: Metric | None = None,
    batch_fn: BatchFn | None = None,
    device: torch.device | str | None = None,
    raw: bool = False,
    progress: bool | None = None,
) -> Evaluation:
    """Measure accuracy and loss of a model; of a bundle, on its test half.

    Parameters
    ----------
    model : torch.nn.Module or callable
        A module is in eval mode meanwhile, and each of its submodules afterwards in the mode it
        was in. A callable, such as a compiled model, takes tensors and returns one, or an array.
    data : Data, Split, DataLoader, Dataset, (x, y)
        With targets. uint8 inputs are pixels, normalized as the data says, else as the data
        that the model was trained with, else to 0…1.
    batch_size : int
        Samples in a batch; a DataLoader keeps its own.
    loss_fn : callable, optional
        ``loss_fn(outputs, target)`` gives the batch's mean, or a value per sample. Cross
        entropy otherwise, where it can be computed.
    metric : callable, optional
        ``metric(outputs, target)``, likewise; replaces accuracy.
    batch_fn : callable, optional
        Reads a batch: to ``(args, kwargs, target)`` or ``(inputs, target)``.
    device : torch.device or str, optional
        Where to compute; a module goes back afterwards. Its own device otherwise.
    raw : bool
        Give the model uint8 rows as they are.
    progress : bool, optional
        Show a progress bar; None shows one in a terminal if it takes a while.

    Returns
    -------
    Evaluation
        A float, with ``loss``, ``n``, ``correct``.

    Raises
    ------
    TypeError, ValueError
        If the data is empty or has no targets, or outputs and targets allow no accuracy.

    Examples
    --------
    >>> x, y = torch.eye(4), torch.tensor([0, 1, 2, 0])
    >>> evaluate(nn.Identity(), (x, y))
    0.7500 (loss 0.9937, n=4)
    """
    if not callable(model):
        raise TypeError(f"model: expected a module or a callable, got {type(model).__name__}")
    module = model if isinstance(model, nn.Module) else None
    pixels = meaning_of(data, model).pixels
    home = None if module is None else device_of(module)
    where = home if device is None else torch.device(device)
    if pixels is not None and not raw:
        _warn_of_other_pixels(model, data)
    n = 0
    loss_sum: float | Tensor = 0.0
    metric_sum: float | Tensor = 0.0
    correct: list[Tensor] = []
    with (
        torch.no_grad(),
        in_mode(module, training=False),
        moved(module, where),
        ProgressBar("evaluating", count_samples(data, "test"), show=progress) as bar,
    ):
        for batch in iter_batches(
            data, split="test", batch_size=batch_size, batch_fn=batch_fn, pixels=pixels, raw=raw
        ):
            if batch.target is None:
                raise ValueError(
                    "data: expected targets to evaluate with, such as (x, y), got none"
                )
            if where is not None and where.type != "cpu":
                batch = batch.to(where)
            outputs = model(*batch.args, **batch.kwargs)
            if isinstance(outputs, np.ndarray):
                outputs = torch.from_numpy(outputs)
            right = hits(outputs, batch.target, probabilities=loss_fn is None)
            if metric is not None:
                metric_sum += metric_total(metric, outputs, batch.target, batch.size)
            elif right is None:
                raise ValueError(
                    "outputs, targets: expected float [N, classes] and integers [N] for an "
                    f"accuracy, got {_about(outputs)} and {_about(batch.target)}: give metric="
                )
            else:
                correct.append(right.cpu())
            if loss_fn is not None:
                loss_sum += compute_loss(loss_fn, outputs, batch.target) * batch.size
            elif right is not None and outputs.is_floating_point():
                loss_sum += compute_loss(None, outputs.float(), batch.target) * batch.size
            else:
                loss_sum = float("nan")
            n += batch.size
            bar.advance(batch.size)
    computed = loss_fn is not None or isinstance(loss_sum, Tensor)
    loss = float(loss_sum) / n if computed else None
    if metric is not None:
        return Evaluation(float(metric_sum) / n, loss, n)
    hit = torch.cat(correct)
    return Evaluation(int(hit.sum()) / len(hit), loss, n, hit)


def device_of(model: nn.Module) -> torch.device:
    """Tell where the model's first parameter or buffer is."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextmanager
def in_mode(model: nn.Module | None, *, training: bool) -> Iterator[None]:
    """Put a model in training or eval mode, and each submodule back as it was."""
    modes = [] if model is None else [(module, module.training) for module in model.modules()]
    try:
        if model is not None:
            model.train(training)
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def moved(model: nn.Module | None, device: torch.device | None) -> Iterator[None]:
    """Put a model on another device, and back."""
    if model is None or device is None or device == (home := device_of(model)):
        yield
        return
    try:
        model.to(device)
        yield
    finally:
        model.to(home)


def _warn_of_other_pixels(model: Any, data: Any) -> None:
    own, given = pixels_of(model), carried_pixels(data)
    if own is not None and given is not None and own != given:
        warnings.warn(
            f"the model was trained on pixels with mean {own.mean} and std {own.std}, but data has "
            f"{given.mean} and {given.std}: load the data with the same mean= and std=",
            UserWarning,
            stacklevel=3,
        )


def _about(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__
