"""Loss and accuracy of a batch: the defaults, and what replaces them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

LossFn: TypeAlias = Callable[[Any, Any], Tensor]
Metric: TypeAlias = Callable[[Any, Any], Tensor | float]


def cross_entropy(outputs: Any, target: Any) -> Tensor:
    """Compute the mean cross entropy, with errors that say what does not fit.

    Parameters
    ----------
    outputs : torch.Tensor, float, shape [N, classes, ...]
        Logits.
    target : torch.Tensor, integer, shape [N, ...], or float like `outputs`
        Classes 0…classes-1, or probabilities.

    Raises
    ------
    TypeError, ValueError
        If they are no such tensors, or a target is out of range.
    """
    if not isinstance(outputs, Tensor) or not isinstance(target, Tensor):
        raise TypeError(
            "outputs, target: expected two tensors for the default loss, got "
            f"{type(outputs).__name__} and {type(target).__name__}: give loss_fn="
        )
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        raise ValueError(
            "outputs: expected shape [N, classes] with two classes or more for the default loss, "
            f"got {list(outputs.shape)}: give loss_fn= (and metric=) for other models"
        )
    if not target.is_floating_point():
        target = target.long()
        # Elsewhere than on a CPU a bad target is no exception but breaks the whole process.
        if target.device.type != "cpu" and not _in_range(outputs, target):
            raise _mismatch(outputs, target, "target out of range")
    elif outputs.shape == target.shape and not _are_probabilities(target):
        raise ValueError(
            "target: expected classes, or probabilities that add up to 1 for the default loss, got "
            f"other floats {list(target.shape)}, as a regression or an autoencoder has: give "
            "loss_fn= (and metric=)"
        )
    try:
        return functional.cross_entropy(outputs, target)
    except (IndexError, RuntimeError, ValueError, TypeError) as error:
        raise _mismatch(outputs, target, str(error)) from error


def compute_loss(loss_fn: LossFn | None, outputs: Any, target: Any) -> Tensor:
    """Compute the mean loss of a batch; without `loss_fn` that is cross entropy."""
    if loss_fn is None:
        return cross_entropy(outputs, target)
    loss = loss_fn(outputs, match_dtype(outputs, target))
    return loss.mean() if loss.ndim else loss


def match_dtype(outputs: Any, target: Any) -> Any:
    """Give float targets the type of the outputs: NumPy's are float64, and losses refuse a mix."""
    both = isinstance(outputs, Tensor) and isinstance(target, Tensor)
    if both and outputs.is_floating_point() and target.is_floating_point():
        return target.to(outputs.dtype)
    return target


def hits(outputs: Any, target: Any, *, probabilities: bool) -> Tensor | None:
    """Tell for each target whether the outputs' greatest class is right.

    Parameters
    ----------
    outputs : torch.Tensor
        Shape [N, classes, ...]; or integers of the target's shape, classes already.
    target : torch.Tensor
        Integers [N, ...]; if `probabilities`, also floats like `outputs`.
    probabilities : bool
        Whether float targets are class probabilities, and no regression.

    Returns
    -------
    torch.Tensor or None
        bool, flat; None if outputs and target are not of that kind.
    """
    if not isinstance(outputs, Tensor) or not isinstance(target, Tensor):
        return None
    if target.is_floating_point():
        if not probabilities or outputs.shape != target.shape or target.ndim < 2:
            return None
        if not _are_probabilities(target):
            return None
        target = target.argmax(1)
    elif outputs.shape == target.shape and not outputs.is_floating_point():
        return torch.eq(outputs, target).flatten()
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        return None
    if outputs.shape[:1] + outputs.shape[2:] != target.shape:
        return None
    right: Tensor = outputs.argmax(1) == target
    return right.flatten()


def metric_total(metric: Metric, outputs: Any, target: Any, size: int) -> float | Tensor:
    """Give the sum over a batch of a metric that returns its mean, or a value per sample.

    Raises
    ------
    TypeError
        If the metric returns something else than a number or a tensor.
    """
    value = metric(outputs, match_dtype(outputs, target))
    if isinstance(value, Tensor):
        return value.detach().to(torch.float32).mean() * size
    try:
        return float(value) * size
    except (TypeError, ValueError):
        raise TypeError(
            f"metric: expected a number or a tensor from it, got {type(value).__name__}"
        ) from None


def _in_range(outputs: Tensor, target: Tensor) -> bool:
    return bool(((target >= 0) & (target < outputs.shape[1])).all())


def _are_probabilities(target: Tensor) -> bool:
    # bfloat16 rounds each by 2⁻⁹ of itself.
    values = target.detach().float()
    return bool((values >= 0).all() and ((values.sum(1) - 1).abs() < 0.01).all())


def _mismatch(outputs: Tensor, target: Tensor, reason: str) -> ValueError:
    text = (
        "outputs, target: expected float [N, classes] and int64 [N] for the default loss, got "
        f"{outputs.dtype} {list(outputs.shape)} and {target.dtype} {list(target.shape)}"
    )
    if not target.is_floating_point() and target.numel() and not _in_range(outputs, target):
        return ValueError(
            f"target: expected 0 to {outputs.shape[1] - 1}, as the model has {outputs.shape[1]} "
            f"outputs, got {int(target.min())} to {int(target.max())}: correct the labels, or give "
            "the model an output for each class"
        )
    return ValueError(f"{text} ({reason}): give loss_fn= for other targets")
