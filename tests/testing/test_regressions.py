"""fastmnist.testing of a regression: metrics with a direction, limits that fit."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch
from test_testing_plugin import SUITE, outcomes, run
from torch import nn

import fastmnist as fm
from fastmnist import testing
from fastmnist.testing import limits

X = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def models():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1)).eval()
    with torch.no_grad():
        y = model(X)[:, 0] + 0.01 * torch.randn(96, generator=torch.Generator().manual_seed(1))
    return model, fm.quantize(model, fm.Static(X)), lambda x: model(x) + 1, (X, y)


@pytest.mark.parametrize("metric", ["mse", "mae", nn.MSELoss(), nn.functional.l1_loss])
def test_an_error_that_rises_is_a_drop(models, metric):
    model, _, worse, data = models
    with pytest.raises(AssertionError, match=r"a rise of at most 0.5, got .* after, n = 96"):
        testing.assert_accuracy_drop(worse, model, data, max=0.5, metric=metric)
    testing.assert_accuracy_drop(worse, model, data, max=1.1, metric=metric)
    testing.assert_accuracy_drop(model, worse, data, max=0, metric=metric)
    with pytest.raises(ValueError, match=r"max: expected a limit for .* give max="):
        testing.assert_accuracy_drop(model, model, data, metric=metric)


def test_the_default_is_r2_with_a_limit_that_fits(models):
    model, q, worse, data = models
    testing.assert_accuracy_drop(q, model, data)
    with pytest.raises(AssertionError, match=r"r2: expected a drop of at most 0.005, got"):
        testing.assert_accuracy_drop(worse, model, data)
    with pytest.raises(AssertionError, match=r"r2: expected a drop"):
        testing.assert_accuracy_drop(lambda x: model(x) * torch.nan, model, data)


def test_a_function_needs_its_direction(models):
    model, _, worse, data = models
    off = lambda y, t: (y[:, 0] - t).abs().mean()  # noqa: E731
    with pytest.raises(ValueError, match="greater_is_better=True or False"):
        testing.assert_accuracy_drop(worse, model, data, max=0.5, metric=off)
    with pytest.raises(AssertionError, match="metric: expected a rise"):
        testing.assert_accuracy_drop(
            worse, model, data, max=0.5, metric=off, greater_is_better=False
        )
    testing.assert_accuracy_drop(
        worse, model, data, max=0.5, metric=lambda y, t: -off(y, t) * 0, greater_is_better=True
    )


def test_checks_of_outputs(models):
    model, q, worse, data = models
    testing.assert_r2(q, model, X)
    testing.assert_max_error(q, model, X, max=0.2)
    with pytest.raises(AssertionError, match=r"R²: expected outputs with at least 0.98, got"):
        testing.assert_r2(worse, model, X)
    with pytest.raises(AssertionError, match=r"within 0.5, got one 1 off, in row \d+ of 96"):
        testing.assert_max_error(worse, model, X, max=0.5)
    with pytest.raises(AssertionError, match="got one inf off"):
        testing.assert_max_error(lambda x: model(x) * torch.nan, model, X, max=0.5)
    two = lambda x: torch.cat([model(x), model(x)], 1)  # noqa: E731
    for outputs, rows in ((model, data), (model, X), (two, (X, torch.randn(96, 2)))):
        with pytest.raises(AssertionError, match=r"use assert_r2 and assert_max_error.*limits"):
            testing.assert_agreement(outputs, outputs, rows)


def test_other_forms_of_data(models):
    model, q, _, (x, y) = models
    rows = [{"row": a, "value": b} for a, b in zip(x.split(40), y.split(40), strict=True)]
    read = lambda batch: (batch["row"], batch["value"])  # noqa: E731
    testing.assert_accuracy_drop(q, model, rows, batch_fn=read)
    for check in (testing.assert_r2, testing.assert_sqnr):
        check(q, model, rows, batch_fn=read)
    testing.assert_max_error(q, model, rows, max=0.2, batch_fn=read)
    testing.assert_bit_equal(q, q, rows, batch_fn=read)
    testing.assert_faster(q, model, rows, ratio=1e-9, rounds=1, batch_fn=read)


def test_baselines_know_their_metric(models, tmp_path):
    model, q, worse, data = models
    path = tmp_path / "baseline.json"
    fm.compare({"a": model, "b": q}, data, rounds=1, metric="mae").to_json(path)
    later = fm.compare({"a": model, "b": worse}, data, rounds=1, metric="mae")
    with pytest.raises(AssertionError, match=r"'b' lost .* of mae \(at most"):
        testing.assert_no_worse(later, path)
    testing.assert_no_worse(later, path, points=2)
    later.to_json(path)
    testing.assert_no_worse(fm.compare({"a": model, "b": q}, data, rounds=1, metric="mae"), path)
    other = fm.compare({"a": model, "b": q}, data, rounds=1)
    with pytest.raises(AssertionError, match="the metric was mae, is r2"):
        testing.assert_no_worse(other, path)
    unknown = fm.compare({"a": model}, data, rounds=1, metric=lambda y, t: 1.0)
    unknown.to_json(path)
    with pytest.raises(ValueError, match="greater_is_better="):
        testing.assert_no_worse(unknown, path)


def test_one_set_of_defaults():
    import inspect

    for check, function, argument in (
        ("accuracy_drop", testing.assert_accuracy_drop, "max"),
        ("agreement", testing.assert_agreement, "min"),
        ("r2", testing.assert_r2, "min"),
        ("sqnr", testing.assert_sqnr, "min_db"),
        ("smaller", testing.assert_smaller, "ratio"),
        ("no_worse", testing.assert_no_worse, "points"),
    ):
        default = inspect.signature(function).parameters[argument].default
        assert default == limits.DEFAULTS[check], check
        assert isinstance(default, float | Mapping)


PROJECT = """
import torch
from torch import nn
import fastmnist as fm

