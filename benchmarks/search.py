"""What recipes lose, and what a search finds: on MNIST, on tables, killed and resumed.

    python -m benchmarks.search [--runs 3] [--budget 300] [--quick] [--isa avx2] [--save]

The digits network, trained for ten epochs on MNIST: every named recipe, then as many searches as
said, each with another seed; each result is held on all 10,000 test rows against the original and,
as one native call in the same process, against plain static int8. A search by the command line is
killed after two fifths of its budget and resumed. Then networks with BatchNorm1d on breast cancer,
wine and 50,000 made-up rows of 54 columns, with a fifth of the budget: do they end in time? Takes
half an hour; two threads, as a search uses them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from sklearn import datasets
from torch import nn

import fastmnist as fm
from benchmarks.command import Benchmark
from fastmnist.display.tables import Table
from fastmnist.searching.named import NAMED

MAX_DROP = 0.2
NET = "benchmarks/search.py:trained_net"
_WEIGHTS = "FASTMNIST_SEARCH_WEIGHTS"


def trained_net() -> nn.Module:
    """The network of the killed search: with the weights that its parent trained."""
    net = fm.NeuralNetwork()
    net.load_state_dict(torch.load(os.environ[_WEIGHTS], weights_only=True))
    return net.eval()


def main() -> int:
    """Run it from a command line."""
    benchmark = Benchmark("search", __doc__, "search")
    benchmark.parser.set_defaults(threads=2)
    benchmark.parser.add_argument("--runs", type=int, default=3)
    benchmark.parser.add_argument("--budget", type=float, default=300.0, help="seconds")
    return benchmark.main(run, tables)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    warnings.simplefilter("ignore")
    budget = 30.0 if options.quick else options.budget
    data = fm.load_dataset("auto" if options.quick else "mnist")
    torch.manual_seed(0)
    model = fm.NeuralNetwork()
    _train(model, data, 1 if options.quick else 10)
    return {
        "about": {"data": data.name, "budget": budget, "max_drop": MAX_DROP},
        "recipes": _named(model, data),
        "searches": [_search(model, data, budget, seed) for seed in range(options.runs)],
        "killed": _killed(model, data.name, budget),
        "tables": [_table_search(name, budget / 5) for name in ("breast cancer", "wine", "made")],
    }


def _train(model: nn.Module, data: Any, epochs: int) -> None:
    """By one thread: layers as small as these only wait for a second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fm.train(model, data, epochs=epochs, seed=0)
    torch.set_num_threads(threads)


def _named(model: nn.Module, data: Any) -> list[dict[str, Any]]:
    before = fm.evaluate(model, data)
    found = []
    for name, recipe in NAMED.items():
        start = time.perf_counter()
        made = fm.optimize(model, data, recipe)
        after = fm.evaluate(made, data)
        found.append(
            {
                "name": name,
                "recipe": str(recipe),
                "lost": 100 * (before - after),
                "bytes": fm.size(made),
                "seconds": time.perf_counter() - start,
            }
        )
    return found


