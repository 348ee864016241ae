"""What a transform did to a model: recorded on its result, readable afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

_ATTRIBUTE = "fastmnist_changes"
_RESIZED = "fastmnist_resized"
# What a layer that does nothing at inference has to say; not counted among layers changed.
DROPPED = "dropped"


@dataclass(frozen=True)
class Change:
    """One layer that a transform changed.

    Attributes
    ----------
    layer : str
        The layer's name in the model.
    what : str
        What happened to it, in words.
    """

    layer: str
    what: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.what}"


def record(model: nn.Module, new: list[Change]) -> None:
    """Append to what earlier transforms recorded. Plain tuples, so pickles do not need us."""
    before = getattr(model, _ATTRIBUTE, ())
    object.__setattr__(model, _ATTRIBUTE, (*before, *((c.layer, c.what) for c in new)))


def mark_resized(module: nn.Module) -> None:
    """Note that a layer no longer has the size that its model's class gives it."""
    object.__setattr__(module, _RESIZED, True)


def is_resized(module: nn.Module) -> bool:
    """Whether a transform gave this very layer another size, which files must tell."""
    return getattr(module, _RESIZED, False) is True


def changes(model: Any) -> list[Change]:
    """Return what fastmnist's transforms changed on the way to `model`.

    Parameters
    ----------
    model : torch.nn.Module or CompiledModel
        A result of :func:`~fastmnist.fuse`, :func:`~fastmnist.quantize`,
        :func:`~fastmnist.prune` or :func:`~fastmnist.compile`.

    Returns
    -------
    list of Change
        In the order in which they were made; empty for a model that was not transformed.

    Examples
    --------
    >>> import fastmnist as fm
    >>> [c.layer for c in fm.changes(fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.5)))]
    ['linear1', 'linear2', 'linear3']
    """
    layers = getattr(model, "network", None)
    if not isinstance(model, nn.Module) and layers is not None:
        return [Change(layer.name, "compiled") for layer in layers.layers]
    return [Change(layer, what) for layer, what in getattr(model, _ATTRIBUTE, ())]
