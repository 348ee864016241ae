"""A layer's weights to a table of few values and each weight's index in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastmnist.clustering.configs import Clusters
from fastmnist.clustering.kmeans import MOST_FOR_CHANNELS, MOST_FOR_LAYERS, kmeans
from fastmnist.display.progress import ProgressBar

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Table:
    """Weights as a table's values.

    Attributes
    ----------
    centroids : float32 ``[n]`` or ``[outputs, n]``
        The first is 0 where `holds_zero`.
    indices : uint8 ``[outputs, inputs]``
    holds_zero : bool
    """

    centroids: F32
    indices: npt.NDArray[np.uint8]
    holds_zero: bool


def cluster_weight(weight: F32, config: Clusters, bar: ProgressBar) -> Table:
    """Cluster a weight ``[outputs, inputs]``; `bar` advances by weights.

    Layers, or outputs, with fewer distinct values than there may be keep each value as it is.
    """
    holds_zero = config.keep_zeros and bool((weight == 0).any())
    by_channel = config.scope == "channel"
    rows = weight if by_channel else weight.reshape(1, -1)
    most = MOST_FOR_CHANNELS if by_channel else MOST_FOR_LAYERS
    tables, indices = [], np.zeros(rows.shape, np.uint8)
    for row, own in zip(rows, indices, strict=True):
        taken = row != 0 if holds_zero else np.ones(row.shape, bool)
        table = np.zeros(int(holds_zero), np.float32)
        if taken.any():
            found, places = kmeans(row[taken], config.n - holds_zero, most)
            own[taken] = places + holds_zero
            table = np.append(table, found)
        tables.append(table)
        bar.advance(row.size)
    width = max(map(len, tables))
    full = np.stack([np.pad(table, (0, width - len(table)), mode="edge") for table in tables])
    return Table(full if by_channel else full[0], indices.reshape(weight.shape), holds_zero)
