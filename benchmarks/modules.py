"""The module path of a random MLP against torch.ao, torchao and torch, in one process.

    python -m benchmarks.modules [--threads 1] [--quick] [--isa avx2] [--save]

Four Linear layers, 1,024 wide, ReLU between them: quantized modules as `fm.quantize` returns
them, beside what they replace. Every case's answers are checked against the float network first;
times are medians of interleaved rounds, ratios to ours. Takes half a minute.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

import numpy as np
import torch

import fastmnist as fm
from benchmarks.batch_tables import batch_table
from benchmarks.command import Benchmark
from benchmarks.measure import FULL, QUICK, measure
from benchmarks.ours import LIBRARY
from benchmarks.peers import Case, FloatLayer, Network, peer_cases
from benchmarks.peers.torch_eager import chain, float_rows
from benchmarks.steps import Steps
from benchmarks.workloads import CALIBRATION_ROWS, Workload
from fastmnist.display.tables import Table

WIDTH, DEPTH = 1024, 4
BATCHES = (1, 64)


def main() -> int:
    return Benchmark("modules", __doc__, "modules").main(run, lambda report: [table(report)])


def workload(threads: int) -> Workload:
    """Make the MLP of random weights, and random pixels."""
    rng = np.random.default_rng(0)
    layers = []
    for i in range(DEPTH):
        # He's scale keeps the values' size from layer to layer.
        weight = rng.normal(scale=(2 / WIDTH) ** 0.5, size=(WIDTH, WIDTH)).astype(np.float32)
        bias = rng.normal(scale=0.05, size=WIDTH).astype(np.float32)
        layers.append(FloatLayer(weight, bias, i + 1 < DEPTH))
    pixels = rng.integers(0, 256, (CALIBRATION_ROWS + 512, WIDTH)).astype(np.uint8)
    name = f"{DEPTH} x Linear({WIDTH},{WIDTH})"
    network = Network(name, tuple(layers), pixels[:CALIBRATION_ROWS], False, threads)
    return Workload(network, pixels[CALIBRATION_ROWS:], BATCHES, "random")


def modules(network: Network) -> list[Case]:
    """Build our modules; the static one is what the others are compared with."""
    model = chain(network)
    calibration = float_rows(network.calibration)
    made = {
        "static int8": fm.quantize(model, fm.Static(calibration)),
        "dynamic int8": fm.quantize(model, fm.Dynamic()),
        "bfloat16": fm.quantize(model, fm.Half(torch.bfloat16)),
    }

    def prepare(module: Any, pixels: Any) -> Any:
        return partial(module, float_rows(pixels))

    return [
        Case(f"{LIBRARY} module, {name}", LIBRARY, "float32", partial(prepare, module))
        for name, module in made.items()
    ]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all."""
    effort = QUICK if options.quick else FULL
    batches = []
    with Steps(1 + len(BATCHES)) as steps:
        with steps.step("building the modules"):
            made = workload(options.threads)
            cases, missing = peer_cases(made.network, only=("torch", "torch.ao", "torchao"))
            cases = modules(made.network) + cases
        for batch in made.batches:
            with steps.step(f"{made.network.name}, batch {batch:,}"):
                results, failed = measure(made, cases, batch, effort)
            batches.append({"batch": batch, "cases": results, "failed": failed})
    return {"missing": missing, "name": made.network.name, "batches": batches}


def table(report: dict[str, Any]) -> Table:
    """The table that is printed, and shown in the README."""
    batches = report["batches"]
    title = f"{report['name']} with ReLU, as modules, µs per call"
    return batch_table(title, batches, batches[0]["cases"][0]["name"], digits=0, of_ratios=1)


if __name__ == "__main__":
    sys.exit(main())
