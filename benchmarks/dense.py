"""fastmnist against other libraries and against the limits of the core, in one process.

    python -m benchmarks.dense [--threads 1] [--quick] [--only digits] [--isa avx2] [--save]

Runs 784-96-256-10 on real digits, and Linear+ReLU of 1,024 and 4,096 on random pixels. Needs the
extra ``peers``; a peer that is not installed is left out and named. Every case's answers are
checked against the float network before it is timed; times are medians of interleaved rounds. What
the core can do at best is measured in the same run. Takes some three minutes, one with --quick.

--isa runs it in a child process where every library takes the CPU for one that has this set at
best (``benchmarks/masking/``).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import fastmnist as fm
from benchmarks.bounds import lower_bound
from benchmarks.command import Benchmark
from benchmarks.dense_tables import tables
from benchmarks.measure import FULL, QUICK, Effort, measure
from benchmarks.ours import our_cases
from benchmarks.peers import Case, peer_cases
from benchmarks.scaling import measure_scaling
from benchmarks.steps import Steps
from benchmarks.workloads import DIGITS_BATCHES, WIDE_BATCHES, Workload, digits, wide
from fastmnist import _core

WIDTHS = (1024, 4096)


def main() -> int:
    benchmark = Benchmark("dense", __doc__, "dense")
    add = benchmark.parser.add_argument
    add("--data", default="auto", choices=("auto", "mnist", "digits"))
    add("--only", choices=("digits", *map(str, WIDTHS)), help="one network")
    add("--rounds", type=int, help=f"default {FULL.rounds}, with --quick {QUICK.rounds}")
    add("--scaling", action="store_true", help="only one thread against two")
    add("--compile", action="store_true", help="torch.compile is a peer too")
    benchmark.partial += ("only", "scaling")
    return benchmark.main(run, tables)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    effort = QUICK if options.quick else FULL
    effort = replace(effort, rounds=options.rounds or effort.rounds)
    makers: dict[str, Callable[[], Workload]] = {}
    if options.only in (None, "digits"):
        makers["digits"] = partial(digits, options.data, options.threads)
    for width in () if options.scaling else WIDTHS:
        if options.only in (None, str(width)):
            makers[str(width)] = partial(wide, width, options.threads)
    total = 1 + len(makers) + ("digits" in makers)  # limits, making each, scaling
    if not options.scaling:
        total += sum(len(DIGITS_BATCHES if n == "digits" else WIDE_BATCHES) for n in makers)
    report: dict[str, Any] = {"missing": {}, "networks": []}
    with Steps(total) as steps:
        with steps.step("the limits of the core"):
            report["limits"] = _core.measure_limits(fm.cpu_info()["isa"])
        for name, make in makers.items():
            with steps.step(f"building {name} with every library"):
                workload = make()
                cases: list[Case] = []
                absent: dict[str, str] = {}
                if not options.scaling:
                    cases, absent = peer_cases(workload.network, compiled=options.compile)
                    cases = our_cases(workload.network) + cases
            report["missing"] |= absent
            if cases:
                report["networks"].append(
                    {
                        "name": workload.network.name,
                        "data": workload.data,
                        "batches": [
                            _batch(steps, workload, cases, batch, effort, report["limits"])
                            for batch in workload.batches
                        ],
                    }
                )
            if name == "digits":
                with steps.step("one thread against two"):
                    alone = (os.cpu_count() or 1) < 2
                    report["scaling"] = (
                        {} if alone else measure_scaling(workload, quick=options.quick)
                    )
    return report


def _batch(
    steps: Steps,
    workload: Workload,
    cases: list[Case],
    batch: int,
    effort: Effort,
    limits: dict[str, Any],
) -> dict[str, Any]:
    with steps.step(f"{workload.network.name}, batch {batch:,}"):
        results, failed = measure(workload, cases, batch, effort)
    bounds = {
        kind: lower_bound(limits, workload.network, batch, size)
        for kind, size in (("uint8", 1), ("float32", 4))
    }
    return {"batch": batch, "limits": bounds, "cases": results, "failed": failed}


if __name__ == "__main__":
    sys.exit(main())