def _search(model: nn.Module, data: Any, budget: float, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    found = fm.search(model, data, MAX_DROP, budget=budget, seed=seed)
    seconds = time.perf_counter() - start
    return {"seed": seed, "seconds": seconds, **_held(model, found, data)}


def _held(model: nn.Module, found: fm.Search, data: Any) -> dict[str, Any]:
    """What a search found, on all test rows, beside plain int8."""
    plain = fm.compile(fm.quantize(model, fm.Static(data)))
    best = fm.compile(found.model)
    report = fm.compare({"int8": plain, "best": best}, data, rounds=50)
    own = next(row for row in report if row.name.startswith("best") and row.rows == "uint8")
    base = next(row for row in report if row.name.startswith("int8") and row.rows == "uint8")
    return {
        "recipe": str(found.recipe),
        "met": found.met,
        "trials": len(found.trials),
        "lost": 100 * (fm.evaluate(model, data) - fm.evaluate(best, data)),
        "bytes": fm.size(best),
        "bytes of int8": fm.size(plain),
        "faster than int8": base.p50 / own.p50,
        "faster than int8 in batches": own.throughput / base.throughput,
    }


def _killed(model: nn.Module, name: str, budget: float) -> dict[str, Any]:
    """A search by the command line, killed, and started again in its folder."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "net.pt"
        torch.save(model.state_dict(), weights)
        command = [sys.executable, "-m", "fastmnist", "search", "--data", name]
        command += ["--model", NET, "--trained", "--budget", str(budget), "--max-drop", "0.2"]
        command += ["--folder", f"{folder}/search", "--output", f"{folder}/best.safetensors"]
        command += ["--json", f"{folder}/found.json"]
        environment = os.environ | {_WEIGHTS: str(weights)}
        first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        time.sleep(0.4 * budget)
        first.send_signal(signal.SIGKILL)
        first.wait()
        before = len((Path(folder) / "search" / "trials.jsonl").read_text().splitlines())
        start = time.perf_counter()
        code = subprocess.run(
            command, env=environment, stdout=subprocess.DEVNULL, check=False
        ).returncode
        seconds = time.perf_counter() - start
        found = json.loads((Path(folder) / "found.json").read_text())
        return {
            "trials before": before,
            "trials": len(found["trials"]),
            "seconds after": seconds,
            "exit status": code,
            "recipe": found["best"]["recipe"],
            "drop": found["best"]["drop"],
        }


def _table_search(name: str, budget: float) -> dict[str, Any]:
    x, y, x_test, y_test = _table(name)
    torch.manual_seed(0)
    width, classes = x.shape[1], int(y.max()) + 1
    net = nn.Sequential(
        nn.BatchNorm1d(width), nn.Linear(width, 128), nn.BatchNorm1d(128), nn.ReLU(),
        nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, classes),
    )  # fmt: skip
    _train(net, (x, y), 5 if len(x) > 10_000 else 60)
    start = time.perf_counter()
    found = fm.search(net, (x, y), 0.5, budget=budget, seed=0)
    seconds = time.perf_counter() - start
    test = x_test, y_test
    return {
        "name": name,
        "rows": len(x),
        "budget": budget,
        "seconds": seconds,
        "met": found.met,
        "recipe": str(found.recipe),
        "lost": 100 * (fm.evaluate(net, test) - fm.evaluate(found.model, test)),
        "times smaller": fm.size(net) / fm.size(found.model),
    }


def _table(name: str) -> tuple[torch.Tensor, ...]:
    if name == "made":
        x, y = datasets.make_classification(
            60_000, 54, n_informative=20, n_classes=7, random_state=0
        )
    else:
        load = datasets.load_wine if name == "wine" else datasets.load_breast_cancer
        x, y = load(return_X_y=True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    test = len(x) // 6 if name == "made" else len(x) // 4
    rows, classes = torch.tensor(x).float()[order], torch.tensor(y).long()[order]
    return rows[test:], classes[test:], rows[:test], classes[:test]


def tables(report: dict[str, Any]) -> list[Table]:
    """What is printed, and shown in the README."""
    about = report["about"]
    recipes = Table(f"named recipes, {about['data']}", ["name", "says", "lost", "KB", "seconds"])
    for row in report["recipes"]:
        recipes.row(
            row["name"],
            f"{NAMED[row['name']].max_drop:g}",
            f"{row['lost']:+.2f}",
            f"{row['bytes'] / 1000:.1f}",
            f"{row['seconds']:.0f}",
        )
    recipes.note("points of the test rows' accuracy: how many it may lose, and lost")
    searches = Table(
        f"searches, {about['data']}, at most {about['max_drop']} points, "
        f"{about['budget']:.0f} s each",
        ["found", "lost", "KB (int8)", "× faster", "in batches", "trials", "seconds"],
    )
    for row in report["searches"]:
        searches.row(
            row["recipe"],
            f"{row['lost']:+.2f}",
            f"{row['bytes'] / 1000:.1f} ({row['bytes of int8'] / 1000:.1f})",
            f"{row['faster than int8']:.2f}",
            f"{row['faster than int8 in batches']:.2f}",
            str(row["trials"]),
            f"{row['seconds']:.0f}",
        )
    killed = report["killed"]
    searches.note("lost: of all test rows; faster: than plain static int8, both one native call")
    searches.note(
        f"killed after {killed['trials before']} trials and resumed: {killed['trials']} trials, "
        f"{killed['seconds after']:.0f} s more, exit status {killed['exit status']}: "
        f"{killed['recipe']}"
    )
    others = Table(
        "searches on tables", ["data", "rows", "found", "lost", "× smaller", "seconds", "budget"]
    )
    for row in report["tables"]:
        others.row(
            row["name"],
            f"{row['rows']:,}",
            row["recipe"],
            f"{row['lost']:+.2f}",
            f"{row['times smaller']:.1f}",
            f"{row['seconds']:.1f}",
            f"{row['budget']:.0f}",
        )
    return [recipes, searches, others]


if __name__ == "__main__":
    sys.exit(main())
