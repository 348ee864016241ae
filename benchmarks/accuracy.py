"""What the benchmarks of accuracy share: options, the trained network, the report's head."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch

import fastmnist as fm
from benchmarks.command import Benchmark
from fastmnist.display.tables import Table

EPOCHS, QUICK_EPOCHS = 10, 1


def main(
    name: str,
    description: str | None,
    results: Callable[[fm.NeuralNetwork, fm.Data, argparse.Namespace], dict[str, Any]],
    tables: Callable[[dict[str, Any]], list[Table]],
    module: str = "",
    more: Mapping[str, dict[str, Any]] | None = None,
) -> int:
    """Read the command line, train 784-96-256-10, make the results, print and keep them."""
    benchmark = Benchmark(module or f"{name}_accuracy", description, name)
    add = benchmark.parser.add_argument
    add("--data", default="auto", choices=("auto", "mnist", "digits"))
    add("--seed", type=int, default=0)
    for name_of_option, about_it in (more or {}).items():
        add(name_of_option, **about_it)

    def run(options: argparse.Namespace) -> dict[str, Any]:
        data = fm.load_dataset(options.data)
        torch.manual_seed(options.seed)
        model = fm.NeuralNetwork(use_dropout=True)
        epochs = QUICK_EPOCHS if options.quick else EPOCHS
        fm.train(model, data, epochs=epochs, seed=options.seed)
        about = {
            "data": data.name,
            "epochs": epochs,
            "seed": options.seed,
            "n": len(data.test),
            "torch": torch.__version__,
        }
        return {"about": about, **results(model.eval(), data, options)}

    return benchmark.main(run, tables)
