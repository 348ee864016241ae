"""Named metrics of every form of outputs and targets: scikit-learn's value, or refused."""

from __future__ import annotations

import functools

import pytest
import sklearn.metrics
import torch
from torch.nn import functional

import fastmnist as fm

_GENERATOR = torch.Generator().manual_seed(0)
TWO = torch.randint(0, 2, (60,), generator=_GENERATOR)
THREE = torch.arange(60) % 3
LABELS = torch.randint(0, 2, (60, 3), generator=_GENERATOR)
ONE, COLUMN, PAIR, TRIPLE = (
    torch.randn(*shape, generator=_GENERATOR) for shape in ((60,), (60, 1), (60, 2), (60, 3))
)
MACRO = functools.partial(sklearn.metrics.f1_score, average="macro")


def score(metric, outputs, targets):
    return float(fm.evaluate(lambda x: x, (outputs, targets), metric=metric, batch_size=7))


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
@pytest.mark.parametrize("targets", [TWO, TWO.bool(), TWO.float(), TWO[:, None].float()])
def test_one_logit_has_no_classes(metric, targets):
    for outputs in (ONE, COLUMN):
        with pytest.raises(ValueError, match=r"classes.*metric="):
            score(metric, outputs, targets)


@pytest.mark.parametrize("metric", ["f1", "accuracy"])
@pytest.mark.parametrize("targets", [LABELS, LABELS.bool(), LABELS.float()])
def test_several_labels_are_no_classes(metric, targets):
    for outputs in (TRIPLE, TRIPLE > 0):
        with pytest.raises(ValueError, match=r"classes.*metric="):
            score(metric, outputs, targets)


def test_the_advice_about_labels_works():
    f1 = sklearn.metrics.f1_score
    one = fm.Metric("f1", lambda y, t: f1(t, y > 0), greater_is_better=True)
    assert score(one, COLUMN, TWO[:, None].float()) == pytest.approx(f1(TWO, COLUMN > 0))
    several = fm.Metric("f1", lambda y, t: MACRO(t, y > 0), greater_is_better=True)
    assert score(several, TRIPLE, LABELS) == pytest.approx(MACRO(LABELS, TRIPLE > 0))


@pytest.mark.parametrize("convert", [torch.Tensor.int, torch.Tensor.bool, torch.Tensor.byte])
def test_classes_of_any_type(convert):
    right = sklearn.metrics.accuracy_score(TWO, PAIR.argmax(1))
    assert score("accuracy", PAIR, convert(TWO)) == pytest.approx(right)
    assert score("f1", PAIR, convert(TWO)) == pytest.approx(MACRO(TWO, PAIR.argmax(1)))
    area = sklearn.metrics.roc_auc_score(TWO, PAIR[:, 1] - PAIR[:, 0])
    assert score("auc", PAIR, convert(TWO)) == pytest.approx(area)


def test_probabilities_of_classes():
    one_hot = functional.one_hot(THREE, 3).float()
    for targets in (THREE, one_hot, one_hot * 0.9 + 0.1 / 3):
        assert score("f1", TRIPLE, targets) == pytest.approx(MACRO(THREE, TRIPLE.argmax(1)))


@pytest.mark.parametrize("targets", [LABELS, LABELS.bool(), LABELS.float()])
def test_auc_of_several_labels(targets):
    expected = sklearn.metrics.roc_auc_score(LABELS, TRIPLE)
    assert score("auc", TRIPLE, targets) == pytest.approx(expected)
    constant = targets.clone()
    constant[:, 2] = 1  # no curve: scikit-learn has NaN for it
    with pytest.raises(ValueError, match="not of each in every column"):
        score("auc", TRIPLE, constant)


def test_rmse_of_several_outputs_is_one_root():
    targets = TRIPLE * torch.tensor([1.0, 10.0, 100.0])
    together = sklearn.metrics.mean_squared_error(targets, TRIPLE) ** 0.5
    assert score("rmse", TRIPLE, targets) == pytest.approx(together, rel=1e-6)
