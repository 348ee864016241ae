"""What fewer bits and fewer values of weights do to speed and memory, beside our own int8.

    python -m benchmarks.few_bits [--quick] [--isa avx2]

One wide layer, whose weights come from beyond the second-level cache, and the digits network, whose
weights stay in it. All variants are of the same float model; each is first held against its own
module, bit by bit, and then all are called in turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

import fastmnist as fm
from benchmarks.command import Benchmark
from benchmarks.measure import rows_of
from benchmarks.peers.description import Call
from benchmarks.peers.torch_eager import chain
from benchmarks.workloads import Workload, digits, wide
from fastmnist.display.tables import Table
from fastmnist.measuring.timing import time_interleaved

WIDTH = 4096
ROUNDS, SECONDS = 25, 6.0
QUICK_ROUNDS, QUICK_SECONDS = 7, 1.0


def variants(workload: Workload) -> dict[str, Any]:
    """Make int8 and what has fewer bits or values, each a compiled model."""
    model = chain(workload.network)
    rows = torch.from_numpy(workload.network.calibration)
    static = partial(fm.Static, calibration=rows, mean=0.0, std=1.0)
    made: dict[str, Callable[[], Any]] = {
        "int8": lambda: fm.quantize(model, static()),
        "4 bits": lambda: fm.quantize(model, static(weight_bits=4)),
        "16 clusters": lambda: fm.quantize(fm.cluster(model, fm.Clusters(16)), static()),
    }
    compiled = {}
    for name, make in made.items():
        module = make()
        compiled[name] = fm.compile(module)
        pixels = workload.pixels[:64]
        want = module(torch.from_numpy(pixels))
        if not torch.equal(torch.as_tensor(compiled[name](pixels)), want):
            raise AssertionError(f"{workload.network.name}, {name}: not the bits of its module")
    return compiled


def measure(workload: Workload, *, quick: bool) -> dict[str, Any]:
    """Time all variants at every batch size, in turns."""
    nets = variants(workload)
    sizes = {name: int(net.nbytes) for name, net in nets.items()}
    times = {}
    for batch in workload.batches:
        rows = rows_of(workload, batch)
        calls: list[list[Call]] = []
        for net in nets.values():
            out = np.empty((batch, net.out_features), np.float32)
            calls.append([partial(net, rows, out=out)])
        one = max(1e-6, min(_seconds(call) for (call,) in calls))
        rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
        per_round = int(np.clip(seconds / (rounds * len(calls) * one), 3, 200))
        timings = time_interleaved(
            calls,
            rounds=rounds,
            calls_per_round=per_round,
            warm_up=4,  # weights of many megabytes come back into the third-level cache
            what=f"{workload.network.name}, batch {batch:,}",
        )
        times[str(batch)] = {
            name: {"microseconds": timing.p50 * 1e6, "times_int8": timing.ratio}
            for name, timing in zip(nets, timings, strict=True)
        }
    return {"nbytes": sizes, "batches": times, "data": workload.data}


def _seconds(call: Call) -> float:
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def table(report: dict[str, Any]) -> Table:
    """Lay a report out: a row a network and batch size."""
    made = Table(
        "Fewer bits, fewer values (µs per call; how many times as fast as int8)",
        ["network", "batch", "int8", "4 bits", "", "16 clusters", ""],
    )
    for name, saved in report["networks"].items():
        about = name
        for batch, times in saved["batches"].items():
            cells = [f"{times['int8']['microseconds']:,.2f}"]
            for other in ("4 bits", "16 clusters"):
                cells += [
                    f"{times[other]['microseconds']:,.2f}",
                    f"{times[other]['times_int8']:.2f}",
                ]
            made.row(about, f"{int(batch):,}", *cells)
            about = ""
        kilobytes = ", ".join(f"{k} {v / 1024:,.0f}" for k, v in saved["nbytes"].items())
        made.note(f"{name}: weights in memory as they are read here, KB: {kilobytes}")
    return made


def run(options: Any) -> dict[str, Any]:
    workloads = [wide(WIDTH, options.threads), digits(options.data, options.threads)]
    return {"networks": {w.network.name: measure(w, quick=options.quick) for w in workloads}}


def main() -> int:
    benchmark = Benchmark("few_bits", __doc__, "few_bits")
    benchmark.parser.add_argument("--data", default="auto")
    return benchmark.main(run, lambda report: [table(report)])


if __name__ == "__main__":
    sys.exit(main())
