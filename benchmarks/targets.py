"""What fastmnist is asked to reach on this machine, and what it reaches: one command.

    python -m benchmarks.targets [--isa avx2] [--baseline 24f06f5] [--quick] [--save]

The digits network from uint8 and float32 rows and from random rows without zeros, a wide layer with
and without zeros, modules against torch, and two threads against two processes: each beside the
best library as usually called and the best prepared for the very rows or batch size, both named.
Needs the extra ``peers`` and MNIST. Answers are checked first; times are medians of interleaved
rounds. Takes some five minutes, a minute and a half with --quick.

--baseline builds that commit beside this one (``build/baselines/``, once) and lets its dense
kernels take turns with ours, in a process of their own; without it our own dense kernels of today
stand for them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import fastmnist as fm
from benchmarks.command import Benchmark
from benchmarks.dense_tables import ahead, best_library, find
from benchmarks.measure import QUICK, Effort, measure
from benchmarks.ours import our_cases
from benchmarks.peers import Network, peer_cases
from benchmarks.peers.description import aligned
from benchmarks.processes.baseline import build, full_hash
from benchmarks.processes.workers import Worker, in_process, interleave, write_job
from benchmarks.sparse import call_into, dense_model, quantize
from benchmarks.steps import Steps
from benchmarks.targets_tables import MODULES, OURS, TORCH, tables
from benchmarks.workloads import CALIBRATION_ROWS, Workload, digits, wide

EFFORT = Effort(31, 8.0, hopeless=3.0)
ZEROS = (0.5, 0.8, 0.95, 0.98)
THREADS_BATCHES = (1024, 10_000)


def main() -> int:
    benchmark = Benchmark("targets", __doc__, "targets")
    add = benchmark.parser.add_argument
    add("--data", default="mnist", choices=("mnist", "digits"))
    add("--baseline", metavar="COMMIT", help="measure zeros against its dense kernels")
    return benchmark.main(run, tables)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    effort = QUICK if options.quick else EFFORT
    report: dict[str, Any] = {"missing": {}, "networks": []}
    commit = full_hash(options.baseline) if options.baseline else None
    real = digits(options.data, options.threads)
    workloads = [real, without_zeros(real), wide(4096, options.threads)]
    total = sum(1 + len(w.batches) for w in workloads) + len(ZEROS) + bool(commit) + 1
    with Steps(total) as steps, tempfile.TemporaryDirectory() as folder:
        for workload in workloads:
            with steps.step(f"building {workload.network.name} with every library"):
                cases, absent = peer_cases(workload.network)
                cases = our_cases(workload.network) + cases
            report["missing"] |= absent
            batches = []
            for batch in workload.batches:
                with steps.step(f"{workload.network.name}, {workload.data}, batch {batch:,}"):
                    results, failed = measure(workload, cases, batch, effort)
                batches.append(summary(batch, results, failed))
            report["networks"].append(
                {"name": workload.network.name, "data": workload.data, "batches": batches}
            )
        places: list[Path] = []
        if commit:
            with steps.step(f"building {commit[:7]}"):
                places = build(commit)
        report["sparse"] = []
        for zeros in ZEROS:
            with steps.step(f"{zeros:.0%} zeros, batch 1"):
                layer = wide(4096, options.threads, zeros)
                report["sparse"].append(
                    {"zeros": zeros, **sparse_layer(layer, Path(folder), places, options.quick)}
                )
        report["baseline"] = commit
        with steps.step("two threads, two processes"):
            rounds = 7 if options.quick else 21
            report["threads"] = two_threads(real, Path(folder), rounds)
    return report


def without_zeros(workload: Workload) -> Workload:
    """Give the same network random rows of 1 to 255, also to calibrate it."""
    rng = np.random.default_rng(0)
    count, inputs = workload.pixels.shape
    rows = rng.integers(1, 256, (CALIBRATION_ROWS + count, inputs)).astype(np.uint8)
    # Nobody decides anything by such rows: the classes of most are the same, or near each other.
    network: Network = replace(
        workload.network, calibration=rows[:CALIBRATION_ROWS], classifies=False
    )
    batches = tuple(batch for batch in workload.batches if batch > 1)
    return Workload(network, rows[CALIBRATION_ROWS:], batches, "random 1..255")


def summary(batch: int, cases: list[dict[str, Any]], failed: dict[str, str]) -> dict[str, Any]:
    """Reduce the cases to ours, the best libraries, and how many times faster ours is."""
    all_of_it = {"cases": cases}
    made: dict[str, Any] = {"batch": batch, "failed": failed}
    for kind, name in OURS.items():
        ours = find(all_of_it, name)
        made[kind] = {"microseconds": ours["microseconds"]}
        for way, prepared in (("usual", False), ("prepared", True)):
            best = best_library(all_of_it, prepared, "float32" if kind == "float32" else "")
            made[kind][way] = best and {
                "name": best["name"],
                "microseconds": best["microseconds"],
                "faster": ahead(ours, best),
            }
    torch = find(all_of_it, TORCH)
    made["than_torch"] = {
        name: ahead(find(all_of_it, name), torch) if torch else None for name in MODULES
    }
    return made


def sparse_layer(
    workload: Workload, folder: Path, baseline: list[Path], quick: bool
) -> dict[str, Any]:
    """One row through a layer with zeros: planned, our dense kernels, SciPy, and the baseline's."""
    rows = aligned(workload.pixels[:1])
    copies = 1 if quick else 3
    quantized = quantize(workload.network)
    planned = [fm.CompiledModel(quantized) for _ in range(copies)]
    dense = [dense_model(quantized) for _ in range(copies)]
    scipy, _ = peer_cases(workload.network, only=("SciPy",))
    calls = {
        "planned": in_process([call_into(model, rows) for model in planned]),
        "dense": in_process([call_into(model, rows) for model in dense]),
    }
    for case in scipy:
        calls["scipy"] = in_process([case.prepare(rows)])
    with ExitStack() as stack:
        if baseline:
            job = folder / "layer.npz"
            write_job(job, workload.network, rows)
            worker = Worker(
                job,
                kernels="dense",
                threads=workload.network.threads,
                copies=copies,
                path=baseline,
            )
            stack.enter_context(worker)
            worker.check(planned[0](rows))
            calls["baseline"] = worker.turn
        medians = interleave(
            [*calls.values()], rounds=9 if quick else 31, warm_up=3, calls=5 if quick else 20
        )
    times = dict(zip(calls, medians, strict=True))
    return {
        "microseconds": {name: float(np.median(t)) * 1e6 for name, t in times.items()},
        "faster_than": {
            name: float(np.median(t / times["planned"]))
            for name, t in times.items()
            if name != "planned"
        },
    }


