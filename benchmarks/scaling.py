"""What a second thread brings: the same calls on one and on two, in turns."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

import fastmnist as fm
from benchmarks.measure import rows_of
from benchmarks.ours import compiled
from benchmarks.peers.description import Call
from benchmarks.workloads import Workload

BATCHES = (1024, 10_000)


def measure_scaling(workload: Workload, *, quick: bool) -> dict[str, Any]:
    """Time uint8 rows on one and two threads, called back to back.

    Returns
    -------
    dict
        Per batch size: microseconds per call on ``1`` and ``2`` threads and the ``speedup``: the
        median over rounds of the ratio within a round.
    """
    net = compiled(workload.network)
    rounds, rows_per_turn = (5, 20_000) if quick else (21, 80_000)
    before = fm.num_threads()
    result = {}
    try:
        for batch in BATCHES:
            if batch > len(workload.pixels):
                continue
            rows = rows_of(workload, batch)
            out = np.empty((batch, net.out_features), np.float32)
            call = partial(net, rows, out=out)
            calls = max(4, rows_per_turn // batch)
            times = np.array(
                [[_turn(call, threads, calls) for threads in (1, 2)] for _ in range(rounds + 1)]
            )[1:]
            one, two = np.median(times, axis=0)
            result[str(batch)] = {
                "microseconds": {"1": one * 1e6, "2": two * 1e6},
                "speedup": float(np.median(times[:, 0] / times[:, 1])),
            }
    finally:
        fm.set_num_threads(before)
    return result


def _turn(call: Call, threads: int, calls: int) -> float:
    """Return the median time of `calls` calls on so many threads."""
    fm.set_num_threads(threads)
    call()
    clock = time.perf_counter_ns
    times = []
    for _ in range(calls):
        start = clock()
        call()
        times.append(clock() - start)
    return float(np.median(times)) / 1e9
