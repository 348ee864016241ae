"""What each technique gains and loses on three kinds of models: the table of "When to use what".

    python -m benchmarks.decisions [--quick] [--isa avx2] [--save]

The digits network 784-96-256-10 and a wide one, 784-1024-1024-10, on MNIST, and a network with
BatchNorm1d on 20,000 made-up rows of 54 columns. Each technique as docs/choosing.md has it, called
with one row and with 1,024 in turns with the original; three epochs of training where a technique
wants some. Ten minutes, one thread.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastmnist as fm
from benchmarks.command import Benchmark
from benchmarks.side_by_side import decision_tables

BATCHES = (1, 1024)
Make = Callable[[nn.Module, Any, int], Any]


def _few_bits(model: nn.Module, data: Any, epochs: int) -> nn.Module:
    prepared = fm.prepare_qat(model, fm.QAT(weight_bits=4))
    fm.train(prepared, data, epochs=epochs, seed=0, lr=3e-4)
    return fm.convert(prepared)


def _pruned(model: nn.Module, data: Any, epochs: int) -> nn.Module:
    # The layer that names the classes is small, and the one that pruning hurts most.
    last = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    return fm.prune(model, fm.L1Unstructured(0.9), finetune=data, epochs=epochs, exclude=last)


# Modules, in the order of docs/choosing.md: of a model, data and epochs.
TECHNIQUES: dict[str, Make] = {
    "fused": lambda m, d, e: fm.fuse(m),
    "dynamic int8": lambda m, d, e: fm.quantize(m, fm.Dynamic()),
    "static int8": lambda m, d, e: fm.quantize(m, fm.Static(d)),
    "bfloat16": lambda m, d, e: fm.quantize(m, fm.Half(torch.bfloat16)),
    "4 bits (QAT)": _few_bits,
    "16 clusters": lambda m, d, e: fm.cluster(m, fm.Clusters(16), d, epochs=e),
    "pruned 90 %": _pruned,
    "half of the neurons": lambda m, d, e: fm.prune(m, fm.Structured(0.5), finetune=d, epochs=e),
    "low rank, half": lambda m, d, e: fm.factorize(m, fm.LowRank(ratio=0.5), d, epochs=e),
}
# One native call, of which of those; in int8.
COMPILED = ("static int8", "4 bits (QAT)", "16 clusters", "pruned 90 %", "half of the neurons")


def variants_of(model: nn.Module, data: Any, epochs: int) -> dict[str, Any]:
    """Make all of them, the original first."""
    made: dict[str, Any] = {name: how(model, data, epochs) for name, how in TECHNIQUES.items()}
    compiled = {"compiled, float32": fm.compile(model)}
    for name in COMPILED:
        compiled[f"compiled, {name}"] = fm.compile(
            made[name], None if name in ("static int8", "4 bits (QAT)") else data
        )
    return {"original": model, **made, **compiled}


class _Wide(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(784, 1024), nn.ReLU()),
            *(nn.Linear(1024, 1024), nn.ReLU()),
            nn.Linear(1024, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def _table() -> tuple[nn.Module, Any, Any]:
    x, y = make_classification(
        20_000, 54, n_informative=20, n_classes=7, class_sep=2.0, random_state=0
    )
    columns = torch.tensor(x, dtype=torch.float32) * torch.logspace(-2, 3, 54)
    classes = torch.tensor(y)
    train = TensorDataset(columns[:16_000], classes[:16_000])
    model = nn.Sequential(
        nn.BatchNorm1d(54),
        *(nn.Linear(54, 128), nn.BatchNorm1d(128), nn.ReLU()),
        *(nn.Linear(128, 64), nn.BatchNorm1d(64), nn.ReLU()),
        nn.Linear(64, 7),
    )
    return model, DataLoader(train, 128, shuffle=True), (columns[16_000:], classes[16_000:])


def main() -> int:
    """Run it from a command line."""
    return Benchmark("decisions", __doc__, "decisions").main(
        run, lambda report: decision_tables([report])
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    warnings.simplefilter("ignore")
    digits = fm.load_dataset("auto" if options.quick else "mnist")
    kinds: dict[str, tuple[Any, ...]] = {
        "784-96-256-10": (fm.NeuralNetwork, digits, digits, 10),
        "784-1024-1024-10": (_Wide, digits, digits, 3),
        "54-128-64-7 with BatchNorm1d": (None, None, None, 5),
    }
    found = {}
    for name, (make, train, test, epochs) in kinds.items():
        torch.manual_seed(0)
        model, train, test = (make(), train, test) if make else _table()
        quick = options.quick
        fm.train(model, train, epochs=1 if quick else epochs, seed=0, batch_size=64)
        variants = variants_of(model, train, 1 if quick else 3)
        report = fm.compare(
            variants,
            test,
            batches=BATCHES,
            rounds=10 if quick else 60,
            compiled_rows="uint8" if make else "float32",
        )
        print(report, end="\n\n", file=sys.stderr)
        found[name] = [
            {
                "technique": row.name,
                "difference": row.difference,
                "p": row.p_value,
                "score": row.score,
                "disk": row.disk,
                "compressed": fm.size(variants[row.name], compress=True),
                "speedups": [t.speedup if t.differs else 1.0 for t in row.timings],
                "microseconds": [1e6 * t.p50 for t in row.timings],
            }
            for row in report
        ]
    return {"about": {"data": digits.name, "batches": [*BATCHES]}, "kinds": found}


if __name__ == "__main__":
    sys.exit(main())
