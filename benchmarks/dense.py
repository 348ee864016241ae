"""fastmnist against other libraries and against the limits of the core, in one process.

    python -m benchmarks.dense [--threads 1] [--quick] [--only digits] [--json FILE]

Runs 784-96-256-10 on real digits, and Linear+ReLU of 1,024 and 4,096 on random pixels. Needs the
extra ``peers``; a peer that is not installed is left out and named. Every case's answers are
checked against the float network before it is timed; times are medians of interleaved rounds. What
the core can do at best is measured in the same run. Takes some three minutes, one with --quick.

--isa caps the kernels: the benchmark runs in a child process with FASTMNIST_ISA set, and for avx2
torch, oneDNN and MKL capped alike (ONNX Runtime, OpenVINO and NumPy know no such cap).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import fastmnist as fm
from benchmarks.bounds import lower_bound
from benchmarks.dense_tables import tables
from benchmarks.measure import Effort, measure
from benchmarks.ours import our_cases
from benchmarks.peers import peer_cases
from benchmarks.scaling import measure_scaling
from benchmarks.workloads import Workload, digits, wide
from fastmnist import _core
from fastmnist.command.arguments import thread_count

VERSIONS = ("numpy", "scipy", "torch", "torchao", "onnx", "onnxruntime", "openvino")
CAPS = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
}
ROUNDS, QUICK_ROUNDS = 31, 9
SECONDS, QUICK_SECONDS = 12.0, 2.0  # per network and batch size


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dense",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=thread_count, default=1)
    parser.add_argument("--data", default="auto", choices=("auto", "mnist", "digits"))
    parser.add_argument("--only", choices=("digits", "1024", "4096"), help="one network")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scaling", action="store_true", help="only one thread against two")
    parser.add_argument("--compile", action="store_true", help="torch.compile is a peer too")
    isas = [rung["isa"] for rung in fm.cpu_info()["ladder"]]
    parser.add_argument("--isa", choices=isas, help="cap the kernels")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse(sys.argv[1:])
    if options.isa:
        cap = {"FASTMNIST_ISA": options.isa, **CAPS.get(options.isa, {})}
        if any(os.environ.get(name) != value for name, value in cap.items()):
            # Libraries read these when they are first imported.
            command = [sys.executable, "-m", "benchmarks.dense", *sys.argv[1:]]
            return subprocess.call(command, env=os.environ | cap)
    torch.set_num_threads(options.threads)
    fm.set_num_threads(options.threads)
    report = run(options)
    for table in tables(report):
        print(table, end="\n\n")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    effort = Effort(rounds, QUICK_SECONDS if options.quick else SECONDS)
    isa = fm.cpu_info()["isa"]
    limits = _core.measure_limits(isa)
    made: list[Workload] = []
    if options.only in (None, "digits"):
        made.append(digits(options.data, options.threads))
    if not options.scaling:
        made += [
            wide(width, options.threads)
            for width in (1024, 4096)
            if options.only in (None, str(width))
        ]
    missing: dict[str, str] = {}
    networks = []
    for workload in [] if options.scaling else made:
        cases, absent = peer_cases(workload.network, compiled=options.compile)
        cases = our_cases(workload.network) + cases
        missing |= absent
        batches = []
        for batch in workload.batches:
            results, failed = measure(workload, cases, batch, effort)
            bounds = {
                kind: lower_bound(limits, workload.network, batch, size)
                for kind, size in (("uint8", 1), ("float32", 4))
            }
            batches.append({"batch": batch, "limits": bounds, "cases": results, "failed": failed})
        networks.append({"name": workload.network.name, "data": workload.data, "batches": batches})
    report = {
        "about": about(options, rounds, isa),
        "limits": limits,
        "missing": missing,
        "networks": networks,
    }
    if options.only in (None, "digits"):
        alone = (os.cpu_count() or 1) < 2
        report["scaling"] = {} if alone else measure_scaling(made[0], 9 if options.quick else 21)
    return report


def about(
    options: argparse.Namespace, rounds: int, isa: str, module: str = "benchmarks.dense"
) -> dict[str, Any]:
    """Say what ran where."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "cpu": fm.cpu_info()["model"],
        "isa": isa,
        "capped": {name: os.environ[name] for name in _caps() if name in os.environ},
        "threads": options.threads,
        "rounds": rounds,
        "python": platform.python_version(),
        "versions": versions,
    }


def _caps() -> list[str]:
    return ["FASTMNIST_ISA", *(name for cap in CAPS.values() for name in cap)]


if __name__ == "__main__":
    sys.exit(main())
