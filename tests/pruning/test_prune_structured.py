"""prune(Structured): neurons removed for good, and what cannot lose any."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import (
    Custom,
    Functional,
    MyModel,
    Nested,
    SharedActivation,
    assert_unchanged,
    mlp,
    randomize,
    snapshot,
)
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune

import fastmnist as fm

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)


def half(**what):
    return fm.Structured(0.5, multiple_of=1, **what)


class WithMethods(SharedActivation):
    """Attributes and methods of its own."""

    classes = 4

    def __init__(self) -> None:
        super().__init__()
        self.note = "mine"

    def top(self, x):
        return self(x).argmax(1)


class TwoHeads(nn.Module):
    """One hidden layer that two heads read."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.left, self.right = nn.Linear(12, 10), nn.Linear(10, 3), nn.Linear(10, 2)

    def forward(self, x):
        x = torch.sigmoid(self.body(x))
        return self.left(x), self.right(F.gelu(x))


def kept_rows(weight, kept, n=2):
    """What torch's ln_structured keeps, as indices."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.detach().clone())
    torch_prune.ln_structured(layer, "weight", weight.shape[0] - kept, n=n, dim=0)
    return layer.weight_mask.any(1)


def zeroed(model, readers):
    """The original with the outputs of removed neurons zeroed where they are read."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        for name, keep in readers.items():
            model.get_submodule(name).weight.mul_(keep)
    return model


# --- widths


@given(st.integers(1, 600), st.floats(0, 0.99), st.integers(1, 64))
def test_the_width_kept(width, amount, multiple):
    kept = fm.Structured(amount, multiple_of=multiple).kept(width)
    wanted = width - round(amount * width)
    assert 1 <= kept <= width
    if amount == 0 or width < multiple:
        assert kept == max(1, wanted)
        return
    assert kept % multiple == 0
    others = range(multiple, width + 1, multiple)
    assert all(abs(kept - wanted) <= abs(other - wanted) for other in others)
    more = fm.Structured(min(0.99, amount + 0.1), multiple_of=multiple).kept(width)
    assert more <= kept


@pytest.mark.parametrize(
    ("width", "amount", "multiple", "kept"),
    [
        (96, 0.5, 16, 48),
        (256, 0.5, 16, 128),
        (96, 0.0, 16, 96),
        (100, 0.0, 16, 100),
        (100, 0.01, 16, 96),
        (96, 0.99, 16, 16),
        (48, 0.5, 16, 32),
        (10, 0.5, 16, 5),
        (10, 0.99, 16, 1),
        (1, 0.9, 1, 1),
    ],
)
def test_widths_by_hand(width, amount, multiple, kept):
    assert fm.Structured(amount, multiple_of=multiple).kept(width) == kept


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"amount": 1}, ValueError, "amount: expected a share of neurons from 0 to less than 1"),
        ({"amount": 0.5, "n": 3}, ValueError, "n: expected 1 or 2"),
        ({"amount": 0.5, "n": True}, ValueError, "n: expected 1 or 2"),
        ({"amount": 0.5, "n": "fro"}, ValueError, "n: expected 1 or 2"),
        ({"amount": 0.5, "multiple_of": 0}, ValueError, "multiple_of: expected at least 1, got 0"),
        ({"amount": 0.5, "multiple_of": 1.5}, TypeError, "multiple_of: expected an int, got float"),
    ],
)
def test_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        fm.Structured(**arguments)


# --- the neurons that go, and what is left


