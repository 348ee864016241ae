"""What pruning costs in accuracy, with and without training afterwards.

    python -m benchmarks.pruning_accuracy [--data mnist] [--quick] [--save]

Trains 784-96-256-10 for ten epochs, prunes it in several ways and tests each result on the whole
test half, as a float model and compiled to int8. Training goes on after pruning, so the unpruned
network that is trained on for as long is listed too. Every count of zeros is checked against what
was asked for, and that int8 keeps the zeros. Takes some three minutes with MNIST on one thread.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import fastmnist as fm
from benchmarks.accuracy import main
from fastmnist.display.tables import Table


def cases(data: Any, *, quick: bool, seed: int) -> dict[str, Callable[[nn.Module], nn.Module]]:
    """How each variant is made from the trained network."""

    def tuned(
        method: Any, steps: int, last: int, finetune: Any
    ) -> Callable[[nn.Module], nn.Module]:
        def make(model: nn.Module) -> nn.Module:
            torch.manual_seed(seed)
            if quick:
                return fm.prune(model, method, finetune=finetune)
            cubic = fm.Cubic(steps=steps)
            return fm.prune(model, method, finetune=finetune, schedule=cubic, epochs=last)

        return make

    def no_dropout(model: nn.Module) -> Any:
        """One epoch: what is left of a network at 95 % has nothing to spare."""
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return fm.train(model, data, epochs=1)

    def longer(epochs: int, *, dropout: bool) -> Callable[[nn.Module], nn.Module]:
        def make(model: nn.Module) -> nn.Module:
            torch.manual_seed(seed)
            trained = copy.deepcopy(model)
            for _ in range(1 if quick else epochs):
                fm.train(trained, data, epochs=1) if dropout else no_dropout(trained)
            return trained.eval()

        return make

    def after(epochs: int) -> str:
        return "1 epoch" if quick else f"{epochs} epochs"

    at_80, at_95 = fm.L1Unstructured(0.8, scope="global"), fm.L1Unstructured(0.95, scope="global")
    half = fm.Structured(0.5)
    return {
        "original": lambda model: model,
        f"original, {after(5)} more": longer(5, dropout=True),
        f"original, {after(19)} more, no dropout": longer(19, dropout=False),
        "80 % global": lambda model: fm.prune(model, at_80),
        f"80 % global, {after(5)}": tuned(at_80, 3, 3, data),
        "95 % global": lambda model: fm.prune(model, at_95),
        f"95 % global, {after(19)}": tuned(at_95, 10, 10, data),
        f"95 % global, {after(19)}, no dropout": tuned(at_95, 10, 10, no_dropout),
        "half the neurons": lambda model: fm.prune(model, half),
        f"half the neurons, {after(5)}": tuned(half, 3, 3, data),
        f"half the neurons, {after(19)}": tuned(half, 10, 10, data),
    }


def results(
    original: nn.Module, data: Any, options: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """Prune and test in every way."""
    rows = []
    for name, make in cases(data, quick=options.quick, seed=options.seed).items():
        start = time.perf_counter()
        model = make(original)
        seconds = time.perf_counter() - start
        rows.append(measure(name, model, data) | {"seconds": round(seconds, 1)})
        check(rows[-1], name)
    return {"variants": rows}


def measure(name: str, model: nn.Module, data: Any) -> dict[str, Any]:
    """Test one variant, in float and compiled to int8."""
    net = fm.compile(model, data)
    score, int8 = fm.evaluate(model, data), fm.evaluate(net, data)
    zeros, quantized = fm.sparsity(model), fm.sparsity(net)
    return {
        "name": name,
        "n": score.n,
        "accuracy": float(score),
        "int8_accuracy": float(int8),
        "zeros": zeros.to_dict(),
        "int8_zeros": quantized.to_dict(),
    }


def check(row: dict[str, Any], name: str) -> None:
    """Raise AssertionError if the zeros are not those that were asked for."""
    zeros, quantized = row["zeros"]["overall"], row["int8_zeros"]["overall"]
    for share in (80, 95):
        if name.startswith(f"{share} %"):
            assert zeros["zeros"] == round(share / 100 * zeros["weights"]), name
    if name.startswith("half"):
        shapes = [layer["shape"] for layer in row["zeros"]["layers"].values()]
        assert shapes == [[48, 784], [128, 48], [10, 128]], name
    assert quantized["zeros"] >= zeros["zeros"], name
    assert quantized["weights"] == zeros["weights"], name


def table(report: dict[str, Any]) -> Table:
    """Lay out the report for reading."""
    about = report["about"]
    title = f"Accuracy after pruning: {about['data']}, n = {about['n']:,}"
    made = Table(title, ["variant", "accuracy", "points", "int8", "points", "zeros", "weights"])
    base = report["variants"][0]
    for row in report["variants"]:
        zeros = row["zeros"]["overall"]
        made.row(
            row["name"],
            f"{row['accuracy']:.2%}",
            f"{100 * (row['accuracy'] - base['accuracy']):+.2f}",
            f"{row['int8_accuracy']:.2%}",
            f"{100 * (row['int8_accuracy'] - base['int8_accuracy']):+.2f}",
            f"{zeros['zeros']:,}",
            f"{zeros['weights']:,}",
        )
    return made


if __name__ == "__main__":
    sys.exit(main("pruning", __doc__, results, lambda report: [table(report)]))
