"""What layers are given: mean and covariance of their inputs over rows of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.data.arguments import run_model
from fastmnist.data.batch import BatchFn
from fastmnist.data.batches import iter_batches
from fastmnist.data.meaning import meaning_of
from fastmnist.rewriting.verify import Rows

_MOST_ROWS = 10_000  # of data that are used


class Moments:
    """Sums over the rows that one layer was given, in float64."""

    def __init__(self, inputs: int) -> None:
        self._n = 0
        self._sum = torch.zeros(inputs, dtype=torch.float64)
        self._products = torch.zeros(inputs, inputs, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Take in what the layer was given, ``[…, inputs]``."""
        rows = x.detach().reshape(-1, x.shape[-1]).double()
        self._n += len(rows)
        self._sum += rows.sum(0)
        self._products += rows.T @ rows

    @property
    def started(self) -> bool:
        return self._n > 0

    @property
    def mean(self) -> Tensor:
        return self._sum / self._n

    def second(self, *, centered: bool) -> Tensor:
        """``E[x xᵀ]``, or the covariance."""
        moment = self._products / self._n
        return moment - torch.outer(self.mean, self.mean) if centered else moment


def moments_of(
    root: nn.Module, layers: Mapping[str, nn.Module], data: Any, batch_fn: BatchFn | None
) -> tuple[dict[str, Moments], Rows]:
    """Run a model on up to 10,000 rows; give what its layers were given, and the first rows.

    Raises
    ------
    ValueError
        If a layer was not called, or was given NaN or infinity.
    """
    found = {name: Moments(layer.in_features) for name, layer in layers.items()}  # type: ignore[arg-type]

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            found[name].add(args[0])

        return hook

    handles = [layer.register_forward_pre_hook(watch(n)) for n, layer in layers.items()]
    first: Rows | None = None
    try:
        with torch.no_grad():
            for batch in iter_batches(
                data,
                split="train",
                batch_size=256,
                shuffle=True,
                generator=torch.Generator().manual_seed(0),  # rows may lie sorted by class
                max_samples=_MOST_ROWS,
                batch_fn=batch_fn,
                pixels=meaning_of(data, root).pixels,
                model=root,
            ):
                first = first or Rows.first_of(batch, "data")
                run_model(root, batch, "data")
    finally:
        for handle in handles:
            handle.remove()
    assert first is not None  # data without a row is an error
    for name, moments in found.items():
        if not moments.started:
            raise ValueError(
                f"data: expected rows that reach every layer, got none at '{name}': give such "
                f"rows, or leave it as it is with exclude=['{name}']"
            )
        if not bool(torch.isfinite(moments.second(centered=False)).all()):
            raise ValueError(
                f"data: expected finite rows at every layer, got NaN or infinity at '{name}'"
            )
    return found, first
