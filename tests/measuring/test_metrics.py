"""Metrics: over the whole set whatever the batches, with a direction, by their own names."""

from __future__ import annotations

import functools
import pickle

import pytest
import sklearn.metrics
import torch
import torchmetrics
from torch import nn
from torch.nn import functional

import fastmnist as fm
from fastmnist.measuring.metrics import directed_metric, metric_of

_GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(101, 6, generator=_GENERATOR)
VALUES = X[:, :1] * 2 + torch.randn(101, 1, generator=_GENERATOR)
CLASSES = torch.arange(101) % 3
TWO = (X[:, 0] + torch.randn(101, generator=_GENERATOR) > 0).long()


def linear(outputs):
    with torch.random.fork_rng():
        torch.manual_seed(outputs)
        return nn.Linear(6, outputs)


def score(outputs, target, **options):
    """In batches of 7: a mean over batches would be another number."""
    return fm.evaluate(linear(outputs), (X, target), batch_size=7, **options)


def predicted(outputs):
    with torch.no_grad():
        return linear(outputs)(X)


REGRESSION = {
    "mse": sklearn.metrics.mean_squared_error,
    "mae": sklearn.metrics.mean_absolute_error,
    "rmse": lambda t, y: sklearn.metrics.mean_squared_error(t, y) ** 0.5,
    "r2": sklearn.metrics.r2_score,
}


@pytest.mark.parametrize("name", REGRESSION)
def test_named_metrics_of_a_regression(name):
    expected = REGRESSION[name](VALUES, predicted(1))
    for target in (VALUES, VALUES[:, 0], VALUES.double()):
        found = score(1, target, metric=name)
        assert found == pytest.approx(expected, rel=1e-5)
        assert (found.metric, found.greater_is_better) == (name, name == "r2")
        assert f"({name}, n=101)" in repr(found)
    several = VALUES * torch.tensor([1.0, 10.0, -3.0])
    expected = REGRESSION[name](several, predicted(3))
    assert score(3, several, metric=name) == pytest.approx(expected, rel=1e-5)


def test_named_metrics_of_classes():
    y = predicted(3)
    f1 = functools.partial(sklearn.metrics.f1_score, average="macro")
    assert score(3, CLASSES, metric="f1") == pytest.approx(f1(CLASSES, y.argmax(1)))
    assert score(2, TWO, metric="f1") == pytest.approx(f1(TWO, predicted(2).argmax(1)))
    auc = sklearn.metrics.roc_auc_score
    of_three = auc(CLASSES, y.double().softmax(1), multi_class="ovr")
    assert score(3, CLASSES, metric="auc") == pytest.approx(of_three)
    of_two = auc(TWO, predicted(2).softmax(1)[:, 1])
    assert score(2, TWO, metric="auc") == pytest.approx(of_two)
    of_one = auc(TWO, predicted(1))
    for target in (TWO, TWO.float(), TWO.float()[:, None], TWO.bool()):
        assert score(1, target, metric="auc") == pytest.approx(of_one)
    right = score(3, CLASSES, metric="accuracy")
    assert (
        right == score(3, CLASSES) == pytest.approx(float((y.argmax(1) == CLASSES).float().mean()))
    )
    assert torch.equal(right.correct, y.argmax(1) == CLASSES)
    assert score(3, CLASSES, metric="f1").correct is None
    labels = torch.stack([TWO, CLASSES == 1], 1).float()
    assert score(2, labels, metric="auc") == pytest.approx(auc(labels, predicted(2)))


def test_probabilities_are_taken_as_they_are():
    p = predicted(3).softmax(1)
    by_logits = score(3, CLASSES, metric="auc")
    assert fm.evaluate(lambda x: p, (X, CLASSES), metric="auc") == pytest.approx(by_logits)


