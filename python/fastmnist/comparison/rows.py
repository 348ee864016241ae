"""What :func:`fastmnist.compare` measured of one variant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One variant, measured.

    Attributes
    ----------
    name : str
    rows : str
        dtype of the rows that it was given: ``float32`` or ``uint8``.
    accuracy, difference : float
        0…1, and against the first variant (positive: better).
    p_value : float or None
        That so large a difference is chance: exact McNemar test on the same rows; None for the
        first variant, or with a metric of one's own.
    loss : float or None
    p50, p99 : float
        Seconds per call at batch 1.
    speedup, speedup_spread : float
        At batch 1 against the first variant, and half the interquartile range over rounds.
    throughput : float
        Rows per second at the large batch.
    memory, disk : int or None
        Bytes of weights and buffers held, and of the file that ``fm.save`` writes.
    layers_changed : int
    """

    name: str
    rows: str
    accuracy: float
    difference: float
    p_value: float | None
    loss: float | None
    p50: float
    p99: float
    speedup: float
    speedup_spread: float
    throughput: float
    memory: int | None
    disk: int | None
    layers_changed: int
