"""Outputs and targets of batches, gathered until their metric can be computed over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastmnist.data.batch import tree_map
from fastmnist.measuring.metrics import ACCURACY, R2, Metric
from fastmnist.measuring.named_metrics import no_accuracy, values_of
from fastmnist.measuring.r_squared import RSquared
from fastmnist.measuring.scoring import (
    LossFn,
    classes_of,
    is_cross_entropy,
    same_but_for_ones,
)


class Tally:
    """Takes batches in, gives the metric of them all.

    Accuracy and R² are counted as they come; others keep outputs and targets, on the CPU.

    Parameters
    ----------
    metric : Metric or None
        None: accuracy where the targets are classes, R² where they are other floats.
    loss_fn : callable or None
        What is trained with: whether float targets may be probabilities of classes.
    required : bool
        Whether it is an error if there is no default for such outputs and targets.

    Attributes
    ----------
    metric : Metric or None
        The one that is computed; None before the first batch, or if there is none.
    correct : list of torch.Tensor
        Of accuracy, bool: which rows were right.
    predicted, actual : list of torch.Tensor
        Of accuracy, int32: their class by the outputs, and the right one.

    Examples
    --------
    >>> tally = Tally(None, None)
    >>> _ = tally.add(torch.eye(2), torch.tensor([0, 0]))
    >>> _ = tally.add(torch.eye(2), torch.tensor([0, 1]))
    >>> tally.metric.name, tally.value()
    ('accuracy', 0.75)
    """

    def __init__(
        self, metric: Metric | None, loss_fn: LossFn | None, *, required: bool = True
    ) -> None:
        self.metric = metric
        self.correct: list[Tensor] = []
        self.predicted: list[Tensor] = []
        self.actual: list[Tensor] = []
        self._is_default, self._required = metric is None, required
        self._probabilities = loss_fn is None or is_cross_entropy(loss_fn)
        self._r2 = RSquared()
        self._only_zeros_and_ones = True
        self._outputs: list[Any] = []
        self._targets: list[Any] = []

    def add(self, outputs: Any, targets: Any) -> Tensor | None:
        """Take in a batch; give which rows are right, where accuracy is what counts.

        Raises
        ------
        ValueError
            If outputs and targets allow no metric.
        """
        right, classes = None, None
        if self.metric is None or self.metric == ACCURACY:
            given = not self._is_default
            classes = classes_of(outputs, targets, probabilities=given or self._probabilities)
            right = None if classes is None else torch.eq(*classes)
        if self.metric is None:
            self.metric = ACCURACY if right is not None else _default_of(outputs, targets)
        if self.metric is None or (self.metric == ACCURACY and right is None):
            if self._required or not self._is_default:
                raise no_accuracy(outputs, targets)
        elif right is not None and classes is not None:
            self.correct.append(right.cpu())
            self.predicted.append(classes[0].to("cpu", torch.int32))
            self.actual.append(classes[1].to("cpu", torch.int32))
        elif self.metric == R2:
            y, t = values_of(R2.name, outputs, targets)
            self._only_zeros_and_ones &= bool(((t == 0) | (t == 1)).all())
            self._r2.add(y, t)
        else:
            self._outputs.append(_copy_of(outputs))
            self._targets.append(_copy_of(targets))
        return right

    def value(self) -> float | None:
        """Compute the metric over all that was taken in; None if there is none.

        Raises
        ------
        TypeError, ValueError
            If it cannot be computed.
        """
        if self.metric is None:
            return None
        if self.correct:
            right = torch.cat(self.correct)
            return int(right.sum()) / len(right)
        if self.metric == R2:
            return self._r2_value()
        return self.metric(joined(self._outputs, "outputs"), joined(self._targets, "targets"))

    def _r2_value(self) -> float | None:
        unclear = self._is_default and self._only_zeros_and_ones
        if not self._required and self._is_default and (unclear or self._r2.rows < 2):
            return None
        if unclear:
            raise _may_be_classes()
        return self._r2.value()

    def so_far(self) -> str:
        """The accuracy so far, for a progress bar; "" of what has no value before its end."""
        if not self.correct:
            return ""
        right, n = sum(int(part.sum()) for part in self.correct), sum(map(len, self.correct))
        return f", accuracy {right / n:.4f}"


def joined(batches: list[Any], name: str) -> Any:
    """Join tensors, nested alike, along their first dimension.

    Raises
    ------
    ValueError
        If they don't fit together.
    """
    first = batches[0]
    if len(batches) == 1 or first is None or isinstance(first, (bool, int, float, str)):
        return first
    if isinstance(first, Tensor):
        try:
            return torch.cat(batches) if first.ndim else first
        except RuntimeError as error:
            raise ValueError(
                f"{name}: expected batches that can be joined, to look at the whole set, got "
                f"others ({error}): give batches of one shape but for their size"
            ) from error
    if isinstance(first, Mapping):
        parts = {key: joined([batch[key] for batch in batches], name) for key in first}
        return _mapping_like(first, parts)
    if isinstance(first, (tuple, list)):
        items = [joined(list(part), name) for part in zip(*batches, strict=True)]
        return type(first)(*items) if hasattr(first, "_fields") else type(first)(items)
    raise ValueError(
        f"{name}: expected tensors, or tuples and dicts of them, to look at the whole set, got "
        f"{type(first).__name__}: give a function that returns a tensor in the model's place"
    )


def _default_of(outputs: Any, targets: Any) -> Metric | None:
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor):
        floats = outputs.is_floating_point() and targets.is_floating_point()
        return R2 if floats and same_but_for_ones(outputs, targets) else None
    return None


def _may_be_classes() -> ValueError:
    return ValueError(
        "targets: expected classes as integers, or floats of a regression, got floats that are all "
        "0 or 1, which may be either: give metric=, such as 'auc' for two classes or 'r2' for a "
        "regression"
    )


def _copy_of(value: Any) -> Any:
    """On the CPU; a copy, as a model may give the same memory each time."""
    if isinstance(value, Mapping):
        return _mapping_like(value, {key: _copy_of(part) for key, part in value.items()})
    return tree_map(lambda tensor: tensor.detach().to("cpu", copy=True), value)


def _mapping_like(mapping: Mapping[Any, Any], parts: dict[Any, Any]) -> Any:
    """Classes of outputs that are dicts with attributes are made by their keywords."""
    if type(mapping) is dict:
        return parts
    try:
        return type(mapping)(**parts)
    except TypeError:
        return parts
