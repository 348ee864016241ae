"""A metric goes by its own name through tables, plots, frames, JSON and records of training."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

import fastmnist as fm

X = torch.randn(90, 12, generator=torch.Generator().manual_seed(0))
Y = X[:, :1] * 2 + X[:, 1:2]


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1)).eval()


def compared(**options):
    model = small()
    return fm.compare(
        {"a": model, "q": fm.quantize(model, fm.Static(X))}, (X, Y), rounds=1, **options
    )


@pytest.mark.parametrize("metric", ["mae", "r2", None])
def test_it_is_called_by_its_name(metric):
    name = metric or "r2"
    report = compared(metric=metric)
    expected = fm.evaluate(small(), (X, Y), metric=name)
    assert report[0].score == getattr(report[0], name) == expected
    assert not hasattr(report[0], "accuracy")
    with pytest.raises(AttributeError, match=f"it holds '{name}'"):
        _ = report[0].accuracy
    assert report[1].difference == report[1].score - report[0].score
    table = report.table()
    assert table.columns[2] == name
    assert f"{name}: {'less' if name == 'mae' else 'greater'} is better" in str(report)
    assert "accuracy" not in str(report).lower()
    stored = json.loads(report.to_json())
    assert "accuracy" not in stored["rows"][0]
    assert stored["rows"][0][name] == expected
    assert stored["about"]["greater_is_better"] is (name == "r2")
    assert report.to_frame()[name].tolist() == [row.score for row in report]
    assert report.plot().axes[1].get_title() == name
    assert [*fm.Report.from_json(report.to_json())] == list(report)
    for copied in (copy.deepcopy(report[0]), pickle.loads(pickle.dumps(report[0]))):
        assert copied == report[0]


def test_a_function_without_a_direction_is_shown_as_such():
    report = compared(metric=lambda outputs, targets: (outputs - targets).abs().max())
    assert report.about["metric"] == "metric"
    assert report.about["greater_is_better"] is None
    assert "which direction is better was not said" in str(report)
    report = compared(metric=lambda y, t: (y - t).abs().max(), greater_is_better=False)
    assert "less is better" in str(report)


def loss(outputs, targets):
    return (outputs - targets).abs().mean()


def test_a_name_that_is_taken_hides_nothing():
    report = compared(metric=loss, loss_fn=nn.MSELoss())
    stored = json.loads(report.to_json())["rows"]
    assert stored[0]["score"] == report[0].score
    expected = fm.evaluate(small(), (X, Y), metric="mse")
    assert stored[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert [*fm.Report.from_json(report.to_json())] == list(report)


def test_sensitivity_has_its_metric():
    table = fm.sensitivity(small(), (X, Y), metric="mse", rounds=1)
    assert table.mse == table.score == fm.evaluate(small(), (X, Y), metric="mse")
    assert table[0].mse == table[0].score
    assert table.table().columns[2] == "mse"
    assert "mse" in table.to_frame().columns
    assert "less is better" in str(table)
    assert fm.sensitivity(small(), (X, Y), rounds=1).metric == "r2"


def test_training_has_its_metric():
    options = {"loss_fn": nn.MSELoss(), "validation": (X, Y), "seed": 0}
    history = fm.train(small(), (X, Y), epochs=2, metric="mae", **options)
    assert history.metric == "mae"
    assert history.accuracy == history.val_accuracy == [None, None]
    assert history.score == [record.mae for record in history]
    assert history.val_score[-1] == history[-1].val_mae
    assert history.table().columns == ["epoch", "loss", "mae", "seconds", "val_loss", "val_mae"]
    assert "val_mae" in history.to_frame().columns
    assert "mae" in repr(history)
    assert fm.train(small(), (X, Y), epochs=1, **options).metric == "r2"


def test_a_score_of_an_epoch_is_over_all_its_outputs():
    model, rate = nn.Linear(12, 1), 1e-12  # so slow that outputs stay what they are
    history = fm.train(
        model, (X, Y), epochs=1, batch_size=7, lr=rate, loss_fn=nn.MSELoss(), metric="r2"
    )
    assert history.score[0] == pytest.approx(fm.evaluate(model, (X, Y)), abs=1e-6)