@pytest.mark.parametrize("n", [1, 2])
@given(
    st.lists(st.integers(1, 40), min_size=3, max_size=5), st.floats(0.05, 0.95), st.integers(0, 9)
)
def test_as_if_the_neurons_gave_zero(n, widths, amount, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = []
        for a, b in zip(widths, widths[1:], strict=False):  # noqa: RUF007
            layers += [nn.Linear(a, b), nn.LeakyReLU()]
        model = nn.Sequential(*layers[:-1]).eval()
        x = torch.randn(5, widths[0])
    method = fm.Structured(amount, n=n, multiple_of=8)
    names = [str(i) for i in range(0, len(layers), 2)]
    readers = {}
    for name, reader in zip(names, names[1:], strict=False):  # noqa: RUF007
        weight = model.get_submodule(name).weight
        readers[reader] = kept_rows(weight, method.kept(len(weight)), n)
    if all(keep.all() for keep in readers.values()):
        with pytest.raises(ValueError, match="removes none"):
            fm.prune(model, method)
        return
    before = snapshot(model)
    pruned = fm.prune(model, method)
    assert_unchanged(model, before)
    torch.testing.assert_close(pruned(x), zeroed(model, readers)(x), rtol=1e-4, atol=1e-5)
    for (reader, keep), name in zip(readers.items(), names, strict=False):
        layer = pruned.get_submodule(name)
        assert layer.out_features == len(layer.weight) == len(layer.bias) == int(keep.sum())
        assert pruned.get_submodule(reader).weight.shape[1] == int(keep.sum())


def test_the_digits_network():
    model = fm.NeuralNetwork()
    pruned = fm.prune(model, fm.Structured(0.5))
    assert type(pruned) is fm.NeuralNetwork
    assert not pruned.training
    shapes = [(m.in_features, m.out_features) for m in (pruned.linear1, pruned.linear2)]
    assert shapes == [(784, 48), (48, 128)]
    assert [str(c) for c in fm.changes(pruned)] == [
        "linear1: pruned: 48 of 96 neurons are left",
        "linear2: pruned: 128 of 256 neurons are left",
    ]
    assert sum(p.numel() for p in pruned.parameters()) < 0.45 * 102_762
    x = torch.rand(3, 1, 28, 28)
    net = fm.compile(pruned, dynamic=True)
    torch.testing.assert_close(net(x), pruned(x), rtol=0, atol=0.02)
    assert [layer.weight.shape for layer in net.layers] == [(48, 784), (128, 48), (10, 128)]
    for again in (copy.deepcopy(pruned), pickle.loads(pickle.dumps(pruned))):
        assert torch.equal(again(x), pruned(x))
    other = fm.prune(fm.NeuralNetwork(), fm.Structured(0.5))
    other.load_state_dict(pruned.state_dict())
    assert torch.equal(other(x), pruned(x))


def test_batch_norm_dropout_and_flatten():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(), nn.Identity(),
        nn.Flatten(), nn.Linear(20, 8, bias=False), nn.BatchNorm1d(8, affine=False), nn.Tanh(),
        nn.Linear(8, 3),
    )  # fmt: skip
    randomize(model)
    pruned = fm.prune(model, half())
    assert (pruned[2].num_features, pruned[8].num_features) == (10, 4)
    first = kept_rows(model[1].weight, 10)
    second = kept_rows(model[7].weight, 4)
    expected = zeroed(model, {"7": first, "10": second})(X)
    torch.testing.assert_close(pruned(X), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fm.fuse(pruned)(X), expected, rtol=1e-4, atol=1e-4)
    fm.train(pruned, (X, torch.zeros(20, dtype=torch.long)), epochs=1)


@pytest.mark.parametrize("make", [MyModel, Functional, Nested, SharedActivation, WithMethods])
def test_custom_forwards(make):
    model = make().eval()
    x = torch.rand(6, 784) if make is MyModel else X
    before = snapshot(model)
    pruned = fm.prune(model, half())
    assert_unchanged(model, before)
    assert type(pruned) is make
    assert pruned(x).shape == model(x).shape
    assert torch.isfinite(pruned(x)).all()
    size = sum(p.numel() for p in pruned.parameters())
    assert size < 0.7 * sum(p.numel() for p in model.parameters())
    for result in (fm.quantize(pruned, fm.Static(x)), fm.compile(pruned, x)):
        torch.testing.assert_close(result(x), pruned(x), rtol=0, atol=0.1)
    if make is WithMethods:
        assert (pruned.note, pruned.classes, pruned.top(x).shape) == ("mine", 4, (20,))