torch.manual_seed(0)
X = torch.randn(96, 6)
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1)).eval()
Y = model(X).detach()[:, 0] + 0.01 * torch.randn(96)

def data():
    return [(x, y) for x, y in zip(X.split(40), Y.split(40))]

def rows():
    return [{"row": x, "value": y} for x, y in data()]

def read(batch):
    return batch["row"], batch["value"]

def variants():
    broken = nn.Sequential(model, nn.Linear(1, 1))
    nn.init.ones_(broken[1].weight)
    nn.init.ones_(broken[1].bias)
    return {"original": model, "int8": fm.quantize(model, fm.Static(X)), "broken": broken.eval()}

def off(outputs, targets):
    return (outputs[:, 0] - targets).abs().mean()
"""


@pytest.fixture
def project(tmp_path):
    (tmp_path / "own.py").write_text(PROJECT)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nminversion = "8"\n')
    return tmp_path


@pytest.mark.slow
def test_the_suite_of_a_regression(project):
    options = (*SUITE, "--variants=own:variants", "--data=own:data", "-v")
    code, text = run(project, *options, "--fastmnist-max-error=0.3")
    found = outcomes(text.split("short test summary")[0])
    assert code == 1, text
    for check in ("accuracy_drop", "r2", "max_error"):
        assert found[f"test_{check}[broken]"] == "FAILED", text
        assert found[f"test_{check}[int8]"] == "PASSED", text
    assert found["test_agreement[int8]"] == "SKIPPED"
    assert "max_error: expected outputs within 0.3, got one 1 off" in text
    assert "r2: expected a drop of at most 0.005" in text


@pytest.mark.slow
def test_the_suite_with_a_metric(project):
    options = (*SUITE, "--variants=own:variants", "-q", "-k", "accuracy_drop or no_worse")
    own = ("--data=own:rows", "--batch-fn=own:read", "--metric=own:off")
    code, text = run(project, *options, *own)
    assert code not in (0, 1), text
    assert "--greater-is-better=yes or no" in text
    limit = "--fastmnist-accuracy-drop=0.1"
    code, text = run(project, *options, *own, "--greater-is-better=no", limit)
    assert code == 1, text
    assert "off: expected a rise of at most 0.1, got" in text
    assert "1 failed, 1 passed" in text
    stored = ("--baseline=b.json", "--update-baseline")
    code, text = run(project, *options, "--data=own:data", "--metric=mae", limit, *stored)
    assert "1 failed, 2 passed" in text
    assert "mae" in json.loads((project / "b.json").read_text())["rows"][0]


CONFTEST = """
import own, pytest
import fastmnist as fm

@pytest.fixture(scope="session")
def fastmnist_data(): return own.rows()

@pytest.fixture(scope="session")
def fastmnist_batch_fn(): return own.read

@pytest.fixture(scope="session")
def fastmnist_variants(): return own.variants()

@pytest.fixture(scope="session")
def fastmnist_metric(): return fm.Metric("off", own.off, greater_is_better=False)

@pytest.fixture(scope="session")
def fastmnist_limits(): return {"accuracy_drop": 0.1, "broken": {"r2": None, "max_error": 2}}
"""


@pytest.mark.slow
def test_the_suite_with_fixtures(project):
    (project / "conftest.py").write_text(CONFTEST)
    code, text = run(project, *SUITE, "-v", "-k", "accuracy_drop or r2 or max_error")
    found = outcomes(text.split("short test summary")[0])
    assert code == 1, text
    assert found == {
        "test_accuracy_drop[int8]": "PASSED",
        "test_accuracy_drop[broken]": "FAILED",
        "test_r2[int8]": "PASSED",
        "test_max_error[broken]": "PASSED",
    }, text
    assert "off: expected a rise of at most 0.1, got 0.9" in text or "got 1" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--metric=rsme", "did you mean 'rmse'"),
        ("--metric=own:nothing", "--metric=own:nothing: expected pkg.mod:fn"),
        ("--greater-is-better=maybe", "--greater-is-better: expected yes or no, got maybe"),
        ("--data=fashion", "--data=fashion: expected mnist, digits, auto or pkg.mod:fn"),
    ],
)
def test_mistakes_are_told(project, argument, message):
    data = () if argument.startswith("--data") else ("--data=own:data",)
    code, text = run(project, *SUITE, "--variants=own:variants", *data, argument)
    assert code not in (0, 1), text
    assert message in text
