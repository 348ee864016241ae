"""The shortest time that a network could take on this core, from its measured limits."""

from __future__ import annotations

from typing import Any

from benchmarks.peers import Network

# Name in the tables, key of measure_limits(); nearest first.
_LEVELS = (("L1", "l1"), ("L2", "l2"), ("L3", "l3"))


def lower_bound(limits: dict[str, Any], network: Network, batch: int, row_bytes: int) -> Any:
    """Say how long `batch` rows take at least, and what it is that takes so long.

    The longer of two times: all products at the core's peak, and reading once what must be read:
    int8 weights and rows, each from the nearest cache that holds all of it.

    Parameters
    ----------
    limits : dict
        What ``_core.measure_limits`` returned.
    network : Network
    batch : int
    row_bytes : int
        Bytes of one input value: 1 or 4.

    Returns
    -------
    dict
        ``microseconds`` and ``by``, in words.
    """
    weights = sum(layer.inputs * layer.outputs for layer in network.layers)
    rows = batch * network.layers[0].inputs * row_bytes
    products = batch * weights / limits["products_per_second"]
    weights_level, weights_time = _read(limits, weights)
    rows_level, rows_time = _read(limits, rows)
    if products >= weights_time + rows_time:
        by = f"{limits['isa']} products"
    elif weights_time >= rows_time:
        by = f"weights from {weights_level}"
    else:
        by = f"rows from {rows_level}"
    return {"microseconds": max(products, weights_time + rows_time) * 1e6, "by": by}


def _read(limits: dict[str, Any], size: int) -> tuple[str, float]:
    for name, key in _LEVELS:
        if size <= limits[key]["level_bytes"]:
            return name, size / limits[key]["bytes_per_second"]
    return "memory", size / limits["memory"]["bytes_per_second"]
