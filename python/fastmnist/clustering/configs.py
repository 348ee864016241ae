"""What :func:`fastmnist.cluster` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastmnist.display.words import kind_of
from fastmnist.layers.clusters import MOST_VALUES, SCOPES


@dataclass(frozen=True)
class Clusters:
    """Make the weights of each layer share a few values.

    Parameters
    ----------
    n : int
        Number of distinct values, from 2 to 256, including the zero if it is kept.
    scope : {"layer", "channel"}
        Whether each layer has one table of values, or each output its own. A single table is
        smaller and, with at most 16 values, lets kernels keep 4-bit indices in memory; tables per
        channel fit the weights more closely.
    keep_zeros : bool
        Whether weights that are 0, as after pruning, stay 0, also in training.

    Examples
    --------
    >>> import fastmnist as fm
    >>> fm.Clusters(16)
    Clusters(n=16, scope='layer', keep_zeros=True)
    """

    n: int
    scope: str = "layer"
    keep_zeros: bool = True


def check_clusters(config: Any) -> Clusters:
    """Return `config`, or raise an error that names what is wrong with it."""
    if not isinstance(config, Clusters):
        raise TypeError(
            f"config: expected Clusters(16), got {kind_of(config)}: for example "
            "fm.cluster(model, fm.Clusters(16))"
        )
    if isinstance(config.n, bool) or not isinstance(config.n, int):
        raise TypeError(f"n: expected an int, got {type(config.n).__name__}")
    if not 2 <= config.n <= MOST_VALUES:
        raise ValueError(f"n: expected from 2 to {MOST_VALUES} values, got {config.n}")
    if config.scope not in SCOPES:
        raise ValueError(f"scope: expected 'layer' or 'channel', got {config.scope!r}")
    if not isinstance(config.keep_zeros, bool):
        raise TypeError(f"keep_zeros: expected a bool, got {type(config.keep_zeros).__name__}")
    return config
