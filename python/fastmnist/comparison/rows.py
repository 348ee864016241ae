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
        Rows in a call.
    p50, p90, p99 : float
        Seconds per call; NaN where a file of an earlier version does not tell.
    speedup : float
        The first variant's p50 divided by this one's.
    spread : float
        A speed-up from ``1 / (1 + spread)`` to ``1 + spread`` is no difference; 0 for the first.
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
    """An input that gets another class than the first variant gives it.

    Attributes
    ----------
    index : int
        Its row in the data.
    target, before, after : int
        Its class, and what the first variant and this one say.
    pixels : tuple of tuples of int, or None
        Rows of the image, 0…255, of 32 × 32 at most; None where inputs are no images.
    """

    index: int
    target: int
    before: int
    after: int
    pixels: Pixels | None = None


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
    timings : tuple of BatchTiming
        One for each batch size, the smallest first.
    memory, disk : int or None
        Bytes of weights and buffers held, and of the file that ``fm.save`` writes.
    layers_changed : int
    changes : tuple of Change
        What transforms did, as :func:`fastmnist.changes` has it.
    sparsity : float or None
        Share of zeros among the weights of Linear layers; None where that is not known.
    bits : float or None
        Mean bits of such a weight in the form that holds it: 32, 16, those of int8 codes, or of
        the index of one of few values.
    sqnr : dict of str to (float or None)
        Of each layer that is found by its path in this and the first variant, dB between their
        outputs; None where they are equal, never beyond ±300.
    output_sqnr : float or None
        The same of the outputs; None where they are equal, or cannot be compared.
    recall : tuple of float
        Of each class, the share of its rows that are right; empty with other metrics than
        accuracy. NaN of a class without rows.
    losing : tuple of int
        Classes with fewer right rows than the first variant has, beyond noise: p < 0.05 by a
        paired test, divided by the number of classes.
    flips : tuple of Flip
        Inputs with another class than the first variant gives, 24 of them at most.
    flip_count : int
        How many there are.
    correct : bytes or None
        Of each row a bit whether it was right, for paired tests with other reports; the first one
        is the highest of its byte.
    metric : str
        What the score is.
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
        # A function of one's own may have any name.
        taken = {name for key in record for name in (key, f"val_{key}")}
        score = "score" if self.metric in taken else self.metric
        return {score if key == "score" else key: value for key, value in record.items()}