def two_threads(workload: Workload, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """One process on two threads against two on one each at once: what the machine has to give."""
    if (os.cpu_count() or 1) < 2:
        return []
    made = []
    for batch in (b for b in THREADS_BATCHES if b <= len(workload.pixels)):
        job = folder / f"rows{batch}.npz"
        write_job(job, workload.network, aligned(workload.pixels[:batch]))
        calls = max(4, 40_000 // batch)
        with (
            Worker(job, kernels="planned", threads=2) as both,
            Worker(job, kernels="planned") as first,
            Worker(job, kernels="planned") as second,
        ):
            rates: dict[str, list[float]] = {"one": [], "threads": [], "processes": []}
            for turn in range(-1, rounds):
                wanted = {"turn": 0, "warm_up": 1, "calls": calls}
                one = np.median(first.turn(0, 1, calls))
                together = np.median(both.turn(0, 1, calls))
                for worker in (first, second):
                    worker.start(wanted)
                apart = [np.median(worker.answer()) for worker in (first, second)]
                if turn >= 0:
                    rates["one"].append(float(batch / one * 1e9))
                    rates["threads"].append(float(batch / together * 1e9))
                    rates["processes"].append(float(sum(batch / t * 1e9 for t in apart)))
        share = np.array(rates["threads"]) / np.array(rates["processes"])
        made.append(
            {
                "batch": batch,
                "rows_per_second": {name: float(np.median(r)) for name, r in rates.items()},
                "share": float(np.median(share)),
            }
        )
    return made


if __name__ == "__main__":
    sys.exit(main())
