"""Which classes are taken for which, against scikit-learn; where two models differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import TwoInputs
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastmnist as fm
from fastmnist.comparison.answers import mcnemar

X = torch.randn(90, 12, generator=torch.Generator().manual_seed(0))
Y = torch.arange(90) % 4


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.9), nn.Linear(8, 4))


def classes(model, x=X):
    with torch.no_grad():
        return model.eval()(x).argmax(1)


@pytest.mark.parametrize("kind", ["tuple", "numpy", "loader", "dataset", "batches", "keywords"])
def test_it_is_scikit_learns_matrix(kind, model):
    expected = confusion_matrix(Y, classes(model))
    data = {
        "tuple": (X, Y),
        "numpy": (X.double().numpy(), Y.numpy()),
        "loader": DataLoader(TensorDataset(X, Y), batch_size=32),
        "dataset": TensorDataset(X, Y),
        "batches": [(X[:50], Y[:50]), (X[50:], Y[50:])],
        "keywords": ({"input": X}, Y),
    }[kind]
    model.train()
    found = fm.confusion(model, data)
    assert model.training
    assert all(module.training for module in model.modules())
    assert found.matrix.dtype == np.int64
    assert np.array_equal(found.matrix, expected)
    assert found.n == 90
    assert found.accuracy == fm.evaluate(model, (X, Y))
    assert found.labels == ("0", "1", "2", "3")
    assert found == fm.confusion(model, data, batch_size=7)


def test_recall_and_precision(model):
    found, predicted = fm.confusion(model, (X, Y)), classes(model)
    assert found.recall == pytest.approx(recall_score(Y, predicted, average=None))
    precision = precision_score(Y, predicted, average=None, zero_division=np.nan)
    assert found.precision == pytest.approx(precision, nan_ok=True)
    counts = [count for _, _, count in found.pairs()]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == int((predicted != Y).sum())


def test_every_kind_of_model(trained, digits):
    net = fm.compile(fm.quantize(trained, fm.Static(digits.train)))
    expected = fm.confusion(trained, digits)
    for model in (trained, lambda x: trained(x).argmax(1), lambda x: trained(x).numpy()):
        assert fm.confusion(model, digits) == expected
    assert fm.confusion(net, digits).accuracy == fm.evaluate(net, digits)
    rows = digits.test.images, digits.test.labels
    assert fm.confusion(trained, rows, pixels="0..1") == expected
    assert fm.confusion(trained, rows, mean=0.5, std=0.1) != expected


def test_probabilities_and_batch_fn(model):
    one_hot = nn.functional.one_hot(Y, 4).float()
    expected = fm.confusion(model, (X, Y))
    assert fm.confusion(model, (X, one_hot)) == expected
    data = [{"rows": X, "class": Y}]
    read = fm.confusion(model, data, batch_fn=lambda batch: (batch["rows"], batch["class"]))
    assert read == expected


def test_every_form_of_a_confusion(model, digits):
    found = fm.confusion(model, (X, Y), labels=["cat", "dog", "cow", "hen"])
    frame = found.to_frame()
    assert frame.loc["cat", "dog"] == found.matrix[0, 1]
    assert [*frame.columns] == ["cat", "dog", "cow", "hen"]
    text = str(found)
    assert all(word in text for word in ("cat", "recall", "precision", "90 rows"))
    assert found._repr_html_().count("<tr>") == 6
    drawn = {text.get_text() for text in found.plot().axes[0].texts}
    assert drawn == {str(count) for count in found.matrix.flatten() if count}
    assert fm.confusion(fm.NeuralNetwork(), digits).labels == digits.classes


def test_many_classes_are_a_list_of_pairs():
    scores = torch.eye(300)
    wrong = scores.roll(1, 1)
    found = fm.confusion(lambda x: x, (torch.cat([scores, wrong]), torch.arange(300).repeat(2)))
    table = found.table()
    assert table.columns == ["class", "taken for", "rows", "of the class"]
    assert len(table.rows) == 20
    assert "280 pairs more, 280 rows" in str(table)
    assert found.plot().axes[0].images


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "message"),
    [
        (3, (X, Y), {}, TypeError, "model: expected a module or a callable, got int"),
        (nn.Linear, (X, Y), {}, TypeError, "model: expected .*, got the class Linear"),
        (nn.Linear(12, 1), (X, X[:, :1]), {}, ValueError, "targets that are classes, got torch"),
        (nn.Linear(12, 4), X, {}, ValueError, "data: expected targets to tell what is confused"),
        (nn.Linear(12, 4), (X[:0], Y[:0]), {}, ValueError, "expected samples, got none"),
        (nn.Linear(12, 4), (X, Y - 1), {}, ValueError, "data: expected classes from 0 to"),
        (nn.Linear(12, 4), (X, Y), {"labels": ["a"]}, ValueError, "labels: expected 4, .* got 1"),
        (nn.Linear(12, 4), (X, Y), {"labels": "abcd"}, TypeError, "labels: expected a list"),
        (nn.Linear(12, 4), (X, Y), {"batch_size": 0}, ValueError, "batch_size: expected an int"),
        (nn.Linear(12, 4), (X, Y), {"mean": 0.5, "pixels": "0..1"}, ValueError, "pixels"),
    ],
)  # fmt: skip
def test_bad_input(model, data, options, error, message):
    with pytest.raises(error, match=message):
        fm.confusion(model, data, **options)


# ---- disagreements -------------------------------------------------------------------------------


def test_they_are_the_very_rows(trained, digits):
    other = fm.prune(trained, fm.L1Unstructured(0.93))
    x, y = digits.test.images, digits.test.labels
    a, b = (classes(model, x.float() / 255) for model in (trained, other))
    where = (a != b).nonzero().flatten()
    found = fm.disagreements(trained, other, digits, batch_size=100)
    assert len(found) == len(where) > 5
    assert torch.equal(found.indices, where)
    assert torch.equal(found.rows, x[where])  # pixels, as the data holds them
    for given, expected in ((found.a, a), (found.b, b), (found.targets, y)):
        assert torch.equal(given, expected[where])
    assert found.a_right == int(((a == y) & (b != y)).sum())
    assert found.b_right == int(((b == y) & (a != y)).sum())
    assert found.p_value == mcnemar(a == y, b == y)
    assert found.n == len(y)
    report = fm.compare({"a": trained, "b": other}, digits, rounds=1)
    assert report["b"].flip_count == len(found)
    assert report["b"].p_value == found.p_value


def test_every_form_of_disagreements(trained, digits):
    other = fm.prune(trained, fm.L1Unstructured(0.95))
    found = fm.disagreements(trained, other, digits)
    table = found.table()
    assert table.columns == ["row", "target", "a", "b"]
    assert len(table.rows) == min(24, len(found))
    assert len(found.table(3).rows) == 3
    assert f"{found.a_right:,} times" in str(found)
    frame = found.to_frame()
    assert frame["b"].tolist() == found.b.tolist()
    assert frame.index.tolist() == found.indices.tolist()
    figure = found.plot(most=7)
    assert sum(bool(axes.images) for axes in figure.axes) == min(7, len(found))
    assert figure.axes[0].get_title().startswith(f"{int(found.targets[0])}: a ")
    html = found._repr_html_()
    assert html.count("<img") == min(24, len(found))
    with pytest.raises(ValueError, match="most: expected an integer of at least 1, got 0"):
        found.plot(0)


def test_without_targets_nobody_is_right(model):
    found = fm.disagreements(model, lambda x: -model(x), X)
    assert len(found) == found.n == 90
    assert found.targets is found.p_value is found.a_right is found.b_right is None
    assert found.table().columns == ["row", "a", "b"]
    assert "alone is right" not in str(found)
    with pytest.raises(ValueError, match=r"plot: expected images, .* got rows \[12\]"):
        found.plot()
    assert "<img" not in found._repr_html_()


def test_models_that_agree(model):
    found = fm.disagreements(model, model, (X, Y))
    assert len(found) == 0
    assert found.p_value == 1
    assert "0 of 90 rows differ" in str(found)
    assert found.plot()._repr_png_()


def test_several_inputs_have_no_rows():
    one, other, numbers = TwoInputs(), TwoInputs(), torch.randn(90, 3)
    found = fm.disagreements(one, other, (X, numbers, Y))
    assert found.rows is None
    by_name = fm.disagreements(one, other, ({"image": X, "numbers": numbers}, Y))
    assert torch.equal(by_name.indices, found.indices)


def test_bad_input_of_disagreements(model):
    with pytest.raises(TypeError, match="b: expected a module or a callable, got None"):
        fm.disagreements(model, None, (X, Y))
    with pytest.raises(ValueError, match="b, data: expected outputs"):
        fm.disagreements(model, nn.Linear(12, 1), (X, Y))
    with pytest.raises(TypeError, match="data: expected a bundle"):
        fm.disagreements(model, model, 3)
