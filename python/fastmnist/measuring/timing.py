"""Interleaved timing: every variant in every round, so that a slow moment hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastmnist.display.progress import ProgressBar
from fastmnist.measuring.noise import Noise, Watch, noise_of_ratio, relative_spread

Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """One variant's times.

    Attributes
    ----------
    p50, p90, p99 : float
        Seconds per call: median and percentiles over all calls.
    ratio, spread : float
        How many times faster than the first variant: the median over rounds of the ratio of their
        times within a round, and half its interquartile range.
    quotient : float
        The first variant's p50 divided by this one's, for tables that show both.
    doubt : float
        How much of the quotient is noise: from ``1 / (1 + doubt)`` to ``1 + doubt`` it is no
        difference (:func:`fastmnist.measuring.noise.noise_of_ratio`); 0 for the first.
    rounds : int
        How often it had its turn; fewer than asked for where the time ran out.
    noise : Noise
        How quiet the machine was; one for all variants.
    """

    p50: float
    p90: float
    p99: float
    ratio: float
    spread: float
    quotient: float
    doubt: float
    rounds: int
    noise: Noise


def time_interleaved(
    calls: Sequence[Sequence[Call]],
    *,
    rounds: int,
    calls_per_round: int,
    what: str,
    warm_up: int = 0,
    seconds: float | None = None,
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
    seconds : float, optional
        No further round begins once so much time has passed; one is always timed.
    """
    times = np.zeros((len(calls), rounds, calls_per_round))
    clock = time.perf_counter_ns
    order = np.random.default_rng(0)
    started, done = time.perf_counter(), 0
    watch = Watch()
    with ProgressBar(f"timing {what}", rounds + 1) as bar:
        for turn in range(-1, rounds):
            if turn == 0:
                watch = Watch()
            if turn > 0 and seconds is not None and time.perf_counter() - started > seconds:
                break
            # In another order each time, so that no call always follows the same one.
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
            done = turn + 1
            bar.advance(1)
    return summarized(times[:, :done], watch)


def summarized(times: npt.NDArray[np.float64], watch: Watch) -> list[Timing]:
    """Make what is told of times, in ns: ``[variants, rounds, calls]``.

    Parameters
    ----------
    times : float array
    watch : Watch
        What saw the machine meanwhile.
    """
    medians = np.median(times, axis=2)
    noise = watch.noise(max(relative_spread(rounds) for rounds in medians))
    steps = np.diff(np.unique(times))
    tick = float(steps.min()) if len(steps) else 0.0
    p50s, p90s, p99s = np.percentile(times, [50, 90, 99], axis=(1, 2)) / 1e9
    found = []
    for i, own in enumerate(medians):
        low, ratio, high = np.percentile(medians[0] / np.maximum(own, 1e-3), [25, 50, 75])
        quotient = float(p50s[0] / p50s[i]) if p50s[i] > 0 else 1.0
        least = float(times[0].min() / max(times[i].min(), 1.0))
        doubt = noise_of_ratio(medians[0], own, quotient, least, tick) if i else 0.0
        percentiles = float(p50s[i]), float(p90s[i]), float(p99s[i])
        spread = float((high - low) / 2)
        found.append(
            Timing(*percentiles, float(ratio), spread, quotient, doubt, times.shape[1], noise)
        )
    return found
