"""How much of a measured difference is noise, and whether the machine was busy.

Two variants that take turns see the same machine within a round, so the ratio of their times per
round is what counts. The interval of its median comes from the spread of those ratios, by Student's
t at 99.9 %, because a report makes many comparisons: each variant, at each batch size. It is never
narrower than :data:`FLOOR`, because even two copies of one model differ consistently: their weights
lie at different addresses, with different cache conflicts.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import resource
except ImportError:  # no Unix
    resource = None  # type: ignore[assignment]

F64 = npt.NDArray[np.float64]

FLOOR = 0.08
CONFIDENCE = 0.999
# The widest intervals, as factors: beyond two, or four if rounds were few, it is not noise.
WIDEST, WIDEST_OF_FEW = 1.0, 3.0
_FEW = 5
_BUSY_SHARE = 0.85  # of the time that passed, that this process had a CPU
_MOST_INTERRUPTIONS = 50
_UNSTEADY = 0.25  # spread between rounds
_HALF, _MOST = 1.4826, 0.8693  # standard deviations of normal values, by quantiles of deviations
_OF_MEDIAN = 1.2533  # standard error of a median, in those of a mean


@dataclass(frozen=True)
class Noise:
    """How quiet the machine was during a measurement.

    Attributes
    ----------
    cpu_share : float
        CPU time of this process per second of wall time: 1 or more if nothing else ran.
    interruptions : float
        How often per second another program took a CPU from this process; 0 if the system does not
        report it.
    unsteady : float
        Relative spread of the times between rounds: interquartile range by median.
    """

    cpu_share: float
    unsteady: float
    interruptions: float = 0.0

    @property
    def verdict(self) -> str:
        """``quiet``, or ``noisy: `` and why.

        Examples
        --------
        >>> Noise(1.0, 0.02).verdict, Noise(0.5, 0.02).verdict[:39]
        ('quiet', 'noisy: this process had a CPU for 50% o')
        """
        reasons = []
        if self.cpu_share < _BUSY_SHARE:
            reasons.append(
                f"this process had a CPU for {self.cpu_share:.0%} of the time: other programs run, "
                "or what is timed waits"
            )
        elif self.interruptions > _MOST_INTERRUPTIONS:
            reasons.append(
                f"other programs interrupted it {self.interruptions:,.0f} times a second"
            )
        if self.unsteady > _UNSTEADY:
            apart = f"{self.unsteady:.0%}" if self.unsteady < 1 else f"{1 + self.unsteady:.0f} ×"
            reasons.append(f"times differ by {apart} from round to round")
        return f"noisy: {', and '.join(reasons)}" if reasons else "quiet"


def worst_of(noises: list[Noise]) -> Noise:
    """Give the least CPU time and the greatest spread of several measurements."""
    return Noise(
        min(n.cpu_share for n in noises),
        max(n.unsteady for n in noises),
        max(n.interruptions for n in noises),
    )


class Watch:
    """Observes what else the machine does, from its creation on."""

    def __init__(self) -> None:
        self._began = self._now()

    def noise(self, unsteady: float) -> Noise:
        """Tell what it saw so far."""
        wall, cpu, interrupted = (
            now - before for now, before in zip(self._now(), self._began, strict=True)
        )
        wall = max(wall, 1e-9)
        # Over a short moment, a few interruptions mean nothing.
        return Noise(cpu / wall, unsteady, interrupted / max(wall, 0.2))

    @staticmethod
    def _now() -> tuple[float, float, float]:
        interrupted = 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        return time.perf_counter(), time.process_time(), float(interrupted)


def relative_spread(values: Any) -> float:
    """Give the interquartile range by the median.

    Examples
    --------
    >>> relative_spread([1.0, 2.0, 3.0])
    0.5
    """
    low, middle, high = np.percentile(np.asarray(values, dtype=float), [25, 50, 75])
    return float((high - low) / middle) if middle > 0 else 0.0


def noise_of_ratio(
    first: F64,
    own: F64,
    shown: float | None = None,
    least: float | None = None,
    tick: float = 0.0,
) -> float:
    """By what factor less 1 two variants may differ without telling anything.

    Parameters
    ----------
    first, own : float, shape [rounds]
        Their times, round by round.
    shown : float, optional
        The ratio that will be told; where the rounds disagree with it, it is unsure by as much.
    least : float, optional
        The ratio of their least times, which a busy machine changes least. Where it is not half
        as far from 1, on its logarithm, there is no difference, whatever the medians say.
    tick : float
        The step of the clock, in the same unit.

    Returns
    -------
    float
        A ratio r is no difference if ``max(r, 1 / r) - 1 <= noise``. Of fewer rounds than five
        at most :data:`WIDEST_OF_FEW`.

    Examples
    --------
    >>> steady = np.full(25, 2.0)
    >>> noise_of_ratio(steady, steady)
    0.08
    >>> noise_of_ratio(steady[:1], steady[:1])
    3.0
    """
    from scipy.stats import t

    logs = np.log(np.maximum(first, 1e-12) / np.maximum(own, 1e-12))
    rounds = len(logs)
    middle = float(np.median(logs))
    deviations = np.abs(logs - middle)
    widest = WIDEST if rounds >= _FEW else WIDEST_OF_FEW
    # By two quantiles: with a coarse clock, half of the times may be equal, and the others far
    # away. A single round says nothing.
    half, most = np.percentile(deviations, [50, 75]) if rounds > 1 else (1.0, 1.0)
    sigma = max(_HALF * float(half), _MOST * float(most))
    quantile = float(t.ppf(0.5 + CONFIDENCE / 2, max(rounds - 1, 1)))
    error = quantile * _OF_MEDIAN * sigma / math.sqrt(rounds)
    off = 0.0 if shown is None else abs(math.log(max(shown, 1e-12)) - middle)
    step = 2 * tick / max(float(np.median(own)), tick, 1e-12)
    noise = min(widest, max(FLOOR, math.expm1(min(error + off, 2.0)), step))
    if shown is not None and least is not None and not _agree(shown, least):
        noise = max(noise, max(shown, 1 / shown) - 1)
    return noise


def _agree(shown: float, least: float) -> bool:
    told, lowest = (math.log(max(ratio, 1e-12)) for ratio in (shown, least))
    return told * lowest > 0 and abs(lowest) >= abs(told) / 2


def differs(ratio: float, noise: float) -> bool:
    """Whether a ratio of times is a difference, beyond the noise.

    Examples
    --------
    >>> differs(1.04, 0.05), differs(0.9, 0.05), differs(1.2, 0.3)
    (False, True, False)
    """
    return math.isfinite(ratio) and ratio > 0 and max(ratio, 1 / ratio) - 1 > noise
