"""What :func:`fastmnist.compare` measured of one variant."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from fastmnist.measuring.metrics import ACCURACY
from fastmnist.measuring.noise import differs
from fastmnist.measuring.scored import Scored
from fastmnist.rewriting.changes import Change

Pixels = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class BatchTiming:
    """One variant's times at one batch size.

    Attributes
    ----------
    batch : int
        Rows per call.
    p50, p90, p99 : float
        Seconds per call; NaN if a file of an earlier version lacks them.
    speedup : float
        The first variant's p50 divided by this one's.
    spread : float
        Speed-ups from ``1 / (1 + spread)`` to ``1 + spread`` count as no difference; 0 for the
        first.
    throughput : float
        Rows per second, at p50.
    """

    batch: int
    p50: float
    p90: float
    p99: float
    speedup: float
    spread: float
    throughput: float

    @property
    def differs(self) -> bool:
        """Whether it is faster or slower than the first variant, beyond the noise."""
        return differs(self.speedup, self.spread)


@dataclass(frozen=True)
class Flip:
    """An input that is classified differently than by the first variant.

    Attributes
    ----------
    index : int
        Its row in the data.
    target, before, after : int
        Its class, and the predictions of the first variant and of this one.
    pixels : tuple of tuples of int, or None
        Rows of the image, 0…255, at most 32 × 32; None if inputs are not images.
    """

    index: int
    target: int
    before: int
    after: int
    pixels: Pixels | None = None


@dataclass(frozen=True)
class Row(Scored):
    """One variant, measured.

    The score is also available under the metric's name, its only name in JSON and frames:
    ``row.accuracy``, ``row.mae``.

    Attributes
    ----------
    name : str
    rows : str
        dtype of its inputs: ``float32`` or ``uint8``.
    score, difference : float
        The metric's value (for accuracy, 0…1), and its difference from the first variant's.
    p_value : float or None
        Probability that chance alone gives so large a difference: exact McNemar test on the same
        rows; None for the first variant, or if the metric is not accuracy.
    loss : float or None
    timings : tuple of BatchTiming
        One for each batch size, the smallest first.
    memory, disk : int or None
        Bytes of weights and buffers held, and of the file that ``fm.save`` writes.
    layers_changed : int
    changes : tuple of Change
        What transforms did, as :func:`fastmnist.changes` returns it.
    sparsity : float or None
        Share of zeros among the weights of Linear layers; None if unknown.
    bits : float or None
        Mean bits of such a weight as it is stored: 32, 16, those of int8 codes, or those of an
        index into a table of values.
    sqnr : dict of str to (float or None)
        For each layer with the same path in this and the first variant, SQNR of its outputs in dB;
        None if they are equal, never beyond ±300.
    output_sqnr : float or None
        The same for the model's outputs; None if they are equal, or cannot be compared.
    recall : tuple of float
        Recall of each class; NaN for a class without rows. Empty if the metric is not accuracy.
    losing : tuple of int
        Classes with fewer correct rows than in the first variant, beyond noise: p < 0.05, divided
        by the number of classes, by a paired test.
    flips : tuple of Flip
        Inputs that are classified differently than by the first variant, at most 24.
    flip_count : int
        Number of all such inputs.
    correct : bytes or None
        One bit per row, whether it was correct, for paired tests with other reports; the first row
        is the highest bit of its byte.
    metric : str
        Name of the metric.
    """

    name: str
    rows: str
    score: float
    difference: float
    p_value: float | None
    loss: float | None
    timings: tuple[BatchTiming, ...]
    memory: int | None
    disk: int | None
    layers_changed: int
    changes: tuple[Change, ...] = ()
    sparsity: float | None = None
    bits: float | None = None
    sqnr: dict[str, float | None] = field(default_factory=dict, hash=False)
    output_sqnr: float | None = None
    recall: tuple[float, ...] = ()
    losing: tuple[int, ...] = ()
    flips: tuple[Flip, ...] = ()
    flip_count: int = 0
    correct: bytes | None = None
    metric: str = ACCURACY.name

    @property
    def p50(self) -> float:
        """Seconds per call at the smallest batch, the median; NaN if nothing was timed."""
        return self.timings[0].p50 if self.timings else math.nan

    @property
    def p90(self) -> float:
        """Seconds per call at the smallest batch that nine of ten calls keep."""
        return self.timings[0].p90 if self.timings else math.nan

    @property
    def p99(self) -> float:
        """Seconds per call at the smallest batch that 99 of 100 calls keep."""
        return self.timings[0].p99 if self.timings else math.nan

    @property
    def speedup(self) -> float:
        """At the smallest batch, against the first variant."""
        return self.timings[0].speedup if self.timings else math.nan

    @property
    def speedup_spread(self) -> float:
        """How much of that is noise."""
        return self.timings[0].spread if self.timings else math.nan

    @property
    def throughput(self) -> float:
        """Rows per second at the largest batch."""
        return self.timings[-1].throughput if self.timings else math.nan

    def as_record(self) -> dict[str, Any]:
        """Give the figures by name, as a frame has them: no lists; the score as the metric."""
        times: dict[str, float] = {}
        for timing in self.timings[1:]:
            figures = ("p50", "p90", "p99", "speedup", "throughput")
            times |= {f"{name}_batch_{timing.batch}": getattr(timing, name) for name in figures}
        record = {
            "name": self.name,
            "rows": self.rows,
            "score": self.score,
            "difference": self.difference,
            "p_value": self.p_value,
            "loss": self.loss,
            "p50": self.p50,
            "p90": self.p90,
            "p99": self.p99,
            "speedup": self.speedup,
            "speedup_spread": self.speedup_spread,
            "throughput": self.throughput,
            "memory": self.memory,
            "disk": self.disk,
            "sparsity": self.sparsity,
            "bits": self.bits,
            "layers_changed": self.layers_changed,
            "output_sqnr": self.output_sqnr,
            "flip_count": self.flip_count,
            **times,
        }
        # The user's own function may have any name.
        taken = {name for key in record for name in (key, f"val_{key}")}
        score = "score" if self.metric in taken else self.metric
        return {score if key == "score" else key: value for key, value in record.items()}
