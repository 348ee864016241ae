"""How often compare finds a difference between a model and itself.

    python -m benchmarks.null_compare [--runs 50] [--threads 1] [--only compiled] [--json FILE]

Each line is a pair that has nothing to tell: the same object twice, deep copies of a module (the
same weights elsewhere in memory), a network compiled twice, networks whose calls take under a
microsecond. A run counts as wrong if any of the batch sizes says "faster" or "slower"; of 50 at
most one may. Exits with 1 where more do.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fastmnist as fm
from fastmnist.display.tables import Table

Pair = tuple[Any, Any]


def pairs() -> dict[str, Callable[[torch.Tensor], Pair]]:
    """Return what is compared with itself, by name: a function of rows of 784 features."""
    torch.manual_seed(0)
    model = fm.NeuralNetwork().eval()
    tiny = nn.Sequential(nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 4)).eval()

    def compiled(x: torch.Tensor, source: nn.Module, twice: bool) -> Pair:
        net = fm.compile(source, x)
        return net, fm.compile(source, x) if twice else net

    def quantized(x: torch.Tensor, twice: bool) -> Pair:
        q = fm.quantize(model, fm.Static(x))
        return q, copy.deepcopy(q) if twice else q

    return {
        "float, same object": lambda x: (model, model),
        "float, deep copies": lambda x: (copy.deepcopy(model), copy.deepcopy(model)),
        "int8 modules, same object": lambda x: quantized(x, False),
        "int8 modules, deep copies": lambda x: quantized(x, True),
        "compiled, same object": lambda x: compiled(x, model, False),
        "compiled, twice": lambda x: compiled(x, model, True),
        "tiny compiled, same object": lambda x: compiled(x, tiny, False),
        "tiny compiled, twice": lambda x: compiled(x, tiny, True),
    }


def measure(make: Callable[[torch.Tensor], Pair], runs: int, rounds: int) -> dict[str, Any]:
    """Compare a pair again and again; tell how often a difference was said, and how large."""
    x = torch.rand(1024, 784, generator=torch.Generator().manual_seed(0))
    y = torch.arange(1024) % 4
    wrong, ratios, spreads, quiet, p50s = 0, [], [], 0, []
    for _ in range(runs):
        first, second = make(x)
        report = fm.compare({"first": first, "second": second}, (x, y), rounds=rounds)
        timings = report["second"].timings
        wrong += any(timing.differs for timing in timings)
        ratios += [max(t.speedup, 1 / t.speedup) for t in timings if t.differs]
        spreads += [timing.spread for timing in timings]
        p50s.append(timings[0].p50)
        quiet += report.about["noise"]["verdict"] == "quiet"
    middle = sorted(spreads)[len(spreads) // 2]
    return {
        "runs": runs,
        "wrong": wrong,
        "ratios": ratios,
        "median_spread": middle,
        "quiet": quiet,
        "microseconds": sorted(p50s)[len(p50s) // 2] * 1e6,
    }


def table(report: dict[str, Any]) -> Table:
    """Return what was measured."""
    made = Table(
        "a model against itself",
        ["pair", "µs at batch 1", "runs", "said to differ", "most", "noise allowed", "quiet runs"],
    )
    for name, found in report["pairs"].items():
        most = max(found["ratios"], default=0.0)
        made.row(
            name,
            f"{found['microseconds']:.2f}",
            str(found["runs"]),
            str(found["wrong"]),
            f"{most:.2f} ×" if most else "–",
            f"{found['median_spread']:.0%}",
            str(found["quiet"]),
        )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=25, help="of each run, as compare's rounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="pairs with this in their name")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fm.set_num_threads(options.threads)
    found = {
        name: measure(make, options.runs, options.rounds)
        for name, make in pairs().items()
        if options.only in name
    }
    info = fm.cpu_info()
    about = {"cpu": info["model"], "isa": info["isa"], "threads": options.threads}
    report = {"about": about, "pairs": found}
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))
    return int(any(entry["wrong"] > entry["runs"] / 50 for entry in found.values()))


if __name__ == "__main__":
    sys.exit(main())