LOSSES = {
    "MSELoss": (nn.MSELoss(), VALUES, 1),
    "l1_loss": (functional.l1_loss, VALUES[:, 0], 1),
    "SmoothL1Loss": (nn.SmoothL1Loss(reduction="none"), VALUES, 1),
    "CrossEntropyLoss": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 2.0])), CLASSES, 3),
    "cross_entropy": (functools.partial(functional.cross_entropy, label_smoothing=0.1), CLASSES, 3),
    "BCEWithLogitsLoss": (nn.BCEWithLogitsLoss(), TWO.float(), 1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_torch_are_better_less(name):
    loss, target, outputs = LOSSES[name]
    shaped = target.reshape(-1, 1) if outputs == 1 else target
    found = score(outputs, target, metric=loss)
    assert found == pytest.approx(float(loss(predicted(outputs), shaped).mean()), rel=1e-5)
    assert (found.metric, found.greater_is_better) == (name, False)


def test_a_loss_does_not_broadcast_targets():
    """[N, 1] - [N] is [N, N]: torch only warns."""
    expected = float(functional.mse_loss(predicted(1), VALUES))
    for loss in (nn.MSELoss(), functional.mse_loss):
        assert score(1, VALUES[:, 0], loss_fn=loss).loss == pytest.approx(expected, rel=1e-5)
    counts = CLASSES.float()[:, None]
    expected = float(functional.mse_loss(predicted(1), counts))
    assert score(1, CLASSES, metric=nn.MSELoss()) == pytest.approx(expected, rel=1e-5)
    assert score(1, CLASSES, loss_fn=nn.MSELoss(), metric="mse").loss == pytest.approx(
        expected, rel=1e-5
    )
    with pytest.raises(ValueError, match=r"one shape for MSELoss, got \[101, 3\] and \[101\]"):
        score(3, VALUES[:, 0], metric=nn.MSELoss())
    flat, column = linear(1), linear(1)
    one = fm.train(flat, (X, VALUES[:, 0]), 3, loss_fn=nn.MSELoss(), seed=0)
    other = fm.train(column, (X, VALUES), 3, loss_fn=nn.MSELoss(), seed=0)
    assert one.loss == other.loss


def test_a_loss_of_ones_own_gets_targets_as_they_are():
    class Flat(nn.MSELoss):
        def forward(self, outputs, targets):
            return super().forward(outputs[:, 0], targets)

    expected = float(functional.mse_loss(predicted(1), VALUES))
    found = score(1, VALUES[:, 0], loss_fn=Flat(), metric=Flat())
    assert found == pytest.approx(expected, rel=1e-5)
    assert found.loss == pytest.approx(expected, rel=1e-5)
    assert found.greater_is_better is False


def test_functions_of_sklearn_get_targets_first():
    of = sklearn.metrics
    macro = functools.partial(of.f1_score, average="macro")
    for metric, target, outputs, direction in (
        (of.r2_score, VALUES, 1, True),
        (of.mean_absolute_percentage_error, VALUES[:, 0], 1, False),
        (macro, CLASSES, 3, True),
        (of.roc_auc_score, TWO, 2, True),
        (of.log_loss, CLASSES, 3, False),
        (of.brier_score_loss, TWO, 2, False),
        (of.balanced_accuracy_score, CLASSES, 3, True),
    ):
        assert metric_of(metric).greater_is_better is direction
        found = score(outputs, target, metric=metric)
        y = predicted(outputs).double()
        if metric in (of.roc_auc_score, of.brier_score_loss):
            y = y.softmax(1)[:, 1]
        elif metric is of.log_loss:
            y = y.softmax(1)
        elif outputs == 3:
            y = y.argmax(1)
        assert found == pytest.approx(metric(target, y), rel=1e-6)


def test_foreign_metrics_say_what_they_need():
    with pytest.raises(ValueError, match=r"metric f1_score: .*average.*functools\.partial"):
        score(3, CLASSES, metric=sklearn.metrics.f1_score)
    with pytest.raises(ValueError, match=r"metric \w*Scorer: expected"):
        score(3, CLASSES, metric=sklearn.metrics.make_scorer(sklearn.metrics.f1_score))
    with pytest.raises(TypeError, match="one number"):
        score(3, CLASSES, metric=sklearn.metrics.confusion_matrix)


class Spread:
    """Of torchmetrics' form: only what all batches gave together tells it."""

    higher_is_better = False

    def __init__(self):
        self.reset()

    def reset(self):
        self.seen = []

    def update(self, preds, target):
        self.seen.append(preds - target)

    def compute(self):
        off = torch.cat(self.seen)
        return off.max() - off.min()


def test_objects_of_torchmetrics_form():
    mine = Spread()
    mine.update(torch.tensor([9.0]), torch.tensor([0.0]))
    off = predicted(1) - VALUES
    found = score(1, VALUES, metric=mine)
    assert found == pytest.approx(float(off.max() - off.min()))
    assert (found.metric, found.greater_is_better) == ("Spread", False)
    assert len(mine.seen) == 1  # in use elsewhere, and left alone
    mine.higher_is_better = None
    assert metric_of(mine).greater_is_better is None
    assert metric_of(mine, False).greater_is_better is False


def test_torchmetrics_itself():
    for metric, target, outputs, same in (
        (torchmetrics.R2Score(), VALUES, 1, "r2"),
        (torchmetrics.MeanSquaredError(), VALUES[:, 0], 1, "mse"),
        (torchmetrics.AUROC(task="multiclass", num_classes=3), CLASSES, 3, "auc"),
        (torchmetrics.F1Score("multiclass", num_classes=3, average="macro"), CLASSES, 3, "f1"),
    ):
        assert score(outputs, target, metric=metric) == pytest.approx(
            score(outputs, target, metric=same), rel=1e-4
        )
        assert metric_of(metric).greater_is_better is metric_of(same).greater_is_better


def test_a_function_sees_all_rows_at_once():
    sizes = []

    def farthest(outputs, targets):
        sizes.append(len(outputs))
        return (outputs - targets).abs().max()

    assert score(1, VALUES, metric=farthest) == pytest.approx(
        float((predicted(1) - VALUES).abs().max())
    )
    assert sizes == [101]
    assert score(1, VALUES, metric=farthest).metric == "farthest"
    assert score(1, VALUES, metric=lambda y, t: (y - t).abs()).metric == "metric"
    mine = fm.Metric("worst", farthest, greater_is_better=False)
    assert score(1, VALUES, metric=mine).greater_is_better is False
    model = linear(3)
    named = lambda x: {"logits": model(x), "hidden": x}  # noqa: E731
    right = lambda y, t: (y["logits"].argmax(1) == t).float().mean()  # noqa: E731
    assert fm.evaluate(named, (X, CLASSES), metric=right, batch_size=7) == pytest.approx(
        score(3, CLASSES)
    )


def test_defaults_go_by_the_targets():
    assert score(1, VALUES).metric == score(3, VALUES.expand(-1, 3)).metric == "r2"
    assert score(3, CLASSES).metric == "accuracy"
    assert score(3, functional.one_hot(CLASSES, 3).float()).metric == "accuracy"
    soft = torch.full((101, 3), 1 / 3)
    cross = nn.CrossEntropyLoss()
    assert score(3, soft, loss_fn=cross).metric == score(3, soft).metric == "accuracy"
    for target in (TWO.float(), TWO.float()[:, None]):
        with pytest.raises(ValueError, match=r"all 0 or 1.*give metric="):
            score(1, target)
    with pytest.raises(ValueError, match="give metric="):
        score(1, TWO)
    with pytest.raises(ValueError, match="give metric="):
        score(3, VALUES)


def test_names_directions_and_mistakes():
    assert metric_of(None) is None
    assert metric_of("R2").name == "r2"
    assert pickle.loads(pickle.dumps(score(1, VALUES, metric="mae"))).metric == "mae"
    with pytest.raises(ValueError, match="did you mean 'rmse'"):
        metric_of("rsme")
    with pytest.raises(TypeError, match="the class MSELoss"):
        metric_of(nn.MSELoss)
    with pytest.raises(TypeError, match="expected a name, a function"):
        metric_of(3)
    with pytest.raises(ValueError, match="greater_is_better: expected False"):
        metric_of("mse", True)
    with pytest.raises(TypeError, match="greater_is_better: expected True"):
        metric_of(len, "yes")
    with pytest.raises(ValueError, match="expected beside metric= alone"):
        metric_of(None, True)
    with pytest.raises(ValueError, match="'len' is better, for max_drop: give greater_is_better="):
        directed_metric(len, None, "max_drop")
    with pytest.raises(ValueError, match="give greater_is_better="):
        metric_of(len).loss_of(1, 2)
    with pytest.raises(TypeError, match="expected a number or a tensor from 'pair'"):
        fm.Metric("pair", lambda y, t: (y, t))(X, X)
    with pytest.raises(ValueError, match="of one shape"):
        score(3, VALUES, metric="mse")
    with pytest.raises(ValueError, match="each of 3 classes"):
        score(3, TWO, metric="auc")
    with pytest.raises(ValueError, match="metric f1: expected outputs"):
        score(1, TWO, metric="f1")
    rows = [(X[:8], X[:8]), (X[8:], X[8:, :3])]
    with pytest.raises(ValueError, match="batches that can be joined"):
        fm.evaluate(nn.Identity(), rows, metric=lambda y, t: 0)


def test_nan_is_no_good_value():
    for metric in ("mse", "r2", "auc"):
        target = TWO if metric == "auc" else VALUES
        found = fm.evaluate(lambda x: x[:, :1] * torch.nan, (X, target), metric=metric)
        assert found != found


def test_max_drop_holds_for_errors_too():
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1)).eval()
    data = X, model(X).detach()
    worse = float(fm.evaluate(fm.quantize(model, fm.Static(X)), data, metric="mae"))
    assert worse > 0
    fm.quantize(model, fm.Static(X), max_drop=2 * worse, data=data, metric="mae")
    for metric in ("mae", nn.L1Loss(), functional.l1_loss, sklearn.metrics.mean_absolute_error):
        with pytest.raises(ValueError, match=r"max_drop: expected a loss of at most .* of"):
            fm.quantize(model, fm.Static(X), max_drop=worse / 1e3, data=data, metric=metric)
    with pytest.raises(
        ValueError, match=r"max_drop: expected a loss of at most 0.01, got .* of r2"
    ):
        fm.prune(model, fm.L1Unstructured(0.99), max_drop=0.01, data=data)
    own = lambda y, t: (y - t).abs().mean()  # noqa: E731
    with pytest.raises(ValueError, match="greater_is_better=True or False"):
        fm.prune(model, fm.L1Unstructured(0.5), max_drop=0.01, data=data, metric=own)


def test_a_function_that_broadcasts_outputs_and_targets_is_refused():
    outputs, targets = torch.arange(6.0), torch.tensor([0.5, 1, 2, 4, 4, 4.5])

    def mean_error(o, t):
        return (o - t).abs().mean()

    def of_columns(o, t):
        return mean_error(o.reshape(-1), t.reshape(-1))

    for o, t in ((outputs, targets[:, None]), (outputs[:, None], targets)):
        rows = (torch.zeros(6, 1), t)
        with pytest.raises(ValueError, match=r"compares each with all.*give targets of the out"):
            fm.evaluate(lambda x, o=o: o, rows, metric=mean_error)
        found = fm.evaluate(lambda x, o=o: o, rows, metric=of_columns)
        assert float(found) == pytest.approx(float(mean_error(outputs, targets)))