def test_several_readers():
    model = TwoHeads().eval()
    pruned = fm.prune(model, half(n=1))
    keep = kept_rows(model.body.weight, 5, n=1)
    expected = zeroed(model, {"left": keep, "right": keep})(X)
    for got, want in zip(pruned(X), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "between",
    [
        lambda m, x: F.relu(x) * 2 + 1,
        lambda m, x: 1 - x.tanh().clamp(min=0),
        lambda m, x: F.hardtanh(x, -0.5, 0.5),
        lambda m, x: torch.nn.functional.leaky_relu(x, 0.1),
        lambda m, x: torch.flatten(F.silu(x), 1),
        lambda m, x: x.sigmoid().view(x.size(0), -1),
        lambda m, x: x.relu().reshape(x.shape[0], -1),
        lambda m, x: m.norm(F.dropout(x, 0.5, m.training)),
        lambda m, x: -x.square(),
        lambda m, x: x * torch.sigmoid(x) + x,
        lambda m, x: F.dropout(x, 0.5, training=False).pow(2).mul(0.5),
    ],
)
def test_functions_between(between):
    model = randomize(Custom(between))
    with torch.no_grad():
        model.a.weight[3] = 0
        pruned = fm.prune(model, half())
        keep = kept_rows(model.a.weight, 6)
        # A neuron without weights gives a constant, which moves on: it is no loss.
        expected = zeroed(model, {"b": keep})
        row = between(model, model.a.bias[None].expand(2, -1))
        expected.b.bias += model.b.weight[:, 3] * row[0, 3]
        torch.testing.assert_close(pruned(X), expected(X), rtol=1e-4, atol=1e-5)


def test_neurons_without_weights_go_without_loss():
    model = randomize(
        nn.Sequential(nn.Linear(12, 10), nn.BatchNorm1d(10), nn.Sigmoid(), nn.Linear(10, 4))
    )
    with torch.no_grad():
        model[0].weight[[1, 4, 5, 9]] = 0
    pruned = fm.prune(model, fm.Structured(0.4, multiple_of=1))
    assert pruned[0].out_features == 6
    torch.testing.assert_close(pruned(X), model(X), rtol=1e-5, atol=1e-6)
    fused = fm.prune(fm.fuse(model), fm.Structured(0.4, multiple_of=1))
    torch.testing.assert_close(fused(X), model(X), rtol=1e-5, atol=1e-6)
    model[3].bias = None  # nowhere to move it to
    assert fm.prune(model, fm.Structured(0.4, multiple_of=1))[3].bias is None


def test_masks_shrink_along():
    masked = fm.prune(mlp(), fm.L1Unstructured(0.6))
    torch_prune.l1_unstructured(masked[0], "bias", 0.5)
    with torch.no_grad():
        masked[0].weight_mask[:17] = 0
        masked(X)
    pruned = fm.prune(masked, half())
    assert pruned[0].weight_mask.shape == pruned[0].weight_orig.shape == (17, 12)
    assert pruned[0].bias_mask.shape == (17,)
    assert pruned[3].weight_mask.shape == (9, 17)
    assert torch_prune.is_pruned(pruned)
    assert fm.sparsity(pruned).counts["0"].empty <= 1
    for index in (0, 3):
        torch_prune.remove(pruned[index], "weight")
    assert pruned(X).shape == (20, 5)


def test_before_and_after_weights():
    pruned = fm.prune(fm.prune(mlp(), half()), fm.L1Unstructured(0.5))
    assert fm.sparsity(pruned).overall == pytest.approx(0.5, abs=0.01)
    assert fm.unprune(pruned)[0].out_features == 17


def test_which_layers():
    model = mlp()
    assert fm.prune(model, half(), include="3")[0].out_features == 33
    assert fm.prune(model, half(), exclude="3")[3].out_features == 17
    own = fm.prune(model, half(), amounts={"0": 0.9, "3": 0})
    assert (own[0].out_features, own[3].out_features) == (3, 17)
    for everything in ({"include": nn.Linear}, {"include": "*"}, {"amounts": {"5": 0}}):
        assert fm.prune(model, half(), **everything)[5].out_features == 5
    log = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4), nn.LogSoftmax(dim=1))
    assert fm.prune(log, half())[2].out_features == 4
