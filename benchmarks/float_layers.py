"""Float32 layers against torch and ONNX Runtime in float32, in one process.

    python -m benchmarks.float_layers [--threads 1] [--quick] [--isa avx2] [--save]

784-96-256-10 and Linear(1024,1024) with ReLU, random weights and rows, at batch 1, 32 and 1,024.
Every case's answers are checked first; times are medians of interleaved rounds. Takes a minute.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from functools import partial
from typing import Any

import numpy as np

import fastmnist as fm
from benchmarks.batch_tables import batch_table
from benchmarks.command import Benchmark
from benchmarks.measure import FULL, QUICK, measure
from benchmarks.ours import LIBRARY
from benchmarks.peers import Case, FloatLayer, Network, peer_cases
from benchmarks.peers.description import U8, Call, aligned, floats
from benchmarks.peers.torch_eager import chain
from benchmarks.steps import Steps
from benchmarks.workloads import CALIBRATION_ROWS, Workload
from fastmnist.display.tables import Table

BATCHES = (1, 32, 1024)
WIDTHS = ((784, 96, 256, 10), (1024, 1024))


def main() -> int:
    return Benchmark("float_layers", __doc__, "float_layers").main(run, tables)


def workload(widths: tuple[int, ...], threads: int) -> Workload:
    """Make a network of random weights, ReLU between its layers or behind its only one."""
    rng = np.random.default_rng(0)
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = rng.normal(scale=(2 / inputs) ** 0.5, size=(outputs, inputs)).astype(np.float32)
        bias = rng.normal(scale=0.05, size=outputs).astype(np.float32)
        layers.append(FloatLayer(weight, bias, i == 0 or i + 2 < len(widths)))
    pixels = rng.integers(0, 256, (CALIBRATION_ROWS + 2048, widths[0])).astype(np.uint8)
    name = "-".join(map(str, widths))
    network = Network(name, tuple(layers), pixels[:CALIBRATION_ROWS], False, threads)
    return Workload(network, pixels[CALIBRATION_ROWS:], BATCHES, "random")


def ours(network: Network) -> Case:
    """Build our case: the float model as one native call, as it is usually called."""
    net = fm.compile(chain(network))

    def prepare(pixels: U8) -> Call:
        x = floats(pixels)
        out = aligned(np.empty((len(x), network.layers[-1].outputs), np.float32))
        return partial(net, x, out)

    return Case(f"{LIBRARY} float32", LIBRARY, "float32", prepare)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all."""
    effort = QUICK if options.quick else FULL
    report: dict[str, Any] = {"missing": {}, "networks": []}
    with Steps(len(WIDTHS) * (1 + len(BATCHES))) as steps:
        for widths in WIDTHS:
            made = workload(widths, options.threads)
            with steps.step(f"building {made.network.name}"):
                peers, missing = peer_cases(made.network, only=("torch", "ONNX Runtime"))
                peers = [case for case in peers if " float32" in case.name]
                cases = [ours(made.network), *peers]
            report["missing"] |= missing
            batches = []
            for batch in made.batches:
                with steps.step(f"{made.network.name}, batch {batch:,}"):
                    results, failed = measure(made, cases, batch, effort)
                batches.append({"batch": batch, "cases": results, "failed": failed})
            report["networks"].append({"name": made.network.name, "batches": batches})
    return report


def tables(report: dict[str, Any]) -> list[Table]:
    """One table a network."""
    return [
        batch_table(
            f"{network['name']} in float32, µs per call", network["batches"], f"{LIBRARY} float32"
        )
        for network in report["networks"]
    ]


if __name__ == "__main__":
    sys.exit(main())
