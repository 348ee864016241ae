"""Every case of one network at one batch size: answers first, then times, all in turns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.ours import LIBRARY
from benchmarks.peers import Case, Network, reason
from benchmarks.peers.description import F32, U8, Call, aligned
from benchmarks.workloads import Workload
from fastmnist.measuring.timing import time_interleaved

# Classes that an int8 variant may decide otherwise than the float network, and how far all outputs
# may be from its outputs: root mean square, relative.
MAX_DISAGREEMENT = 0.02
MAX_ERROR = 0.1
# Calls at the beginning of a turn that are not timed: 16 MB of weights, driven out by those of the
# others, take three calls to come back into L3 (a Linear of 4,096 at batch 16: 1,190, 1,007, 642,
# 634, 614 µs).
WARM_UP = 3
FEWEST_CALLS, MOST_CALLS, FEWEST_ROUNDS = 3, 64, 7
# A call this long brings its own weights back: one before those that are timed is enough.
LONG_CALL = 5e-3


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    rounds : int
        At most.
    seconds : float
        That all rounds of all cases together should take.
    fewest_rounds : int
        However long they take.
    hopeless : float
        Cases whose first calls take this many times as long as the fastest other library's are
        left out and named: they cannot be the best, and take most of the time.
    row_sets : int
        Different rows for batches of 100 and more.
    """

    rounds: int
    seconds: float
    fewest_rounds: int = FEWEST_ROUNDS
    hopeless: float = float("inf")
    row_sets: int = 2


# Per network and batch size.
FULL = Effort(31, 12.0)
QUICK = Effort(9, 2.0, fewest_rounds=3, hopeless=3.0, row_sets=1)


@dataclass(frozen=True)
class _Ready:
    case: Case
    calls: list[Call]
    seconds: float


def measure(
    workload: Workload, cases: list[Case], batch: int, effort: Effort
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Time all cases on `batch` rows.

    Returns
    -------
    results : list of dict
        One per case that answers right, the first case first.
    failed : dict
        Name of a case to the reason why it was left out. Ours must not fail.
    """
    pixels = workload.pixels
    # Different rows for small batches: a branch predictor must not learn a single one by heart.
    starts = np.linspace(0, len(pixels) - batch, 8 if batch < 100 else effort.row_sets)
    rows = [aligned(pixels[s : s + batch]) for s in sorted({int(s) for s in starts})]
    expected = [workload.network.float_outputs(r) for r in rows]
    ready: list[_Ready] = []
    failed = {}
    with torch.inference_mode():
        for case in cases:
            try:
                own = [case.prepare(r) for r in rows]
                for call, outputs in zip(own, expected, strict=True):
                    seconds = check(call, workload.network, outputs)
                if seconds < LONG_CALL:  # the first of a short one took mostly other things
                    seconds = seconds_of(own[-1])
                ready.append(_Ready(case, own, seconds))
            except Exception as error:
                if case.library == LIBRARY:
                    raise
                failed[case.name] = reason(error)
        ready = _hopeful(ready, effort.hopeless, failed)
        every = sum(own.seconds for own in ready)
        rounds, per_round, warm_up = turns(every, len(ready), effort)
        timings = time_interleaved(
            [case.calls for case in ready],
            rounds=rounds,
            calls_per_round=per_round,
            warm_up=warm_up,
            what=f"{workload.network.name}, batch {batch:,}",
        )
    return [
        {
            "name": own.case.name,
            "library": own.case.library,
            "rows": own.case.rows,
            "prepared": own.case.prepared,
            "microseconds": timing.p50 * 1e6,
            # Median over rounds of the ratio within a round, and half its interquartile range.
            "slower_than_ours": 1 / timing.ratio,
            "spread": timing.spread / timing.ratio**2,
        }
        for own, timing in zip(ready, timings, strict=True)
    ], failed


def _hopeful(ready: list[_Ready], hopeless: float, failed: dict[str, str]) -> list[_Ready]:
    """Leave out, and name in `failed`, what is too slow to be worth the time."""
    best = min((r.seconds for r in ready if r.case.library != LIBRARY), default=0.0)
    kept = []
    for own in ready:
        times = own.seconds / best if best else 0.0
        if own.case.library == LIBRARY or own.seconds < LONG_CALL or times <= hopeless:
            kept.append(own)
        else:
            failed[own.case.name] = f"{times:.0f} times as slow as the best other library"
    return kept


def turns(every: float, count: int, effort: Effort) -> tuple[int, int, int]:
    """Return rounds, calls in a turn, and how many before them are not timed.

    `every` are the seconds that one call of each of `count` cases takes.
    """
    # What is read again first is a smaller part of longer calls.
    length = every / count
    warm_up = WARM_UP if length < LONG_CALL else 1 if length < 10 * LONG_CALL else 0
    fewest = FEWEST_CALLS if length < LONG_CALL else 1
    affordable = effort.seconds / every
    rounds = int(affordable / (warm_up + fewest))
    rounds = min(max(rounds, effort.fewest_rounds), effort.rounds)
    per_round = int(affordable / rounds) - warm_up
    return rounds, min(max(per_round, fewest), MOST_CALLS), warm_up


def check(call: Call, network: Network, expected: F32) -> float:
    """Raise unless a call's answers are those of the float network, but for rounding.

    Returns how many seconds it took.
    """
    start = time.perf_counter()
    outputs = call()
    seconds = time.perf_counter() - start
    got = as_array(outputs)
    if got.shape != expected.shape:
        raise ValueError(f"expected outputs {expected.shape}, got {got.shape}")
    error = float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
    if not error <= MAX_ERROR:
        raise ValueError(f"outputs are {error:.1%} off, allowed are {MAX_ERROR:.0%}")
    if network.classifies and len(expected) >= 100:
        wrong = float((got.argmax(1) != expected.argmax(1)).mean())
        if wrong > MAX_DISAGREEMENT:
            raise ValueError(f"{wrong:.1%} of the classes are wrong")
    return seconds


def as_array(outputs: Any) -> F32:
    """Return any library's outputs as a NumPy array."""
    if isinstance(outputs, torch.Tensor):
        return np.asarray(outputs.float().numpy())
    return np.asarray(outputs, np.float32)


def seconds_of(call: Call) -> float:
    """Time one call, after one that is not timed."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rows_of(workload: Workload, batch: int) -> U8:
    """Return the first `batch` rows."""
    return aligned(workload.pixels[:batch])
