"""prune with fine-tuning: schedules, the library's training and one's own."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import assert_unchanged, mlp, snapshot
from torch import nn
from torch.nn.utils import prune as torch_prune

import fastmnist as fm

X = torch.linspace(-1, 1, 40 * 12).reshape(40, 12)
Y = torch.arange(40) % 5
L1 = fm.L1Unstructured(0.8)


def one_epoch(model):
    return fm.train(model, (X, Y), epochs=1, batch_size=8, seed=0)


@given(st.integers(1, 20), st.floats(0, 1), st.floats(0, 1))
def test_the_cubic_curve(steps, start, final):
    start = min(start, final)
    cubic = fm.Cubic(steps=steps, start=start)
    amounts = [cubic.amount(final, step) for step in range(1, steps + 1)]
    assert amounts[-1] == final
    assert all(start <= a + 1e-12 for a in amounts)
    rises = [b - a for a, b in zip([start, *amounts], amounts, strict=False)]
    assert all(rise >= -1e-12 for rise in rises)
    assert all(b <= a + 1e-12 for a, b in zip(rises, rises[1:], strict=False))  # noqa: RUF007


def test_amounts_by_hand():
    cubic = fm.Cubic(steps=2, start=0.2)
    assert cubic.amount(1.0, 1) == pytest.approx(1 - 0.8 / 8)
    assert fm.Constant(steps=3).amount(0.7, 1) == 0.7
    assert pickle.loads(pickle.dumps(cubic)) == cubic


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fm.Cubic(steps=0), ValueError, "steps: expected at least 1, got 0"),
        (lambda: fm.Cubic(steps=1.5), TypeError, "steps: expected an int, got float"),
        (lambda: fm.Cubic(start=2), ValueError, "start: expected a share from 0 to 1, got 2"),
        (lambda: fm.Cubic(every=0), ValueError, "every: expected at least 1"),
        (lambda: fm.Constant(steps=True), TypeError, "steps: expected an int, got bool"),
        (lambda: fm.Constant(every=-1), ValueError, "every: expected at least 1"),
    ],
)
def test_schedules_that_are_none(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("what", "error", "match"),
    [
        ({"epochs": 3}, ValueError, "epochs: expected finetune= with it"),
        ({"schedule": fm.Cubic()}, ValueError, "schedule: expected finetune= with it"),
        ({"finetune": one_epoch, "epochs": 0}, ValueError, "epochs: expected at least 1"),
        ({"finetune": one_epoch, "epochs": 1.5}, TypeError, "epochs: expected an int"),
        ({"finetune": one_epoch, "schedule": fm.Cubic}, TypeError, "schedule: .*class Cubic"),
        ({"finetune": one_epoch, "schedule": "cubic"}, TypeError, "schedule: .*got str"),
        ({"finetune": fm.NeuralNetwork}, TypeError, "finetune: expected data.*class NeuralNetwork"),
        ({"finetune": mlp()}, TypeError, "finetune: expected data.*got Sequential"),
        (
            {"finetune": one_epoch, "schedule": fm.Cubic(start=0.9)},
            ValueError,
            "start: expected at most the final amount, 0.8 for '0', got 0.9",
        ),
    ],
)
def test_arguments_that_do_not_fit(what, error, match):
    with pytest.raises(error, match=match):
        fm.prune(mlp(), L1, **what)


def test_masks_have_no_schedule():
    with pytest.raises(ValueError, match="schedule: expected none with masks"):
        fm.prune(mlp(), {"0": torch.zeros(33, 12)}, finetune=one_epoch, schedule=fm.Cubic())
    pruned = fm.prune(mlp(), {"0": torch.eye(33, 12)}, finetune=one_epoch)
    assert int((pruned[0].weight != 0).sum()) == 12


def test_bad_data_leaves_nothing_behind():
    model = mlp()
    before = snapshot(model)
    with pytest.raises((TypeError, ValueError)):
        fm.prune(model, L1, finetune=5)
    assert_unchanged(model, before)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("kind", [fm.L1Unstructured, fm.RandomUnstructured])
def test_in_steps(kind, scope):
    model, seen = mlp(), []
    before = snapshot(model)

    def finetune(m):
        assert m.training
        assert torch.is_grad_enabled()
        seen.append(fm.sparsity(m).overall)
        one_epoch(m)
        assert fm.sparsity(m).overall == seen[-1]

    pruned = fm.prune(
        model, kind(0.8, scope), finetune=finetune, schedule=fm.Cubic(steps=3, every=2), epochs=3
    )
    assert_unchanged(model, before)
    wanted = [fm.Cubic(steps=3).amount(0.8, step) for step in (1, 1, 2, 2, 3, 3, 3)]
    assert seen == pytest.approx(wanted, abs=2e-3)
    once = fm.prune(model, kind(0.8, scope))
    assert fm.sparsity(pruned).zeros == fm.sparsity(once).zeros
    assert not torch.equal(pruned[0].weight_orig, model[0].weight)
    assert not pruned.training
    assert torch_prune.is_pruned(pruned)
    assert pruned.state_dict().keys() == once.state_dict().keys()
    assert [c.layer for c in fm.changes(pruned)] == ["0", "3", "5"]
    assert pickle.loads(pickle.dumps(pruned))
    assert fm.compile(pruned, X)


def test_with_data_by_the_library():
    torch.manual_seed(0)
    first = fm.prune(mlp(), L1, finetune=(X, Y), schedule=fm.Constant(steps=2), epochs=2)
    torch.manual_seed(0)
    calls = []

    def finetune(m):
        calls.append(1)
        fm.train(m, (X, Y), epochs=1 if len(calls) == 1 else 2)

    second = fm.prune(mlp(), L1, finetune=finetune, schedule=fm.Constant(steps=2))
    assert torch.equal(first[0].weight, second[0].weight)
    assert fm.sparsity(first).overall == pytest.approx(0.8, abs=0.01)


@pytest.mark.slow
def test_fine_tuning_helps(trained, digits):
    method = fm.L1Unstructured(0.9, scope="global")
    torch.manual_seed(0)
    tuned = fm.prune(trained, method, finetune=digits, schedule=fm.Cubic(steps=2), epochs=2)
    assert fm.evaluate(tuned, digits) > fm.evaluate(fm.prune(trained, method), digits) + 0.05
    assert fm.sparsity(tuned).zeros == round(0.9 * 102_400)
    # What training on pixels records is there.
    assert fm.compile(tuned, dynamic=True)(digits.test.images[:4]).shape == (4, 10)


def test_random_choices_only_grow():
    masks = []

    def finetune(m):
        masks.append(m[0].weight_mask.clone())

    fm.prune(mlp(), fm.RandomUnstructured(0.8), finetune=finetune, schedule=fm.Cubic(steps=4))
    assert all(bool((b <= a).all()) for a, b in zip(masks, masks[1:], strict=False))  # noqa: RUF007


def test_weights_come_back_where_others_became_smaller():
    model = nn.Sequential(nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))

    def finetune(m):
        with torch.no_grad():
            m[0].weight_orig[0, 3] = 0.5

    pruned = fm.prune(
        model, fm.L1Unstructured(0.25), finetune=finetune, schedule=fm.Constant(steps=2)
    )
    assert pruned[0].weight.tolist() == [[1, 2, 3, 0]]
    # But not what the model came without.
    masked = fm.prune(model, {"0": torch.tensor([[0, 1, 1, 1]])})
    pruned = fm.prune(
        masked, fm.L1Unstructured(1 / 3), finetune=finetune, schedule=fm.Constant(steps=2)
    )
    assert pruned[0].weight.tolist() == [[0, 2, 3, 0]]


def test_neurons_in_steps():
    widths = []

    def finetune(m):
        widths.append((m[0].out_features, m[3].in_features, m[3].out_features))
        return one_epoch(m)

    model = mlp()
    before = snapshot(model)
    method = fm.Structured(0.75, multiple_of=4)
    pruned = fm.prune(model, method, finetune=finetune, schedule=fm.Cubic(steps=3))
    assert_unchanged(model, before)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == (method.kept(33), method.kept(33), method.kept(17))
    assert widths[0] > widths[-1]
    assert fm.compile(pruned, X)(X).shape == (40, 5)
    assert fm.changes(pruned)[0].what == "pruned: 8 of 33 neurons are left"


def test_stopped_from_the_keyboard():
    calls = []

    def finetune(m):
        calls.append(1)
        history = one_epoch(m)
        history.interrupted = True
        return history

    pruned = fm.prune(mlp(), L1, finetune=finetune, schedule=fm.Cubic(steps=5), epochs=4)
    assert len(calls) == 1
    assert fm.sparsity(pruned).overall == pytest.approx(0.8, abs=0.01)


def another(m):
    return mlp()


def without_masks(m):
    torch_prune.remove(m[0], "weight")


def replaced(m):
    m[0] = nn.Linear(12, m[0].out_features)


@pytest.mark.parametrize(
    ("finetune", "error", "match"),
    [
        (another, TypeError, "finetune: expected a function that trains .* in place"),
        (without_masks, RuntimeError, "finetune: expected to find '0' as it was, with its mask"),
        (replaced, RuntimeError, "finetune: expected to find '0' as it was"),
    ],
)
def test_functions_that_do_something_else(finetune, error, match):
    model = mlp()
    before = snapshot(model)
    with pytest.raises(error, match=match):
        fm.prune(model, L1, finetune=finetune)
    assert_unchanged(model, before)
    if finetune is replaced:
        with pytest.raises(RuntimeError, match="finetune: expected to find '0' and the layers"):
            fm.prune(model, fm.Structured(0.5, multiple_of=1), finetune=finetune)


def test_own_functions_may_change_mode_and_type():
    def finetune(m):
        m.eval().double()
        return m

    pruned = fm.prune(mlp(), L1, finetune=finetune)
    assert pruned[0].weight.dtype == pruned[0].weight_mask.dtype == torch.float32
    assert pruned(X).shape == (40, 5)


def test_quiet_without_a_terminal(capfd):
    fm.prune(mlp(), L1, finetune=(X, Y), epochs=1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("finetune", "error", "message"),
    [
        (lambda m: m[0].weight_orig.data.fill_(float("nan")), RuntimeError, "finite weights"),
        (lambda m: m[0].weight_mask.fill_(1), RuntimeError, "with its mask"),
        (lambda m: m[0].weight_mask[0].fill_(0), RuntimeError, "with its mask"),
        (lambda m: (i for i in range(3)), TypeError, "a generator"),
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_training_that_leaves_nothing_sensible(finetune, error, message, steps):
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.raises(error, match=message):
        fm.prune(model, fm.L1Unstructured(0.5), finetune=finetune, schedule=fm.Cubic(steps=steps))


def test_neurons_that_training_made_nan():
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))

    def finetune(m):
        m[0].weight.data.fill_(float("inf"))

    with pytest.raises(RuntimeError, match="finite weights"):
        fm.prune(model, fm.Structured(0.5), finetune=finetune)
