"""What :func:`fastmnist.compare` measured of one variant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastmnist.measuring.metrics import ACCURACY
from fastmnist.measuring.scored import Scored


@dataclass(frozen=True)
class Row(Scored):
    """One variant, measured.

    The score has the metric's name, too, in JSON and frames alone: ``row.accuracy``, ``row.mae``.

    Attributes
    ----------
    name : str
    rows : str
        dtype of the rows that it was given: ``float32`` or ``uint8``.
    score, difference : float
        The metric's value (of accuracy 0…1), and less that of the first variant.
    p_value : float or None
        That so large a difference is chance: exact McNemar test on the same rows; None for the
        first variant, or with another metric than accuracy.
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
    metric : str
        What the score is.
    """

    name: str
    rows: str
    score: float
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
    metric: str = ACCURACY.name

    @classmethod
    def of_record(cls, record: Mapping[str, Any], metric: str) -> Row:
        """Give the row that :meth:`as_record` gave this of, as ``report.to_json`` stores it."""
        fields = dict(record)
        score = fields.pop("score" if "score" in fields else metric)
        return cls(**fields, score=score, metric=metric)
