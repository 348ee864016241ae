"""Losses, and which rows are right: the defaults, and what replaces them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

LossFn: TypeAlias = Callable[[Any, Any], Tensor]

_OTHER_LOSSES = (
    "cross_entropy",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
)
_VALUE_BY_VALUE = frozenset(
    {
        *("BCELoss", "BCEWithLogitsLoss", "HuberLoss", "L1Loss", "MSELoss", "SmoothL1Loss"),
        *("binary_cross_entropy", "binary_cross_entropy_with_logits"),
        *("huber_loss", "l1_loss", "mse_loss", "smooth_l1_loss"),
    }
)


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
        # On devices other than CPUs, a bad target raises nothing but breaks the whole process.
        if target.device.type != "cpu" and not _in_range(outputs, target):
            raise _mismatch(outputs, target, "target out of range")
    elif outputs.shape == target.shape and not are_probabilities(target):
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
    return mean_loss(loss_fn, outputs, target)


def mean_loss(loss_fn: LossFn, outputs: Any, target: Any) -> Tensor:
    """Compute a loss, or the mean of one that gives a value per sample.

    Torch's own losses broadcast outputs [N, 1] and targets [N] to [N, N]: those that compare value
    by value get targets of the outputs' shape and type.

    Raises
    ------
    ValueError
        If such a loss gets targets of another shape.
    """
    target = match_dtype(outputs, target)
    tensors = isinstance(outputs, Tensor) and isinstance(target, Tensor)
    if tensors and _name_in_torch(loss_fn) in _VALUE_BY_VALUE:
        if not same_but_for_ones(outputs, target):
            raise ValueError(
                f"outputs, target: expected one shape for {_name_in_torch(loss_fn)}, got "
                f"{list(outputs.shape)} and {list(target.shape)}: give targets like the outputs, "
                "or another loss"
            )
        target = target.reshape(outputs.shape).to(outputs.dtype)
    loss = loss_fn(outputs, target)
    return loss.mean() if loss.ndim else loss


def is_torch_loss(loss_fn: Any) -> bool:
    """Tell whether it is a loss of torch: a module, or one of a subclass, or a function."""
    return isinstance(loss_fn, nn.modules.loss._Loss) or bool(_name_in_torch(loss_fn))


def is_cross_entropy(loss_fn: Any) -> bool:
    """Tell whether a loss takes classes, or their probabilities."""
    known = _name_in_torch(loss_fn) == "cross_entropy"
    return known or isinstance(loss_fn, nn.CrossEntropyLoss)


def _name_in_torch(loss_fn: Any) -> str:
    """The name of torch's own loss, module or function; "" of others, subclasses too."""
    while isinstance(loss_fn, partial):
        loss_fn = loss_fn.func
    name = getattr(loss_fn, "__name__", "")
    if isinstance(loss_fn, nn.Module):
        name = type(loss_fn).__name__
        return name if getattr(nn, name, None) is type(loss_fn) and name.endswith("Loss") else ""
    named = name.endswith("_loss") or name in _OTHER_LOSSES
    return name if named and getattr(functional, name, None) is loss_fn else ""


def same_but_for_ones(one: Tensor, other: Tensor) -> bool:
    """Tell whether shapes differ by dimensions of size 1 alone, as [N, 1] and [N] do.

    Examples
    --------
    >>> same_but_for_ones(torch.zeros(5, 1), torch.zeros(5))
    True
    """
    return [d for d in one.shape if d != 1] == [d for d in other.shape if d != 1]


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
    found = classes_of(outputs, target, probabilities=probabilities)
    return None if found is None else torch.eq(*found)


def classes_of(outputs: Any, target: Any, *, probabilities: bool) -> tuple[Tensor, Tensor] | None:
    """Give the class that the outputs say and the right one, of each target, flat.

    Parameters
    ----------
    outputs, target, probabilities
        As for :func:`hits`.

    Examples
    --------
    >>> classes_of(torch.eye(3), torch.tensor([0, 1, 1]), probabilities=True)
    (tensor([0, 1, 2]), tensor([0, 1, 1]))
    """
    if not isinstance(outputs, Tensor) or not isinstance(target, Tensor):
        return None
    if target.is_floating_point():
        if not probabilities or outputs.shape != target.shape or target.ndim < 2:
            return None
        if not are_probabilities(target):
            return None
        target = target.argmax(1)
    elif outputs.shape == target.shape and not outputs.is_floating_point():
        return None if are_labels(outputs, target) else (outputs.flatten(), target.flatten())
    if outputs.dtype == torch.bool or outputs.ndim < 2 or outputs.shape[1] < 2:
        return None
    if outputs.shape[:1] + outputs.shape[2:] != target.shape:
        return None
    return outputs.argmax(1).flatten(), target.flatten()


def are_labels(outputs: Tensor, target: Tensor) -> bool:
    """Tell whether they are several labels a row, each of them true or false."""
    either = torch.bool in (outputs.dtype, target.dtype)
    return either and target.ndim > 1 and target.shape[1] > 1


def _in_range(outputs: Tensor, target: Tensor) -> bool:
    return bool(((target >= 0) & (target < outputs.shape[1])).all())


def are_probabilities(target: Tensor) -> bool:
    # bfloat16 rounds each by 2⁻⁹ of itself.
    values = target.detach().float()
    return bool((values >= 0).all() and ((values.sum(1) - 1).abs() < 0.01).all())


def are_numbers(target: Any) -> bool:
    """Whether targets are floats that are no shares of classes: those of a regression."""
    if not isinstance(target, Tensor) or not target.is_floating_point():
        return False
    sums = target.sum(-1)
    is_share = target.ndim == 2 and target.shape[1] > 1 and bool((target >= 0).all())
    return not (is_share and torch.allclose(sums, torch.ones_like(sums), atol=1e-3))


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
