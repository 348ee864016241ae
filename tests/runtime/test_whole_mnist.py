"""The whole MNIST test set: one set of bits, whatever computes it and however it is split."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

import fastmnist as fm
from fastmnist import _core
from fastmnist.data import Data
from fastmnist.runtime.compiled import CompiledModel

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _default_threads() -> Iterator[None]:
    yield
    _core.set_num_threads(0)


@pytest.fixture(scope="module")
def rows(mnist: Data) -> np.ndarray:
    return mnist.test.images.reshape(-1, 784).numpy()


@pytest.fixture(scope="module", params=["static", "dynamic"])
def quantized(request: pytest.FixtureRequest, mnist: Data) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fm.NeuralNetwork()
    fm.train(model, mnist.train.subset(3000), epochs=1, seed=0)
    kind = fm.Static(calibration=mnist.train) if request.param == "static" else fm.Dynamic()
    return fm.quantize(model, kind)


@pytest.fixture(scope="module")
def expected(quantized: torch.nn.Module, rows: np.ndarray) -> np.ndarray:
    """Logits by the scalar kernels, one thread."""
    net = fm.compile(quantized, plan="fixed")
    before = _core.set_isa("scalar")
    _core.set_num_threads(1)
    try:
        return net(rows / np.float32(255))
    finally:
        _core.set_num_threads(0)
        _core.set_isa(before)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a.view(np.uint32) == b.view(np.uint32)).all())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_sets_threads_and_plans(
    isa: str, threads: int, quantized: torch.nn.Module, rows: np.ndarray, expected: np.ndarray
) -> None:
    _core.set_num_threads(threads)
    floats = rows / np.float32(255)
    for plan in ("fixed", "measured"):
        net = CompiledModel(fm.compile(quantized, plan="fixed").network, plan)
        assert same_bits(net(floats), expected)
        if net.takes_pixels:
            assert same_bits(net(rows), expected)
        assert (net.predict(floats) == expected.argmax(1)).all()


def test_batch_splits(
    isa: str, quantized: torch.nn.Module, rows: np.ndarray, expected: np.ndarray
) -> None:
    net = fm.compile(quantized)
    floats = rows / np.float32(255)
    for ends in ([*range(0, 10_001, 125)], [0, 1, 3, 6, 21, 100, 197, 1024, 1056, 6001, 10_000]):
        for first, last in pairwise(ends):
            assert same_bits(net(floats[first:last]), expected[first:last])
    for i in range(0, 10_000, 97):
        assert same_bits(net(floats[i : i + 1]), expected[i : i + 1])


def test_modules(
    isa: str, quantized: torch.nn.Module, rows: np.ndarray, expected: np.ndarray
) -> None:
    with torch.inference_mode():
        got = quantized(torch.from_numpy(rows).float().div(255).view(-1, 1, 28, 28))
    assert same_bits(got.numpy(), expected)
