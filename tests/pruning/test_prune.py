"""prune: torch's own masks, on a copy."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from models import MyModel, assert_unchanged, snapshot
from torch import nn
from torch.nn.utils import prune as torch_prune

import fastmnist as fm


def mlp():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))


X = torch.randn(20, 12)


def test_the_same_weights_as_torch_and_the_input_untouched():
    model = mlp()
    before = snapshot(model)
    pruned = fm.prune(model, fm.L1Unstructured(0.5))
    assert_unchanged(model, before)
    assert not pruned.training
    expected = copy.deepcopy(model)
    for layer in (expected[0], expected[2]):
        torch_prune.l1_unstructured(layer, "weight", 0.5)
    assert torch.equal(pruned(X), expected(X))
    assert pruned.state_dict().keys() == expected.state_dict().keys()
    assert torch_prune.is_pruned(pruned)
    assert [c.layer for c in fm.changes(pruned)] == ["0", "2"]
    assert "50.0% of 192 weights are 0" in fm.changes(pruned)[0].what
    torch_prune.remove(pruned[0], "weight")
    assert (pruned[0].weight == 0).float().mean() == 0.5
    expected.load_state_dict(fm.prune(model, fm.L1Unstructured(0.5)).state_dict())


def test_all_of_it():
    pruned = fm.prune(mlp(), fm.L1Unstructured(1.0))
    assert not pruned[0].weight.any()
    for result in (pruned, fm.quantize(pruned, fm.Dynamic()), fm.compile(pruned, X)):
        torch.testing.assert_close(result(X), pruned[2].bias.expand(20, 4), rtol=0, atol=1e-6)


def test_twice_takes_of_what_is_left():
    pruned = fm.prune(fm.prune(mlp(), fm.L1Unstructured(0.5)), fm.L1Unstructured(0.5))
    assert (pruned[0].weight == 0).float().mean() == 0.75


def test_fine_tuning_keeps_the_zeros(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pruned = fm.prune(MyModel(), fm.L1Unstructured(0.8))
    zeros = pruned.fc1.weight == 0
    fm.train(pruned, digits.train.subset(300), epochs=1, seed=0)
    assert (pruned.fc1.weight[zeros] == 0).all()
    # `weight` is now the result of a product, which deepcopy refuses: the transforms do not.
    x = digits.test.images[:50] / 255
    q = fm.quantize(pruned, fm.Static(digits))
    with torch.no_grad():
        assert (q(x) - pruned(x)).abs().max() < 0.1
    assert fm.prune(pruned, fm.L1Unstructured(0.5))
    assert fm.fuse(pruned)
    assert fm.compile(pruned, dynamic=True)


def test_it_copies_and_pickles():
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.5))
    for again in (copy.deepcopy(pruned), pickle.loads(pickle.dumps(pruned))):
        assert torch.equal(again(X), pruned(X))
        assert torch_prune.is_pruned(again)


def test_pruned_and_quantized_keeps_the_zeros():
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.75))
    net = fm.compile(pruned, X)
    assert (net.layers[0].weight == 0).mean() >= 0.75
    assert torch.equal(net(X), fm.quantize(pruned, fm.Static(X))(X))


@pytest.mark.parametrize("amount", [-0.1, 1.01, math.nan, math.inf, -math.inf, 50.0])
def test_amounts_outside(amount):
    with pytest.raises(ValueError, match=r"amount: expected a share from 0 to 1, got"):
        fm.L1Unstructured(amount)


@pytest.mark.parametrize("amount", [True, "0.5", None, [0.5], 1j, np.True_])
def test_amounts_that_are_no_numbers(amount):
    with pytest.raises(TypeError, match="amount: expected a float from 0 to 1, got"):
        fm.L1Unstructured(amount)


@pytest.mark.parametrize("amount", [np.float32(0.5), np.float64(0.5)])
def test_amounts_from_other_libraries(amount):
    pruned = fm.prune(mlp(), fm.L1Unstructured(amount))
    assert (pruned[0].weight == 0).float().mean() == 0.5


@pytest.mark.parametrize("amount", [0, 0.0, 1e-6])
def test_nothing_removed_is_an_error(amount):
    with pytest.raises(ValueError, match="method: expected an amount that removes weights"):
        fm.prune(mlp(), fm.L1Unstructured(amount))


def test_pruning_what_is_all_zero_is_an_error():
    with pytest.raises(ValueError, match="removes none"):
        fm.prune(fm.prune(mlp(), fm.L1Unstructured(1.0)), fm.L1Unstructured(0.5))


@pytest.mark.parametrize(
    ("method", "got"),
    [(fm.L1Unstructured, "the class L1Unstructured"), (0.5, "float"), (None, "NoneType")],
)
def test_no_method(method, got):
    with pytest.raises(TypeError, match=rf"method: expected a pruning method.*got {got}"):
        fm.prune(mlp(), method)


def test_no_linear_layer():
    with pytest.raises(ValueError, match=r"at least one torch.nn.Linear to prune, got none"):
        fm.prune(nn.Sequential(nn.ReLU()), fm.L1Unstructured(0.5))
    with pytest.raises(ValueError, match="prune before quantizing"):
        fm.prune(fm.quantize(mlp(), fm.Dynamic()), fm.L1Unstructured(0.5))
    with pytest.raises(TypeError, match=r"did you mean MyModel\(\)"):
        fm.prune(MyModel, fm.L1Unstructured(0.5))
