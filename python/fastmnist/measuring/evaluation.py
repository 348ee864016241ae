"""How good a model is on data it has not seen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmnist.data.arguments import run_model
from fastmnist.data.batches import BatchFn, carried_pixels, count_samples, iter_batches
from fastmnist.data.meaning import meaning_of, pixels_of
from fastmnist.display.callers import callers_level
from fastmnist.display.progress import ProgressBar
from fastmnist.measuring.metrics import ACCURACY, MetricLike, metric_of
from fastmnist.measuring.readings import Readings
from fastmnist.measuring.scoring import LossFn, compute_loss, hits
from fastmnist.measuring.tally import Tally
from fastmnist.pixels import explicit_pixels


class Evaluation(float):
    """A float, the accuracy 0…1 (or another metric), with the figures behind it.

    Attributes
    ----------
    loss : float or None
        Mean per sample; None if it cannot be computed.
    n : int
        Number of samples.
    correct : torch.Tensor or None
        bool [n], on the CPU: which samples were classified correctly, in the data's order, as
        paired tests need it. None if the metric is not accuracy.
    predicted, actual : torch.Tensor or None
        int32 [n], likewise: the predicted and the true classes.
    metric : str
        Name of the metric.
    greater_is_better : bool or None
        Its direction; None if not specified.

    Examples
    --------
    >>> accuracy = Evaluation(0.975, loss=0.083, n=10_000)
    >>> accuracy
    0.9750 (loss 0.0830, n=10000)
    >>> accuracy > 0.97, f"{accuracy:.1%}"
    (True, '97.5%')
    >>> Evaluation(0.25, n=100, metric="mae", greater_is_better=False)
    0.2500 (mae, n=100)
    """

    loss: float | None
    n: int
    correct: Tensor | None
    metric: str
    greater_is_better: bool | None
    predicted: Tensor | None
    actual: Tensor | None

    def __new__(
        cls,
        value: float,
        loss: float | None = None,
        n: int = 0,
        correct: Tensor | None = None,
        metric: str = ACCURACY.name,
        greater_is_better: bool | None = True,
        predicted: Tensor | None = None,
        actual: Tensor | None = None,
    ) -> Evaluation:
        self = super().__new__(cls, value)
        self.loss = loss
        self.n = n
        self.correct = correct
        self.metric = metric
        self.greater_is_better = greater_is_better
        self.predicted = predicted
        self.actual = actual
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        known = (self.loss, self.n, self.correct, self.metric, self.greater_is_better)
        return type(self), (float(self), *known, self.predicted, self.actual)

    def __repr__(self) -> str:
        name = "" if self.metric == ACCURACY.name else f"{self.metric}, "
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        return f"{float(self):.4f} ({name}{loss}n={self.n})"

    __str__ = float.__repr__


def evaluate(
    model: nn.Module | Callable[..., Any],
    data: Any,
    *,
    batch_size: int = 1024,
    loss_fn: LossFn | None = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: BatchFn | None = None,
    device: torch.device | str | None = None,
    raw: bool = False,
    pixels: str | None = None,
    mean: Any = None,
    std: Any = None,
    progress: bool | None = None,
) -> Evaluation:
    """Measure a model's loss and accuracy, or another metric; for a bundle, on its test half.

    Parameters
    ----------
    model : torch.nn.Module or callable
        A module is evaluated in eval mode; the modes of all its submodules are restored afterwards.
        A callable, such as a compiled model, takes tensors and returns a tensor or an array.
    data : Data, Split, DataLoader, Dataset, (x, y), list of batches
        With targets. uint8 inputs are pixels. They are normalized as the data specifies, else like
        the model's training data, else to 0…1.
    batch_size : int
        Samples per batch; a DataLoader keeps its own.
    loss_fn : callable, optional
        ``loss_fn(outputs, target)`` returns the batch's mean, or a value per sample. Default: cross
        entropy, if it can be computed. Batch means are weighted by batch size.
    metric : str, Metric or callable, optional
        ``"accuracy"``, ``"mse"``, ``"mae"``, ``"rmse"``, ``"r2"``, ``"f1"`` (macro) or ``"auc"``; a
        torch loss; a torchmetrics object; a scikit-learn function; ``metric(outputs, targets)``; or
        a :class:`fastmnist.Metric`. It is computed once, over all rows. Default: accuracy if the
        targets are classes, R² if they are other floats.
    greater_is_better : bool, optional
        The direction of your own metric, stored in the result.
    batch_fn : callable, optional
        Converts a batch to ``(args, kwargs, target)`` or ``(inputs, target)``.
    device : torch.device or str, optional
        Where to compute; the module is moved back afterwards. Default: its own device.
    raw : bool
        Pass uint8 rows to the model unchanged.
    pixels, mean, std : str, float or sequence of float, optional
        What uint8 pixels of the data mean here, overriding data and model: `pixels`, such as
        "0..255" for a model trained on ``images.float()``; or `mean` and `std`.
    progress : bool, optional
        Show a progress bar. None: only in a terminal, if it takes a while.

    Returns
    -------
    Evaluation
        A float, with ``loss``, ``n``, ``correct``, ``metric``, ``greater_is_better``.

    Raises
    ------
    TypeError, ValueError
        If the data is empty or has no targets; if outputs and targets do not fit the metric, or no
        default applies to them; if `pixels` is combined with `mean`, `std` or `raw`.

    Examples
    --------
    >>> x, y = torch.eye(4), torch.tensor([0, 1, 2, 0])
    >>> evaluate(nn.Identity(), (x, y))
    0.7500 (loss 0.9937, n=4)
    >>> evaluate(nn.Identity(), (x, 0.5 * x), metric="mae")
    0.1250 (mae, n=4)
    """
    if not callable(model):
        raise TypeError(f"model: expected a module or a callable, got {type(model).__name__}")
    tally = Tally(metric_of(metric, greater_is_better), loss_fn)
    module = model if isinstance(model, nn.Module) else None
    given = explicit_pixels(mean, std, pixels)
    if given is not None and raw:
        raise ValueError("raw: expected False with pixels=, mean= or std=: leave one of them out")
    meaning = meaning_of(data, model, given=given)
    readings = Readings(meaning.is_told or raw)
    home = None if module is None else device_of(module)
    where = home if device is None else torch.device(device)
    if meaning.pixels is not None and given is None and not raw:
        _warn_of_other_pixels(model, data)
    n, has_loss = 0, True
    loss_sum: float | Tensor = 0.0
    with (
        torch.no_grad(),
        in_mode(module, training=False),
        moved(module, where),
        ProgressBar("evaluating", count_samples(data, "test"), show=progress) as bar,
    ):
        for batch in iter_batches(
            data,
            split="test",
            batch_size=batch_size,
            batch_fn=batch_fn,
            pixels=meaning.pixels,
            raw=raw,
            model=model,
            purpose="evaluate",
        ):
            if where is not None and where.type != "cpu":
                batch = batch.to(where)
            outputs = run_model(model, batch, "data")
            readings.add(batch)
            if isinstance(outputs, np.ndarray):
                outputs = torch.from_numpy(outputs)
            right = tally.add(outputs, batch.target)
            loss = _loss_of(loss_fn, outputs, batch.target, right)
            has_loss = has_loss and loss is not None
            loss_sum += 0.0 if loss is None else loss * batch.size
            n += batch.size
            bar.advance(batch.size)
        readings.warn(lambda x: model(x if where is None else x.to(where)))
    value, used = tally.value(), tally.metric
    assert value is not None
    assert used is not None
    return Evaluation(
        value,
        float(loss_sum) / n if has_loss else None,
        n,
        torch.cat(tally.correct) if tally.correct else None,
        used.name,
        used.greater_is_better,
        torch.cat(tally.predicted) if tally.predicted else None,
        torch.cat(tally.actual) if tally.actual else None,
    )


def _loss_of(
    loss_fn: LossFn | None, outputs: Any, target: Any, right: Tensor | None
) -> Tensor | None:
    """Mean loss of a batch; None where none was given and cross entropy cannot be computed."""
    if loss_fn is not None:
        return compute_loss(loss_fn, outputs, target)
    if right is None:
        right = hits(outputs, target, probabilities=True)
    if right is None or not outputs.is_floating_point():
        return None
    return compute_loss(None, outputs.float(), target)


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
            _switch(model, training)
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _switch(model: nn.Module, training: bool) -> None:
    try:
        model.train(training)
    except NotImplementedError:
        # What torch.export gives has one mode, the one it was exported in: that of inference.
        if training:
            raise


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
            stacklevel=callers_level(),
        )
