"""How many weights are zero, per layer and overall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import nn

from fastmnist.display.tables import Table, Tabled
from fastmnist.layers.linear import is_float_linear, is_int8_linear
from fastmnist.rewriting.copies import check_module


@dataclass(frozen=True)
class Count:
    """The zeros of one layer.

    Attributes
    ----------
    shape : (int, int)
        Shape of its weight: outputs, inputs.
    zeros : int
        Number of weights that are exactly 0.
    empty : int
        Number of neurons whose weights are all 0.
    """

    shape: tuple[int, int]
    zeros: int
    empty: int

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.shape[0] * self.shape[1]

    @property
    def share(self) -> float:
        """Share of zeros, from 0 to 1."""
        return self.zeros / self.weights if self.weights else 0.0


@dataclass(frozen=True, repr=False)
class Sparsity(Tabled):
    """The result of :func:`sparsity`; prints as a table.

    Attributes
    ----------
    layers : mapping of str to float
        Share of weights that are 0, from 0 to 1, by layer name.
    overall : float
        The same for all layers together.
    counts : mapping of str to Count
        Shape, zeros and empty neurons of each layer.
    """

    counts: Mapping[str, Count]
    layers: Mapping[str, float] = field(init=False)
    overall: float = field(init=False)

    def __post_init__(self) -> None:
        shares = {name: count.share for name, count in self.counts.items()}
        object.__setattr__(self, "layers", MappingProxyType(shares))
        object.__setattr__(self, "overall", self.zeros / self.weights if self.weights else 0.0)

    @property
    def zeros(self) -> int:
        """Number of weights that are 0, in all layers."""
        return sum(count.zeros for count in self.counts.values())

    @property
    def weights(self) -> int:
        """Number of weights in all layers."""
        return sum(count.weights for count in self.counts.values())

    def __getitem__(self, name: str) -> float:
        return self.layers[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return Sparsity, (dict(self.counts),)  # a mappingproxy cannot be pickled

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain dicts and numbers."""
        layers = {
            name: {
                "shape": [*count.shape],
                "weights": count.weights,
                "zeros": count.zeros,
                "empty": count.empty,
                "share": count.share,
            }
            for name, count in self.counts.items()
        }
        whole = {"weights": self.weights, "zeros": self.zeros, "share": self.overall}
        return {"layers": layers, "overall": whole}

    def table(self) -> Table:
        """Return the printed table."""
        table = Table("Zeros", ["layer", "weight", "zeros", "share", "empty neurons"])
        for name, count in self.counts.items():
            shape = f"{count.shape[0]} x {count.shape[1]}"
            table.row(name, shape, f"{count.zeros:,}", f"{count.share:.1%}", f"{count.empty:,}")
        empty = sum(count.empty for count in self.counts.values())
        whole = f"{self.weights:,}"
        table.row("overall", whole, f"{self.zeros:,}", f"{self.overall:.1%}", f"{empty:,}")
        return table


def sparsity(model: Any) -> Sparsity:
    """Count the weights that are zero, per Linear layer and overall.

    Parameters
    ----------
    model : torch.nn.Module or CompiledModel
        Float, masked, shrunk, fused, quantized or compiled; left unchanged. Masked weights count as
        zeros; so do small weights that int8 rounds to 0. Biases are not counted.

    Returns
    -------
    Sparsity
        With ``.layers`` (name to share) and ``.overall``.

    Raises
    ------
    TypeError
        If `model` is not a module or compiled model.
    ValueError
        If it has no Linear layer.

    Examples
    --------
    >>> import fastmnist as fm
    >>> zeros = fm.sparsity(fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.75)))
    >>> zeros.layers["linear1"], zeros.overall
    (0.75, 0.75)
    """
    network = getattr(model, "network", None)
    counts = {}
    if network is not None and not isinstance(model, nn.Module):
        counts = {layer.name: _count(layer.weight) for layer in network.layers}
    else:
        for name, module in check_module(model).named_modules():
            if is_float_linear(module):
                counts[name] = _count(masked_weight(module))
            elif is_int8_linear(module):
                counts[name] = _count(module.weight_int8.detach().cpu().numpy())
    if not counts:
        raise ValueError("model: expected at least one Linear layer, got none")
    return Sparsity(MappingProxyType(counts))


def masked_weight(layer: nn.Linear) -> Any:
    """Give a float layer's weight, zeros where it is masked, as a float32 array."""
    # `weight` itself is one step behind after a step of training.
    weight, mask = layer._parameters.get("weight_orig"), layer._buffers.get("weight_mask")
    effective = layer.weight if weight is None or mask is None else weight * mask
    return effective.detach().float().cpu().numpy()


def _count(weight: Any) -> Count:
    zero = np.asarray(weight) == 0
    outputs, inputs = zero.shape
    return Count((outputs, inputs), int(zero.sum()), int(zero.all(axis=1).sum()))
