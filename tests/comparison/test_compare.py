"""compare: every variant on the same rows, and the table in every form."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from models import MyModel, TwoInputs, snapshot
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastmnist as fm


@pytest.fixture(scope="module")
def variants(trained, digits):
    return fm.variants(trained, digits)


@pytest.fixture(scope="module")
def report(variants, digits):
    return fm.compare(variants, digits, rounds=2)


@pytest.mark.slow
def test_the_usual_rows_and_columns(report, trained, digits):
    assert [row.name for row in report] == [
        "original", "fused", "dynamic int8", "static int8", "bfloat16", "pruned 50 %",
        "pruned + int8", "4-bit", "clustered", "low-rank", "distilled",
        "compiled float32 (float32 rows)", "compiled float32 (uint8 rows)",
        "compiled (float32 rows)", "compiled (uint8 rows)",
    ]  # fmt: skip
    assert [row.rows for row in report] == ["float32"] * 12 + ["uint8", "float32", "uint8"]
    assert report[0].accuracy == fm.evaluate(trained, digits)
    assert report["fused"].accuracy == pytest.approx(report[0].accuracy, abs=0.002)
    for name in ("dynamic int8", "static int8"):
        assert report[name].accuracy == pytest.approx(report[0].accuracy, abs=0.01)
    assert report["compiled (uint8 rows)"].accuracy == report["static int8"].accuracy
    assert report["compiled (float32 rows)"].loss == report["static int8"].loss
    assert report["original"].layers_changed == 0
    assert report["fused"].layers_changed == 2
    assert report["static int8"].layers_changed == report["pruned + int8"].layers_changed == 3
    assert report["low-rank"].layers_changed == 2
    assert report["low-rank"].accuracy > report[0].accuracy - 0.03
    assert report["original"].disk > 1.9 * report["low-rank"].disk
    assert report["original"].disk > 3.7 * report["static int8"].disk
    assert report["original"].memory == 102_762 * 4
    for row in report:
        assert 0 < row.p50 <= row.p99
        assert row.throughput > 0
        assert row.difference == row.accuracy - report[0].accuracy
        assert row.memory > 100_000
    assert report[0].p_value is None
    assert report[0].speedup == 1
    assert all(0 <= row.p_value <= 1 for row in report[1:])
    assert report.about["n"] == len(digits.test)
    assert report.about["data"] == digits.name


@pytest.mark.slow
def test_every_form(report, tmp_path):
    text = str(report)
    for word in (
        "variant",
        "p99",
        "rows/s",
        "memory",
        "disk",
        "layers changed",
        "original",
        "digits",
    ):
        assert word in text
    assert repr(report) == text
    markdown = report.to_markdown(tmp_path / "r.md")
    assert (tmp_path / "r.md").read_text() == markdown
    assert markdown.count("\n| ") == len(report) + 2
    content = json.loads(report.to_json(tmp_path / "r.json"))
    assert json.loads((tmp_path / "r.json").read_text()) == content
    assert [row["name"] for row in content["rows"]] == [row.name for row in report]
    assert content["about"]["isa"]
    frame = report.to_frame()
    assert [*frame.index] == [row.name for row in report]
    assert frame.loc["original", "accuracy"] == report[0].accuracy
    html = report._repr_html_()
    assert html.count("<tr>") == len(report) + 1
    figure = report.plot()
    figure.savefig(tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000
    from rich.console import Console

    Console(file=open(tmp_path / "rich", "w"), width=200).print(report)  # noqa: SIM115
    assert "original" in (tmp_path / "rich").read_text()
    with pytest.raises(KeyError, match=r"variant: expected one of original.*, got 'other'"):
        report["other"]
    assert len(report[2:4]) == 2


def test_names_are_escaped(digits):
    model = MyModel()
    report = fm.compare({"<b>a|b</b> [red]": model}, digits, rounds=1, name="[x] & <y>")
    assert "<b>" not in report._repr_html_()
    assert "a\\|b" in report.to_markdown()
    assert "[red]" in str(report)
    assert "[x] & <y>" in str(report)


def test_modes_and_numbers_are_left_alone(digits):
    model = fm.NeuralNetwork().train()
    model.dropout1.eval()
    q = fm.quantize(model, fm.Dynamic()).train()
    before = snapshot(model), snapshot(q)
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    fm.compare({"a": model, "q": q}, digits, rounds=1)
    assert torch.equal(torch.rand(2), expected)
    for was, now in zip(before, (snapshot(model), snapshot(q)), strict=True):
        assert was[1:] == now[1:]
        assert all(torch.equal(was[0][key], now[0][key]) for key in was[0])


def test_modes_come_back_after_an_error(digits):
    model = fm.NeuralNetwork().train()

    def broken(x):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fm.compare({"a": model, "b": broken}, digits, rounds=1)
    assert all(m.training for m in model.modules())


X = torch.randn(90, 12, generator=torch.Generator().manual_seed(0))
Y = torch.arange(90) % 4


def small():
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))


@pytest.mark.parametrize("kind", ["tuple", "numpy", "loader", "dataset"])
def test_all_kinds_of_data(kind):
    data = {
        "tuple": (X, Y),
        "numpy": (X.numpy(), Y.numpy()),
        "loader": DataLoader(TensorDataset(X, Y), batch_size=32),
        "dataset": TensorDataset(X, Y),
    }[kind]
    model = small()
    net = fm.compile(model, X)
    report = fm.compare({"a": model, "net": net, "f": lambda x: model(x)}, data, rounds=1)
    assert [row.name for row in report] == ["a", "net", "f"]
    assert report[0].accuracy == report[2].accuracy == fm.evaluate(model, (X, Y))
    assert report[2].memory is None
    assert report[2].disk is None
    assert report.about["n"] == 90
    assert "–" in str(report)


def test_numpy_callables():
    net = fm.compile(small(), X)
    report = fm.compare({"a": net, "b": lambda x: net(x.numpy())}, (X, Y), rounds=1)
    assert report[0].accuracy == report[1].accuracy


def test_several_inputs():
    model = TwoInputs()
    numbers = torch.randn(90, 3)
    for data in ((X, numbers, Y), ({"image": X, "numbers": numbers}, Y)):
        report = fm.compare({"a": model, "q": fm.quantize(model, fm.Dynamic())}, data, rounds=1)
        assert report[1].accuracy == pytest.approx(report[0].accuracy, abs=0.1)


def test_a_metric_and_a_loss_of_ones_own():
    def worst(outputs, target):
        return (outputs - target).abs().max()

    targets = torch.randn(90, 4)
    model = small()
    report = fm.compare(
        {"a": model, "q": fm.quantize(model, fm.Static(X))}, (X, targets), rounds=1, metric=worst,
        loss_fn=nn.functional.mse_loss,
    )  # fmt: skip
    assert report.about["metric"] == "worst"
    assert report[1].p_value is None
    assert report[1].loss == pytest.approx(report[0].loss, rel=0.05)
    assert "worst" in str(report)
    titles = [axis.get_title() for axis in report.plot().axes]
    assert "worst" in titles
    json.loads(report.to_json())


def test_json_has_no_nan():
    """NaN is no JSON; readers in other languages refuse it."""
    report = fm.compare({"a": lambda x: x[:, :4] * float("nan")}, (X, Y), rounds=1)

    def refuse(text):
        raise AssertionError(text)

    json.loads(report.to_json(), parse_constant=refuse)


def test_mcnemar_marks_what_differs():
    scores = nn.functional.one_hot(Y, 4).float()
    worse = scores.clone()
    worse[:20] = worse[:20].roll(1, 1)
    slightly = scores.clone()
    slightly[:1] = slightly[:1].roll(1, 1)
    answers = {"same": scores, "slightly": slightly, "worse": worse}
    rows = torch.arange(90.0)[:, None]
    report = fm.compare(
        {name: lambda x, s=s: s[x[:, 0].long()] for name, s in {"all": scores, **answers}.items()},
        (rows, Y), rounds=1,
    )  # fmt: skip
    assert report["same"].p_value == 1
    assert report["slightly"].p_value == 1
    assert report["worse"].p_value == pytest.approx(2 * 0.5**20)
    assert "-22.22*" in str(report)


@pytest.mark.parametrize(
    ("variants", "error", "message"),
    [
        ({}, ValueError, "variants: expected at least one, got an empty dict"),
        ([small()], TypeError, "variants: expected a dict such as"),
        (small(), TypeError, "variants: expected a dict.*Sequential"),
        ({"a": MyModel}, TypeError, "expected a model as 'a', got <class"),
        ({"a": 3}, TypeError, "expected a model as 'a', got 3"),
        ({"a": None}, TypeError, "expected a model as 'a'"),
        ({3: small()}, TypeError, "names"),
    ],
)
def test_bad_variants(variants, error, message):
    with pytest.raises(error, match=message):
        fm.compare(variants, (X, Y))


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (X, {}, ValueError, "targets"),
        ((X[:0], Y[:0]), {}, ValueError, "data: expected samples, got none"),
        ([], {}, ValueError, "data"),
        (3, {}, TypeError, "data: expected a bundle"),
        (
            (X, Y),
            {"batch_size": 0},
            ValueError,
            "batch_size: expected an integer of at least 1, got 0",
        ),
        ((X, Y), {"rounds": 0}, ValueError, "rounds: expected"),
        ((X, Y), {"rounds": 1.5}, ValueError, "rounds: expected"),
        ((X, Y), {"rounds": True}, ValueError, "rounds: expected"),
        ((X, torch.randn(90)), {}, ValueError, "metric="),
    ],
)
def test_bad_data(data, options, error, message):
    with pytest.raises(error, match=message):
        fm.compare({"a": small()}, data, **options)


def test_a_batch_larger_than_the_data():
    report = fm.compare({"a": small()}, (X, Y), rounds=1, batch_size=5000)
    assert report.about["batch_size"] == 90
    report = fm.compare({"a": small()}, (X[:1], Y[:1]), rounds=1)
    assert report.about["n"] == 1


def test_a_norm_in_another_container_is_compiled_too(digits):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Sequential(nn.Linear(784, 10)))
    with pytest.warns(UserWarning, match="left out 'distilled': model: expected a Linear layer"):
        made = fm.variants(model.eval(), (digits.train.images[:200], digits.train.labels[:200]))
    assert "distilled" not in made
    assert made["compiled"].network.layers[0].name == "2.0"


def test_variants_of_a_foreign_model(digits):
    model = MyModel().train()
    before = copy.deepcopy(model.state_dict())
    made = fm.variants(model, (digits.train.images, digits.train.labels), prune_amount=0.3)
    assert "pruned 30 %" in made
    assert made["original"] is model
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert made["compiled"].takes_pixels
    assert made["distilled"].fc1.out_features == 128
    assert len(made["distilled"].history) == 1
    assert made["low-rank"].fc1.rank < 128
    report = fm.compare({k: made[k] for k in ("original", "compiled")}, digits, rounds=1)
    assert len(report) == 3
    assert np.isfinite([row.p50 for row in report]).all()


def test_compare_names_the_variant_that_does_not_fit():
    data = torch.rand(20, 8), torch.randint(0, 3, (20,))
    with pytest.raises(RuntimeError, match="variants: 'b' cannot"):
        fm.compare({"a": nn.Linear(8, 3), "b": nn.Linear(3, 3)}, data, rounds=1)


def test_memory_counts_what_layers_keep():
    model, data = fm.NeuralNetwork(), (torch.rand(64, 784), torch.randint(0, 10, (64,)))
    weights = sum(layer.weight.numel() for layer in (model.linear1, model.linear2, model.linear3))
    pruned, half = fm.prune(model, fm.L1Unstructured(0.5)), fm.quantize(model, fm.Half())
    report = fm.compare({"original": model, "pruned": pruned, "half": half}, data, rounds=1)
    original = report["original"].memory
    assert report["pruned"].memory == original + 2 * 4 * weights  # the mask, and the product
    assert report["half"].memory == original + original // 2  # 16 bits, and widened
