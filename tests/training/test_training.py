"""Training and evaluating."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader

import fastmnist as fm
from fastmnist.data import load_dataset
from fastmnist.network import NeuralNetwork
from fastmnist.pixels import PixelNormalization, model_pixels, set_model_pixels
from fastmnist.training.loop import EpochRecord, Evaluation, History, evaluate, train


@pytest.fixture
def few(digits):
    half = digits.train.subset(200)
    return half.images.float().div(255).flatten(1), half.labels


def linear(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(784, 10)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


# --- train


def test_learns_the_digits(trained, digits):
    assert evaluate(trained, digits) >= 0.95


@pytest.mark.slow
def test_learns_mnist(mnist):
    torch.manual_seed(0)
    model = NeuralNetwork()
    train(model, mnist, epochs=1, batch_size=128)
    assert evaluate(model, mnist) >= 0.93


def test_history(digits):
    history = train(NeuralNetwork(), digits, epochs=2, seed=0, validation=True)
    assert len(history) == len(history.loss) == 2
    assert history[-1].epoch == 2
    assert history.loss[1] < history.loss[0]
    assert history.accuracy[1] > history.accuracy[0]
    assert history.val_accuracy[1] > 0.5
    assert history.val_loss[1] > 0
    assert type(history[:1]) is History
    assert "val_accuracy" in str(history)
    assert "2 epochs" in repr(history)
    assert pickle.loads(pickle.dumps(history)) == history
    assert len(history.table().rows) == 2


def test_history_to_frame(monkeypatch):
    history = History([EpochRecord(1, 0.5, None, 1.0)])
    assert "-" in str(history)
    assert pytest.importorskip("pandas")
    assert list(history.to_frame()["loss"]) == [0.5]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        history.to_frame()


def test_a_seed_repeats_everything_and_leaves_torch_as_it_was(few):
    start = NeuralNetwork()
    a, b, c = (copy.deepcopy(start) for _ in range(3))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    train(a, few, 2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    train(b, few, 2, seed=1)
    train(c, few, 2, seed=2)
    assert same(a, b)
    assert not same(a, c)


def test_without_a_seed_torch_decides(few):
    models = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        model = NeuralNetwork()
        train(model, few, 1)
        models.append(model)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])


def test_modes_gradients_and_pixels_afterwards():
    data = load_dataset("digits", mean=0.1307, std=0.3081)
    model = NeuralNetwork().eval()
    model.dropout1.train()
    train(model, data, 1)
    assert model.dropout1.training
    assert not model.training
    assert not model.dropout2.training
    assert all(p.grad is None for p in model.parameters())
    assert model_pixels(model) == PixelNormalization.of(0.1307, 0.3081)
    # Raw pixels mean to a trained model what they meant in training.
    raw = (data.test.images, data.test.labels)
    assert evaluate(model, raw) == evaluate(model, data)
    train(model, raw, 1)
    assert model_pixels(model) == data.pixels
    with pytest.warns(UserWarning, match="trained on pixels with mean"):
        evaluate(model, load_dataset("digits"))


def test_pruned_weights_stay_pruned_and_the_model_can_be_copied(few):
    model = linear()
    prune.l1_unstructured(model, "weight", 0.7)
    mask = model.weight_mask.clone()
    train(model, few, 1, seed=0)
    assert torch.equal(model.weight_mask, mask)
    assert torch.equal(model.weight, model.weight_orig * mask)
    assert torch.equal(copy.deepcopy(model).weight, model.weight)


def test_optimizers(few):
    a, b, start = linear(), linear(), linear()
    train(a, few, 1, seed=0, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    train(b, few, 1, seed=0, optimizer=torch.optim.SGD(b.parameters(), lr=0.1))
    assert same(a, b)
    assert not same(a, start)
    with pytest.raises(ValueError, match="one of this model's parameters"):
        train(a, few, 1, optimizer=torch.optim.SGD(b.parameters(), lr=0.1))
    for wrong in ("adam", lambda p: None):
        with pytest.raises(TypeError, match="optimizer"):
            train(a, few, 1, optimizer=wrong)


def test_regression_with_a_loss_and_a_metric_of_ones_own(few):
    x = few[0].numpy().astype(np.float64)
    y = x.mean(1, keepdims=True)

    def closeness(outputs, target):
        return 1 - (outputs - target).abs().flatten()

    model = nn.Linear(784, 1)
    options = {"loss_fn": nn.functional.mse_loss, "metric": closeness}
    history = train(model, (x, y), 3, seed=0, **options)
    assert history.loss[-1] < history.loss[0]
    score = evaluate(model, (x, y), **options)
    assert 0.5 < score <= 1
    assert score.correct is None
    assert score.loss == pytest.approx(
        float(((model(few[0]) - torch.tensor(y)) ** 2).mean().detach())
    )
    history = train(model, (x, y), 1, loss_fn=nn.MSELoss(reduction="none"))
    assert history.accuracy == [None]
    assert "-" in str(history)
    assert evaluate(model, (x, y), loss_fn=nn.functional.mse_loss).metric == "r2"


def test_rows_as_targets_are_no_classes():
    x = torch.rand(12, 8)
    model = nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 8))
    with pytest.raises(ValueError, match=r"that add up to 1 .* give loss_fn="):
        fm.train(model, (x, x), epochs=1)
    assert fm.evaluate(model, (x, x)).metric == "r2"
    with pytest.raises(ValueError, match="give loss_fn="):
        fm.prune(model, fm.L1Unstructured(0.5), finetune=(x, x))
    result = fm.evaluate(model, (x, x), metric=lambda y, t: -(y - t).square().mean())
    assert result < 0
    assert result.loss is None
    fm.train(model, (x, x), epochs=1, loss_fn=nn.functional.mse_loss)


def test_class_probabilities_as_targets(few):
    soft = nn.functional.one_hot(few[1], 10).double()
    history = train(linear(), (few[0], soft), 2, seed=0)
    assert history.accuracy[-1] > 0.3


def test_dataloader_batch_fn_and_keywords(few):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = linear()

        def forward(self, *, x):
            return self.layer(x)

    samples = [{"x": x, "label": y} for x, y in zip(*few, strict=True)]
    loader = DataLoader(samples, batch_size=50, shuffle=True)

    def read(batch):
        return {"x": batch["x"]}, batch["label"]

    model = Named()
    history = train(model, loader, 3, batch_fn=read, seed=0)
    assert history.accuracy[-1] > history.accuracy[0]
    assert evaluate(model, loader, batch_fn=read).n == 200
    with pytest.raises(ValueError, match="targets"):
        train(model, [{"x": x} for x in few[0]], 1)


def test_batchnorm_with_a_last_batch_of_one(few):
    model = nn.Sequential(nn.Linear(784, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 10))
    assert len(train(model, (few[0][:65], few[1][:65]), 1)) == 1


def test_validation_data(few):
    history = train(linear(), few, 1, validation=few)
    assert history.val_accuracy[0] > 0
    with pytest.raises(ValueError, match="validation"):
        train(linear(), few, 1, validation=True)


def test_ctrl_c_returns_what_there_is(few, capsys):
    calls = []

    def loss(outputs, target):
        calls.append(1)
        if len(calls) == 10:  # seven steps an epoch
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, target)

    model = NeuralNetwork()
    history = train(model, few, 5, loss_fn=loss)
    assert len(history) == 1
    assert history.interrupted
    assert "interrupted" in str(history)
    assert model.training
    assert "1 of 5 epochs" in capsys.readouterr().err
    assert evaluate(model, few).n == 200


def test_progress_is_quiet_where_nobody_looks(few, capsys, monkeypatch):
    train(linear(), few, 1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("fastmnist.display.progress._DELAY", 0.0)
    train(linear(), few, 1, progress=True)
    evaluate(linear(), few, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "epoch 1/1" in shown.err
    assert "accuracy" in shown.err


def test_train_refuses(few):
    x, y = few
    for epochs in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="epochs"):
            train(linear(), few, epochs)
    with pytest.raises(TypeError, match="model"):
        train(len, few)
    with pytest.raises(ValueError, match="requires_grad"):
        train(linear().requires_grad_(False), few)
    with pytest.raises(ValueError, match="lr"):
        train(linear(), few, lr=float("nan"))
    for wrong in (10, -1):
        with pytest.raises(ValueError, match="target: expected 0 to 9"):
            train(linear(), (x, torch.full((200,), wrong)))
    with pytest.raises(ValueError, match="loss_fn="):
        train(linear(), (x, y.float()))
    with pytest.raises(ValueError, match="two classes"):
        train(nn.Linear(784, 1), few)
    with pytest.raises(ValueError, match="expected samples, got none"):
        train(linear(), (x[:0], y[:0]))


def test_a_loss_that_is_nan_stops_before_it_does_harm(few):
    x, y = few
    x = x.clone()
    x[70] = float("nan")
    model = linear()
    with pytest.raises(ValueError, match="got nan in epoch 1, step 3"):
        train(model, (x, y), shuffle=False)
    assert all(p.isfinite().all() for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())


# --- evaluate


def test_evaluation_is_a_float_that_knows_more(trained, digits):
    found = evaluate(trained, digits)
    with torch.no_grad():
        logits = trained(digits.test.images.float().div(255))
    right = logits.argmax(1) == digits.test.labels
    assert found == right.float().mean().item() or abs(found - right.float().mean()) < 1e-6
    assert isinstance(found, float)
    assert torch.equal(found.correct, right)
    assert found.n == 360
    assert found.loss == pytest.approx(
        nn.functional.cross_entropy(logits, digits.test.labels).item(), rel=1e-5
    )
    assert f"{found:.2f}" == f"{float(found):.2f}"
    assert repr(found).startswith(f"{float(found):.4f} (loss ")
    for copied in (pickle.loads(pickle.dumps(found)), copy.deepcopy(found)):
        assert copied == found
        assert copied.loss == found.loss
        assert torch.equal(copied.correct, right)
    assert repr(Evaluation(0.5, n=2)) == "0.5000 (n=2)"
    assert str(Evaluation(0.5, n=2)) == "0.5"


def test_batch_size_does_not_matter(trained, digits):
    found = evaluate(trained, digits, batch_size=7)
    assert torch.equal(found.correct, evaluate(trained, digits).correct)
    assert evaluate(trained, digits.test) == evaluate(trained, DataLoader(digits.test)) == found


def test_modes_are_restored_also_after_an_error(digits):
    model = NeuralNetwork()
    model.dropout1.eval()
    evaluate(model, digits)
    with pytest.raises(ValueError, match="targets"):
        evaluate(model, digits.test.images)
    assert model.training
    assert model.dropout2.training
    assert not model.dropout1.training


def test_any_callable(trained, digits):
    expected = evaluate(trained, digits)

    def numpy_model(x):
        return trained(x).numpy()

    assert evaluate(numpy_model, digits) == expected
    classes = evaluate(lambda x: trained(x).argmax(1), digits)
    assert classes == expected
    assert classes.loss is None

    def raw_model(x):
        assert x.dtype == torch.uint8
        return trained(x / 255)

    assert evaluate(raw_model, digits, raw=True) == expected
    with pytest.raises(TypeError, match="model"):
        evaluate(3, digits)


def test_device(trained, digits):
    assert evaluate(trained, digits, device="cpu") == evaluate(trained, digits)


def test_model_pixels_serve_raw_data(digits):
    model = linear()
    x, y = digits.test.images.flatten(1), digits.test.labels
    set_model_pixels(model, PixelNormalization.of(0.5, 0.5))
    expected = evaluate(model, ((x / 255 - 0.5) / 0.5, y))
    assert torch.equal(evaluate(model, (x, y)).correct, expected.correct)


def test_evaluate_refuses(digits):
    x = torch.zeros(4, 784)
    with pytest.raises(ValueError, match="target: expected 0 to 9"):
        evaluate(linear(), (x, torch.arange(9, 13)))
    with pytest.raises(ValueError, match="metric="):
        evaluate(lambda x: {"logits": x}, (x, torch.arange(4)))
    with pytest.raises(ValueError, match="expected samples, got none"):
        evaluate(linear(), (x[:0], torch.arange(0)))


def test_compiled_models_warn_of_other_pixels_too(digits):
    net = fm.compile(fm.NeuralNetwork(), digits.train)
    other = fm.load_dataset("digits", mean=0.5, std=0.25)
    with pytest.warns(UserWarning, match="load the data with the same"):
        fm.evaluate(net, other)
