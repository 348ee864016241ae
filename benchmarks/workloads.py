"""What is measured: the digits network on real rows, and single wide layers on random ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import fastmnist as fm
from benchmarks.peers import FloatLayer, Network
from benchmarks.peers.description import U8

CALIBRATION_ROWS = 512
DIGITS_BATCHES, WIDE_BATCHES = (1, 32, 1024, 10_000), (1, 16, 256)


@dataclass(frozen=True)
class Workload:
    """A network, the rows it is given, and how many at a time."""

    network: Network
    pixels: U8
    batches: tuple[int, ...]
    data: str


def digits_model(data: fm.Data) -> fm.NeuralNetwork:
    """Train 784-96-256-10 for a moment."""
    torch.manual_seed(0)
    model = fm.NeuralNetwork()
    fm.train(model, data, epochs=2)
    return model


def digits(data_name: str, threads: int) -> Workload:
    """Make the digits network; its rows are the test set."""
    data = fm.load_dataset(data_name)
    model = digits_model(data)
    layers = tuple(
        FloatLayer(linear.weight.detach().numpy(), linear.bias.detach().numpy(), relu)
        for linear, relu in ((model.linear1, True), (model.linear2, True), (model.linear3, False))
    )
    calibration = data.train.subset(CALIBRATION_ROWS).images.reshape(-1, 784).numpy()
    pixels = data.test.images.reshape(-1, 784).numpy()
    return Workload(
        Network("784-96-256-10", layers, calibration, True, threads),
        pixels,
        tuple(batch for batch in DIGITS_BATCHES if batch <= len(pixels)),
        data.name,
    )


def wide(width: int, threads: int, zeros: float = 0.0) -> Workload:
    """Make Linear(width, width)+ReLU of random weights, and random pixels.

    With `zeros`, that share of the weights, those of smallest magnitude, is zero.
    """
    rng = np.random.default_rng(width)
    weight = rng.normal(scale=0.05, size=(width, width)).astype(np.float32)
    if zeros:
        weight[np.abs(weight) < np.quantile(np.abs(weight), zeros)] = 0
    layer = FloatLayer(
        weight,
        rng.normal(scale=0.05, size=width).astype(np.float32),
        True,
    )
    pixels = rng.integers(0, 256, (CALIBRATION_ROWS + 512, width)).astype(np.uint8)
    return Workload(
        Network(
            f"Linear({width},{width})+ReLU",
            (layer,),
            pixels[:CALIBRATION_ROWS],
            False,
            threads,
            zeros,
        ),
        pixels[CALIBRATION_ROWS:],
        WIDE_BATCHES,
        "random",
    )
