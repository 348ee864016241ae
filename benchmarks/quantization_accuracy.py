"""What quantization costs in accuracy: observers, per-channel weights, training, 16 bits.

    python -m benchmarks.quantization_accuracy [--data mnist] [--quick] [--save]

Trains 784-96-256-10 for ten epochs and quantizes it in every way, calibrated on 512 training
images, tested on the whole test half. QAT trains one more epoch; so does the float network that it
is compared with. Then a random MLP of four layers, 1,024 wide: signal to noise of its outputs, also
with outliers (1 value in 1,000 times 50) in the calibration data. Takes a minute with MNIST.
"""

from __future__ import annotations

import argparse
import copy
import sys
from typing import Any

import torch
from torch import Tensor, nn

import fastmnist as fm
from benchmarks.accuracy import main
from fastmnist.display.tables import Table
from fastmnist.measuring.sqnr import outputs_of, sqnr

OBSERVERS = ("minmax", "moving_average", "percentile", "histogram", "mse")
FINE_TUNING_RATE = 1e-4


def results(model: nn.Module, data: Any, _: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Quantize and test in every way."""
    made = variants(model, data).items()
    digits = [measure(name, variant, model, data) for name, variant in made]
    return {"digits": digits, "random": random_mlp()}


def variants(model: nn.Module, data: Any) -> dict[str, nn.Module]:
    """Every way to quantize the trained network, by name; the float one first."""

    def trained(prepared: nn.Module) -> nn.Module:
        fm.train(prepared, data, epochs=1, lr=FINE_TUNING_RATE, seed=0)
        return prepared

    made: dict[str, nn.Module] = {"float32": model}
    for observer in OBSERVERS:
        for per_channel in (True, False):
            kind = "" if per_channel else ", per tensor"
            config = fm.Static(data.train, observer=observer, per_channel=per_channel)
            made[f"static, {observer}{kind}"] = fm.quantize(model, config)
    made["dynamic"] = fm.quantize(model, fm.Dynamic())
    made["bfloat16"] = fm.quantize(model, fm.Half(torch.bfloat16))
    made["float16"] = fm.quantize(model, fm.Half(torch.float16))
    made["float32, an epoch more"] = trained(copy.deepcopy(model)).eval()
    made["QAT, an epoch"] = fm.convert(trained(fm.prepare_qat(model)))
    per_tensor = fm.prepare_qat(model, fm.QAT(per_channel=False))
    made["QAT, an epoch, per tensor"] = fm.convert(trained(per_tensor))
    return made


def measure(name: str, made: nn.Module, model: nn.Module, data: Any) -> dict[str, Any]:
    """Test one variant, and compare its logits with the trained network's."""
    score = fm.evaluate(made, data)
    noise = None if "epoch" in name or made is model else sqnr(*outputs_of([model, made], data))
    return {"name": name, "accuracy": float(score), "n": score.n, "sqnr": noise}


def random_mlp() -> list[dict[str, Any]]:
    """SQNR of a random network by observer, and what outliers do to it."""
    torch.manual_seed(0)
    layers = [layer for _ in range(4) for layer in (nn.Linear(1024, 1024), nn.ReLU())]
    model = nn.Sequential(*layers[:-1]).eval()
    calibration, test = torch.randn(512, 1024), torch.randn(512, 1024)
    dirty, also = outliers(calibration, 1), outliers(test, 2)

    def quality(config: Any, rows: Tensor) -> float:
        return sqnr(*outputs_of([model, fm.quantize(model, config)], rows))

    rows = []
    for observer in OBSERVERS:
        config, spoilt = (fm.Static(x, observer=observer) for x in (calibration, dirty))
        rows.append(
            {
                "name": f"static, {observer}",
                "clean": quality(config, test),
                "outliers in calibration": quality(spoilt, test),
                "outliers in both": quality(spoilt, also),
            }
        )
    rows.append(
        {
            "name": "dynamic",
            "clean": quality(fm.Dynamic(), test),
            "outliers in calibration": quality(fm.Dynamic(), test),
            "outliers in both": quality(fm.Dynamic(), also),
        }
    )
    return rows


def outliers(x: Tensor, seed: int) -> Tensor:
    """Multiply 1 value in 1,000 by 50."""
    generator = torch.Generator().manual_seed(seed)
    return torch.where(torch.rand(x.shape, generator=generator) < 1e-3, x * 50, x)


def tables(report: dict[str, Any]) -> list[Table]:
    """The tables that are printed, and shown in the README."""
    about, digits = report["about"], report["digits"]
    first = Table(
        f"784-96-256-10, {about['data']}, n = {about['n']:,}, seed {about['seed']}",
        ["", "accuracy", "difference", "SQNR dB"],
    )
    for row in digits:
        first.row(
            row["name"],
            f"{row['accuracy']:.2%}",
            "–" if row is digits[0] else f"{(row['accuracy'] - digits[0]['accuracy']) * 100:+.2f}",
            "–" if row["sqnr"] is None else f"{row['sqnr']:.1f}",
        )
    first.note("difference in points to float32; one image is 0.01 points of MNIST")
    second = Table(
        "random MLP, 4 layers of 1,024: SQNR of the outputs in dB",
        ["", "clean", "outliers in calibration", "outliers in both"],
    )
    for row in report["random"]:
        second.row(row["name"], *(f"{row[key]:.1f}" for key in second.columns[1:]))
    second.note("outliers: 1 value in 1,000 times 50; by themselves they belong to the signal")
    return [first, second]


if __name__ == "__main__":
    sys.exit(main("quantization", __doc__, results, tables))
