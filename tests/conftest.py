"""Fixtures that the tests share: data sets, and a trained model."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

# Before torch: its threads would spin while they wait, which takes minutes on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import HealthCheck, settings

from fastmnist.data import Data, load_dataset
from fastmnist.network import NeuralNetwork
from fastmnist.training.loop import train

# `isa` is set once per test, not per example: that is what these tests mean. No deadline, because
# machines differ; `ci-sanitize` is for builds that run ten times slower, `long` for .ci/long.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
settings.register_profile("fastmnist", max_examples=100, **_COMMON)
settings.register_profile("ci-sanitize", max_examples=15, **_COMMON)
settings.register_profile("long", max_examples=1000, **_COMMON)
settings.load_profile("fastmnist")

# Tests make thousands of small networks: what the planner measures has tests of its own
# (test_planning.py). Set before fastmnist is used, so that subprocesses inherit it.
os.environ["FASTMNIST_PLAN"] = "fixed"

_REPO = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """For tests/differential: which random models; for emulated kernels: all of them."""
    parser.addoption("--no-skips", action="store_true", help="a test that is skipped has failed")
    parser.addoption("--models", type=int, default=100, help="how many random models to try")
    parser.addoption("--first-model", type=int, default=0, help="number of the first of them")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where every instruction set is there, nothing has a reason to be left out."""
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but --no-skips was asked for: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def digits() -> Data:
    """Give scikit-learn's digits as 28x28 images: real data on every machine."""
    return load_dataset("digits")


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """Give the folder of the four MNIST files; skip the test where there is none."""
    named = os.environ.get("FASTMNIST_DATA")
    folder = Path(named).resolve() if named else _REPO.parent / "shared" / "data" / "mnist"
    if not any(folder.glob("train-images*")):
        pytest.skip("MNIST not found: name its folder by FASTMNIST_DATA")
    return folder


@pytest.fixture(scope="session")
def mnist(mnist_root: Path) -> Data:
    """Give MNIST; skip the test where it is not on this machine."""
    return load_dataset("mnist", mnist_root)


@pytest.fixture(scope="session")
def trained(digits: Data) -> NeuralNetwork:
    """Give a network trained on the digits, always the same; in eval mode. Do not change it."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = NeuralNetwork()
    # A network this small gains nothing by threads, which on a busy machine wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(model, digits, epochs=15, seed=0)
    torch.set_num_threads(threads)
    return model.eval()


def _runnable_isas() -> list[tuple[str, str]]:
    """List every instruction set of the ladder with the reason why it cannot run here, or ""."""
    from fastmnist import _core

    rungs = _core.cpu_info()["ladder"]
    return [
        (rung["isa"], "" if rung["why_not"].startswith("capped") else rung["why_not"])
        for rung in rungs
    ]


@pytest.fixture(params=_runnable_isas(), ids=lambda rung: rung[0])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once per instruction set: its kernels serve until the test ends."""
    from fastmnist import _core

    name, why_not = request.param
    if why_not:
        pytest.skip(f"{name}: {why_not}")
    before = _core.set_isa(name)
    yield name
    _core.set_isa(before)
