"""What the benchmarks of accuracy share: options, the trained network, the report's head."""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fastmnist as fm
from fastmnist.display.tables import Table

EPOCHS, QUICK_EPOCHS = 10, 1


def main(
    module: str,
    description: str | None,
    results: Callable[[fm.NeuralNetwork, fm.Data, argparse.Namespace], dict[str, Any]],
    tables: Callable[[dict[str, Any]], list[Table]],
) -> int:
    """Read the command line, train 784-96-256-10, make the results, print and keep them."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", default="auto", choices=("auto", "mnist", "digits"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one epoch of training each time")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fm.set_num_threads(1)
    data = fm.load_dataset(options.data)
    torch.manual_seed(options.seed)
    model = fm.NeuralNetwork(use_dropout=True)
    epochs = QUICK_EPOCHS if options.quick else EPOCHS
    fm.train(model, data, epochs=epochs, seed=options.seed)
    about = {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "data": data.name,
        "epochs": epochs,
        "quick": options.quick,
        "seed": options.seed,
        "n": len(data.test),
        "cpu": fm.cpu_info()["model"],
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    report = {"about": about, **results(model.eval(), data, options)}
    for made in tables(report):
        print(made, end="\n\n")
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0
