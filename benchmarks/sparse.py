"""What pruning gains: sparse and structured networks against dense ones and other libraries.

    python -m benchmarks.sparse [--threads 1] [--quick] [--only digits] [--json FILE]

Linear(4096,4096)+ReLU with 50 to 98 % zeros, beside the same weights by our dense int8 kernels and
by ONNX Runtime, OpenVINO (which decompresses sparse weights) and SciPy; 784-96-256-10 pruned, and
with half its neurons removed, beside the unpruned network; and the sizes of the files. Answers are
checked before anything is timed; times are medians of interleaved rounds. Takes some five minutes,
two with --quick. Needs the extra ``peers``.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastmnist as fm
from benchmarks.dense import QUICK_ROUNDS, QUICK_SECONDS, ROUNDS, SECONDS, about
from benchmarks.measure import Effort, measure
from benchmarks.ours import LIBRARY
from benchmarks.peers import Case, Network, peer_cases
from benchmarks.peers.description import U8, Call, aligned
from benchmarks.peers.torch_eager import chain
from benchmarks.sparse_tables import DENSE, SPARSE, tables
from benchmarks.workloads import CALIBRATION_ROWS, digits_model, wide
from fastmnist import _core
from fastmnist.command.arguments import thread_count
from fastmnist.int8.network import QuantizedNetwork
from fastmnist.measuring.timing import time_interleaved
from fastmnist.runtime.packing import pack
from fastmnist.runtime.planning import plan_into, shapes_of
from fastmnist.saving.save_load import file_size

PEERS = ("ONNX Runtime", "OpenVINO", "SciPy")
WIDE_ZEROS = (0.5, 0.8, 0.9, 0.95, 0.98)
DIGITS_ZEROS = (0.5, 0.8, 0.9, 0.95)
DIGITS_BATCHES = (1, 32, 1024)
PAIRS = 5


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sparse",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=thread_count, default=1)
    parser.add_argument("--data", default="auto", choices=("auto", "mnist", "digits"))
    parser.add_argument("--only", choices=("digits", "4096"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse(sys.argv[1:])
    torch.set_num_threads(options.threads)
    fm.set_num_threads(options.threads)
    effort = Effort(
        QUICK_ROUNDS if options.quick else ROUNDS, QUICK_SECONDS if options.quick else SECONDS / 2
    )
    report: dict[str, Any] = {
        "about": about(options, effort.rounds, fm.cpu_info()["isa"], "benchmarks.sparse")
    }
    if options.only in (None, "4096"):
        report |= wide_layers(options.threads, effort)
    if options.only in (None, "digits"):
        report |= digits_networks(options.data, effort)
    for table in tables(report):
        print(table, end="\n\n")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0


def wide_layers(threads: int, effort: Effort) -> dict[str, Any]:
    """Linear(4096,4096)+ReLU: sparse, dense, and other libraries."""
    layers, missing = [], {}
    for zeros in WIDE_ZEROS:
        workload = wide(4096, threads, zeros)
        peers, absent = peer_cases(workload.network, only=PEERS)
        missing |= absent
        quantized = quantize(workload.network)
        sparse, dense = fm.CompiledModel(quantized), dense_model(quantized)
        cases = [ours(SPARSE, sparse), ours(DENSE, dense), *peers]
        batches = []
        for batch in workload.batches:
            results, failed = measure(workload, cases, batch, effort)
            ratios = against_dense(quantized, aligned(workload.pixels[:batch]), effort)
            batches.append(
                {"batch": batch, "cases": results, "failed": failed, "than_dense": ratios}
            )
        sizes = {"sparse": file_size(sparse)}
        if zeros == WIDE_ZEROS[0]:
            sizes["dense"] = file_size(compiled(wide(4096, threads).network))
        layers.append({"zeros": zeros, "batches": batches, "file_bytes": sizes})
    return {"wide": layers, "missing": missing}


def against_dense(network: QuantizedNetwork, x: U8, effort: Effort) -> list[float]:
    """How many times faster the planned model is than the dense one, for several pairs of them.

    Where the pages of 16 MB come to lie makes a model of the very same kernels up to a tenth
    faster or slower: a single pair would not tell.
    """
    ratios = []
    for _ in range(PAIRS):
        dense, planned = dense_model(network), fm.CompiledModel(network)
        timings = time_interleaved(
            [[call_into(dense, x)], [call_into(planned, x)]],
            rounds=effort.rounds,
            calls_per_round=5,
            warm_up=3,
            what=f"sparse and dense, batch {len(x)}",
        )
        ratios.append(timings[1].ratio)
    return sorted(ratios)


def digits_networks(data_name: str, effort: Effort) -> dict[str, Any]:
    """784-96-256-10: pruned and structured beside what it was made from."""
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
        pruned = fm.prune(model, method)
        net = fm.compile(pruned, calibration)
        batches = {}
        for batch in DIGITS_BATCHES:
            x = aligned(pixels[:batch])
            check_same(net, pruned, calibration, x)
            calls = [[call_into(own, x)] for own in (original, net)]
            first, second = time_interleaved(
                calls,
                rounds=4 * effort.rounds,
                calls_per_round=20 if batch > 100 else 200,
                what=f"{name}, batch {batch:,}",
            )
            batches[batch] = {
                "original": first.p50 * 1e6,
                "pruned": second.p50 * 1e6,
                "faster": second.ratio,
                "spread": second.spread,
            }
        rows.append({"name": name, "batches": batches, "file_bytes": file_size(net)})
    return {
        "digits": rows,
        "data": data.name,
        "original_file_bytes": file_size(original),
    }


def quantize(network: Network) -> QuantizedNetwork:
    """Quantize a float network to canonical layers."""
    calibration = torch.from_numpy(network.calibration)
    static = fm.Static(calibration=calibration, mean=0.0, std=1.0)
    return compiled_network(fm.quantize(chain(network), static))


def compiled_network(model: torch.nn.Module) -> QuantizedNetwork:
    """Return the layers of a quantized chain."""
    return fm.compile(model, plan="fixed").network


def compiled(network: Network) -> fm.CompiledModel:
    return fm.CompiledModel(quantize(network))


def dense_model(network: QuantizedNetwork) -> Any:
    """Run the same weights by dense kernels only, planned as well as the others."""
    packed = pack(network, [[] for _ in network.layers])
    plan_into(packed, shapes_of(network), "measured")
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
