"""Interleaved timing: every variant in every round, so that a slow moment hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fastmnist.display.progress import ProgressBar

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """One variant's times.

    Attributes
    ----------
    p50, p99 : float
        Seconds per call: median and 99th percentile over all calls.
    ratio : float
        How many times faster than the first variant: the median over rounds of the ratio of
        their times within a round.
    spread : float
        Half the interquartile range of that ratio: a difference below it is noise.
    """

    p50: float
    p99: float
    ratio: float
    spread: float


def time_interleaved(
    calls: Sequence[Sequence[Call]],
    *,
    rounds: int,
    calls_per_round: int,
    what: str,
    warm_up: int = 0,
) -> list[Timing]:
    """Time each variant's calls, taking turns.

    Parameters
    ----------
    calls : list of lists of callables
        One list per variant; its calls are cycled through (different rows, one shape).
    rounds : int
        How often every variant has its turn, after one round of warming up.
    calls_per_round : int
        Calls in a turn.
    what : str
        For the progress bar.
    warm_up : int
        Calls at the beginning of a turn that are not timed: weights that the others have driven
        out of the caches come back.
    """
    times = np.zeros((len(calls), rounds, calls_per_round))
    clock = time.perf_counter_ns
    order = np.random.default_rng(0)
    with ProgressBar(f"timing {what}", rounds + 1) as bar:
        for turn in range(-1, rounds):
            # In another order each time: nobody always runs behind the same neighbour.
            for i in order.permutation(len(calls)):
                own = calls[i]
                for j in range(warm_up):
                    own[-1 - j % len(own)]()
                for j in range(calls_per_round):
                    call = own[j % len(own)]
                    start = clock()
                    call()
                    stop = clock()
                    if turn >= 0:
                        times[i, turn, j] = stop - start
            bar.advance(1)
    medians = np.median(times, axis=2)
    result = []
    for i in range(len(calls)):
        ratios = medians[0] / medians[i]
        low, middle, high = np.percentile(ratios, [25, 50, 75])
        p50, p99 = np.percentile(times[i], [50, 99]) / 1e9
        result.append(Timing(float(p50), float(p99), float(middle), float((high - low) / 2)))
    return result
