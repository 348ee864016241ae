"""What pruning gains: sparse and structured networks against dense ones and other libraries.

    python -m benchmarks.sparse [--threads 1] [--quick] [--only digits] [--isa avx2] [--save]

Linear(4096,4096)+ReLU with 50 to 98 % zeros, beside the same weights by our dense int8 kernels and
by ONNX Runtime, OpenVINO (which decompresses sparse weights) and SciPy; 784-96-256-10 pruned, and
with half its neurons removed, beside the unpruned network; and the sizes of the files. Answers are
checked before anything is timed; times are medians of interleaved rounds. Takes some five minutes,
one with --quick, which leaves out the peers that are many times slower than the best. Needs the
extra ``peers``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

import fastmnist as fm
from benchmarks.command import Benchmark
from benchmarks.measure import FULL, LONG_CALL, QUICK, Effort, measure, seconds_of, turns
from benchmarks.ours import LIBRARY
from benchmarks.peers import Case, Network, peer_cases
from benchmarks.peers.description import U8, Call, aligned
from benchmarks.peers.torch_eager import chain
from benchmarks.sparse_tables import DENSE, SPARSE, tables
from benchmarks.steps import Steps
from benchmarks.workloads import CALIBRATION_ROWS, WIDE_BATCHES, digits_model, wide
from fastmnist import _core
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.measuring.timing import time_interleaved
from fastmnist.runtime.packing import pack
from fastmnist.runtime.planning import plan_into
from fastmnist.saving.save_load import size

PEERS = ("ONNX Runtime", "OpenVINO", "SciPy")
WIDE_ZEROS, QUICK_ZEROS = (0.5, 0.8, 0.9, 0.95, 0.98), (0.5, 0.8, 0.95, 0.98)
DIGITS_ZEROS = (0.5, 0.8, 0.9, 0.95)
DIGITS_BATCHES = (1, 32, 1024)
PAIRS, QUICK_PAIRS = 5, 2
EFFORT = replace(FULL, seconds=FULL.seconds / 2)
QUICK_EFFORT = replace(QUICK, seconds=QUICK.seconds / 2, hopeless=2.0)


def main() -> int:
    benchmark = Benchmark("sparse", __doc__, "sparse")
    add = benchmark.parser.add_argument
    add("--data", default="auto", choices=("auto", "mnist", "digits"))
    add("--only", choices=("digits", "4096"))
    benchmark.partial += ("only",)
    return benchmark.main(run, tables)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    effort = QUICK_EFFORT if options.quick else EFFORT
    shares, pairs = (QUICK_ZEROS, QUICK_PAIRS) if options.quick else (WIDE_ZEROS, PAIRS)
    wanted = [options.only] if options.only else ["4096", "digits"]
    total = 0
    if "4096" in wanted:
        total += len(shares) * (1 + len(WIDE_BATCHES))
    if "digits" in wanted:
        total += 2 + len(DIGITS_ZEROS)
    report: dict[str, Any] = {}
    with Steps(total) as steps:
        if "4096" in wanted:
            report |= wide_layers(steps, options.threads, effort, shares, pairs)
        if "digits" in wanted:
            report |= digits_networks(steps, options.data, effort)
    return report


def wide_layers(
    steps: Steps, threads: int, effort: Effort, shares: tuple[float, ...], count: int
) -> dict[str, Any]:
    """Linear(4096,4096)+ReLU: sparse, dense, and other libraries."""
    layers, missing = [], {}
    for zeros in shares:
        with steps.step(f"building Linear(4096,4096), {zeros:.0%} zeros, with every library"):
            workload = wide(4096, threads, zeros)
            peers, absent = peer_cases(workload.network, only=PEERS)
            quantized = quantize(workload.network)
            pairs = [(fm.CompiledModel(quantized), dense_model(quantized)) for _ in range(count)]
            sparse, dense = pairs[0]
            sizes = {"sparse": size(sparse)}
            if not layers:
                # Nothing is measured of it, so nothing needs to be planned.
                sizes["dense"] = size(
                    fm.CompiledModel(quantize(wide(4096, threads).network), plan="fixed")
                )
        missing |= absent
        cases = [ours(SPARSE, sparse), ours(DENSE, dense), *peers]
        batches = []
        for batch in workload.batches:
            with steps.step(f"{zeros:.0%} zeros, batch {batch:,}"):
                results, failed = measure(workload, cases, batch, effort)
                ratios = against_dense(pairs, aligned(workload.pixels[:batch]), effort)
            batches.append(
                {"batch": batch, "cases": results, "failed": failed, "than_dense": ratios}
            )
        layers.append({"zeros": zeros, "batches": batches, "file_bytes": sizes})
    return {"wide": layers, "missing": missing}


def against_dense(pairs: list[tuple[Any, Any]], x: U8, effort: Effort) -> list[float]:
    """How many times faster the planned model is than the dense one, for several pairs of them.

    Where the pages of 16 MB come to lie makes a model of the very same kernels up to a tenth
    faster or slower: a single pair would not tell.
    """
    ratios = []
    for planned, dense in pairs:
        calls = [call_into(dense, x), call_into(planned, x)]
        every = sum(seconds_of(call) for call in calls)
        rounds, _, warm_up = turns(every, len(calls), effort)
        timings = time_interleaved(
            [[call] for call in calls],
            rounds=rounds,
            calls_per_round=5 if every < 2 * LONG_CALL else 1,
            warm_up=warm_up,
            what=f"sparse and dense, batch {len(x)}",
        )
        ratios.append(timings[1].ratio)
    return sorted(ratios)


def digits_networks(steps: Steps, data_name: str, effort: Effort) -> dict[str, Any]:
    """784-96-256-10: pruned and structured beside what it was made from."""
    with steps.step("training 784-96-256-10"):
        data = fm.load_dataset(data_name)
        model = digits_model(data)
        pixels = data.test.images.reshape(-1, 784).numpy()
        calibration = data.train.subset(CALIBRATION_ROWS)
        original = fm.compile(model, calibration)
    rows = []
    variants = [
        (f"{zeros:.0%} zeros", fm.L1Unstructured(zeros, scope="global")) for zeros in DIGITS_ZEROS
    ]
    variants.append(("half the neurons", fm.Structured(0.5)))
    for name, method in variants:
        with steps.step(f"784-96-256-10, {name}"):
            pruned = fm.prune(model, method)
            net = fm.compile(pruned, calibration)
            batches = {}
            for batch in DIGITS_BATCHES:
                x = aligned(pixels[:batch])
                check_same(net, pruned, calibration, x)
                calls = [[call_into(own, x)] for own in (original, net)]
                first, second = time_interleaved(
                    calls,
                    rounds=effort.rounds if effort is QUICK_EFFORT else 4 * effort.rounds,
                    calls_per_round=20 if batch > 100 else 200,
                    what=f"{name}, batch {batch:,}",
                )
                batches[batch] = {
                    "original": first.p50 * 1e6,
                    "pruned": second.p50 * 1e6,
                    "faster": second.ratio,
                    "spread": second.spread,
                }
        rows.append({"name": name, "batches": batches, "file_bytes": size(net)})
    return {
        "digits": rows,
        "data": data.name,
        "original_file_bytes": size(original),
    }


def quantize(network: Network) -> QuantizedNetwork:
    """Quantize a float network to canonical layers."""
    calibration = torch.from_numpy(network.calibration)
    static = fm.Static(calibration=calibration, mean=0.0, std=1.0)
    return compiled_network(fm.quantize(chain(network), static))


def compiled_network(model: torch.nn.Module) -> QuantizedNetwork:
    """Return the layers of a quantized chain."""
    return fm.compile(model, plan="fixed").network


def dense_model(network: QuantizedNetwork) -> Any:
    """Run the same weights by dense kernels only, planned as well as the others."""
    packed = pack(network, [[] for _ in network.layers])
    plan_into(packed, "measured")
    return _core.Model(packed)


def ours(name: str, model: Any) -> Case:
    return Case(name, LIBRARY, "uint8", partial(call_into, model))


def call_into(model: Any, pixels: U8) -> Call:
    y = np.empty((len(pixels), model.out_features), np.float32)
    return lambda: model(pixels, out=y)


def check_same(net: Any, pruned: torch.nn.Module, calibration: Any, x: U8) -> None:
    """Raise unless the compiled answers are, bit by bit, those of the modules."""
    module = fm.quantize(pruned, fm.Static(calibration=calibration))
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).reshape(-1, 1, 28, 28)).numpy()
    if not np.array_equal(net(x), expected):
        raise AssertionError("the compiled network's answers are not those of its modules")


if __name__ == "__main__":
    sys.exit(main())
