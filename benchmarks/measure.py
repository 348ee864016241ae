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


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds at most, and seconds that all together should take."""

    rounds: int
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
    starts = np.linspace(0, len(pixels) - batch, 8 if batch < 100 else 2).astype(int)
    rows = [aligned(pixels[s : s + batch]) for s in sorted({int(s) for s in starts})]
    expected = [workload.network.float_outputs(r) for r in rows]
    taken, calls, failed = [], [], {}
    round_seconds = 0.0
    with torch.inference_mode():
        for case in cases:
            try:
                own = [case.prepare(r) for r in rows]
                for call, outputs in zip(own, expected, strict=True):
                    check(call, workload.network, outputs)
                round_seconds += _seconds(own[-1])
            except Exception as error:
                if case.library == LIBRARY:
                    raise
                failed[case.name] = reason(error)
                continue
            taken.append(case)
            calls.append(own)
        affordable = effort.seconds / round_seconds  # calls of every case
        rounds = int(affordable / (WARM_UP + FEWEST_CALLS))
        rounds = min(max(rounds, FEWEST_ROUNDS), effort.rounds)
        per_round = int(affordable / rounds) - WARM_UP
        timings = time_interleaved(
            calls,
            rounds=rounds,
            calls_per_round=min(max(per_round, FEWEST_CALLS), MOST_CALLS),
            warm_up=WARM_UP,
            what=f"{workload.network.name}, batch {batch:,}",
        )
    return [
        {
            "name": case.name,
            "library": case.library,
            "rows": case.rows,
            "prepared": case.prepared,
            "microseconds": timing.p50 * 1e6,
            # Median over rounds of the ratio within a round, and half its interquartile range.
            "slower_than_ours": 1 / timing.ratio,
            "spread": timing.spread / timing.ratio**2,
        }
        for case, timing in zip(taken, timings, strict=True)
    ], failed


def check(call: Call, network: Network, expected: F32) -> None:
    """Raise unless a call's answers are those of the float network, but for rounding."""
    got = as_array(call())
    if got.shape != expected.shape:
        raise ValueError(f"expected outputs {expected.shape}, got {got.shape}")
    error = float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
    if not error <= MAX_ERROR:
        raise ValueError(f"outputs are {error:.1%} off, allowed are {MAX_ERROR:.0%}")
    if network.classifies and len(expected) >= 100:
        wrong = float((got.argmax(1) != expected.argmax(1)).mean())
        if wrong > MAX_DISAGREEMENT:
            raise ValueError(f"{wrong:.1%} of the classes are wrong")


def as_array(outputs: Any) -> F32:
    """Return any library's outputs as a NumPy array."""
    if isinstance(outputs, torch.Tensor):
        return np.asarray(outputs.float().numpy())
    return np.asarray(outputs, np.float32)


def _seconds(call: Call) -> float:
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def rows_of(workload: Workload, batch: int) -> U8:
    """Return the first `batch` rows."""
    return aligned(workload.pixels[:batch])
