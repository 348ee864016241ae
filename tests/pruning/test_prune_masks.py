"""prune: which weights each method masks, next to torch's own functions; unprune; sharing."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import mlp
from torch import nn
from torch.nn.utils import prune as torch_prune

import fastmnist as fm

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)
LAYERS = ("0", "3", "5")


def by_torch(model, method, amount, scope):
    """What torch.nn.utils.prune itself makes of a copy."""
    with torch.no_grad():
        return _by_torch(copy.deepcopy(model), method, amount, scope)


def _by_torch(model, method, amount, scope):
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if scope == "global":
        torch_prune.global_unstructured(
            [(layer, "weight") for layer in layers], pruning_method=method, amount=amount
        )
    else:
        for layer in layers:
            method.apply(layer, "weight", amount)
    return model


def assert_same_masks(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


# --- the same choice as torch


@pytest.mark.parametrize("scope", ["layer", "global"])
@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.floats(0.05, 1), st.integers(0, 9))
def test_magnitude_as_torch(scope, widths, amount, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))
    sizes = [layer.weight.numel() for layer in model]
    counts = [sum(sizes)] if scope == "global" else sizes
    if not sum(round(amount * n) for n in counts):
        with pytest.raises(ValueError, match="removes none"):
            fm.prune(model, fm.L1Unstructured(amount, scope))
        return
    expected = by_torch(model, torch_prune.L1Unstructured, amount, scope)
    pruned = fm.prune(model, fm.L1Unstructured(amount, scope))
    assert_same_masks(pruned, expected)
    zeros = fm.sparsity(pruned)
    assert zeros.zeros == sum(round(amount * n) for n in counts)
    # And again: of what is left.
    if sum(round(amount * (n - round(amount * n))) for n in counts):
        again = fm.prune(pruned, fm.L1Unstructured(amount, scope))
        assert_same_masks(again, by_torch(expected, torch_prune.L1Unstructured, amount, scope))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_random_as_torch(scope):
    model = mlp()
    torch.manual_seed(3)
    expected = by_torch(model, torch_prune.RandomUnstructured, 0.4, scope)
    torch.manual_seed(3)
    pruned = fm.prune(model, fm.RandomUnstructured(0.4, scope))
    assert_same_masks(pruned, expected)
    again = by_torch(expected, torch_prune.RandomUnstructured, 0.4, scope)
    torch.manual_seed(3)
    assert_same_masks(fm.prune(model, fm.RandomUnstructured(0.4, scope)), expected)
    assert fm.sparsity(again).overall == pytest.approx(0.64, abs=0.01)


def test_random_with_a_seed():
    model, state = mlp(), torch.random.get_rng_state()
    first = fm.prune(model, fm.RandomUnstructured(0.5, seed=1))
    assert_same_masks(first, fm.prune(model, fm.RandomUnstructured(0.5, seed=1)))
    other = fm.prune(model, fm.RandomUnstructured(0.5, seed=2))
    assert not torch.equal(first[0].weight_mask, other[0].weight_mask)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert fm.sparsity(first).layers == pytest.approx(dict.fromkeys(LAYERS, 0.5), abs=0.01)


def test_global_compares_across_layers():
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(0.01)
    zeros = fm.sparsity(fm.prune(model, fm.L1Unstructured(0.4, scope="global")))
    assert zeros.layers["0"] > 0.9
    assert zeros.layers["5"] < 0.1
    assert zeros.zeros == round(0.4 * zeros.weights)


def test_amounts_of_single_layers():
    model = mlp()
    pruned = fm.prune(model, fm.L1Unstructured(0.5), amounts={"0": 0.9, "5": 0})
    assert fm.sparsity(pruned).layers == pytest.approx({"0": 0.9, "3": 0.5, "5": 0}, abs=0.01)
    assert not torch_prune.is_pruned(pruned[5])
    pruned = fm.prune(model, fm.L1Unstructured(0.5, "global"), amounts={"0": 0.9, "5": 0.1})
    assert fm.sparsity(pruned).layers == pytest.approx({"0": 0.9, "3": 0.5, "5": 0.1}, abs=0.01)
    only = fm.prune(model, fm.L1Unstructured(0), amounts={"3": 1.0})
    assert fm.sparsity(only).layers == {"0": 0, "3": 1, "5": 0}


@pytest.mark.parametrize("method", ["l1", "random"])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("amount", [1, 2, 7, 25])
def test_an_int_is_a_number_of_weights(method, scope, amount):
    ours = fm.L1Unstructured if method == "l1" else fm.RandomUnstructured
    model = mlp()
    pruned = fm.prune(model, ours(amount, scope))
    masked = [int((pruned.get_submodule(name).weight_mask == 0).sum()) for name in LAYERS]
    assert masked == [amount] * 3 if scope == "layer" else sum(masked) == amount
    if method == "l1":
        expected = by_torch(model, torch_prune.L1Unstructured, amount, scope)
        for name in LAYERS:
            mask = expected.get_submodule(name).weight_mask
            assert torch.equal(pruned.get_submodule(name).weight_mask, mask)


def test_numbers_of_single_layers_in_place_and_in_steps():
    model = mlp()
    assert fm.prune(model, fm.L1Unstructured(0.5), amounts={"0": 1, "3": 3}, inplace=True) is model
    assert [int((model[i].weight_mask == 0).sum()) for i in (0, 3)] == [1, 3]
    counts = []
    fm.prune(
        mlp(),
        fm.L1Unstructured(8),
        finetune=lambda m: counts.append(int((m[0].weight_mask == 0).sum())),
        schedule=fm.Cubic(steps=2),
    )
    assert counts == [7, 8]
    with pytest.raises(ValueError, match="amount: expected at most the 85 weights that '5' has"):
        fm.prune(mlp(), fm.L1Unstructured(86), include="5")
    schedule = fm.Cubic(start=0.1)
    with pytest.raises(ValueError, match="start: expected 0, as '0' is to lose a number"):
        fm.prune(mlp(), fm.L1Unstructured(8), finetune=lambda m: None, schedule=schedule)
    with pytest.raises(ValueError, match="amount: expected at least 0, got -1"):
        fm.L1Unstructured(-1)


# --- masks of one's own


@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m,
        lambda m: m.float(),
        lambda m: m.to(torch.uint8),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.numpy(),
        lambda m: m.double().numpy(),
        lambda m: m.t().contiguous().t(),
        lambda m: m.float().requires_grad_(),
    ],
)
def test_masks_of_ones_own(convert):
    model, mask = mlp(), torch.rand(17, 33) < 0.5
    given_mask = convert(mask)
    for method in ({"3": given_mask}, fm.CustomMask({"3": given_mask})):
        pruned = fm.prune(model, method)
        expected = copy.deepcopy(model)
        torch_prune.custom_from_mask(expected[3], "weight", mask)
        assert_same_masks(pruned, expected)
        assert [c.layer for c in fm.changes(pruned)] == ["3"]


def test_a_mask_is_copied_and_pickles():
    mask = torch.zeros(33, 12)
    method = fm.CustomMask({"0": mask})
    mask.fill_(1)
    for same in (method, pickle.loads(pickle.dumps(method)), copy.deepcopy(method)):
        assert not fm.prune(mlp(), same)[0].weight.any()
    assert repr(method) == "CustomMask({'0': [33, 12]})"


def test_masks_add_to_what_is_masked():
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.5))
    keep = torch.ones(33, 12, dtype=torch.bool)
    keep[:11] = False
    again = fm.prune(pruned, {"0": keep})
    assert torch.equal(again[0].weight_mask != 0, keep & (pruned[0].weight_mask != 0))


@pytest.mark.parametrize(
    ("masks", "error", "match"),
    [
        ({}, ValueError, "masks: expected a mask for at least one layer, got none"),
        ({"nope": torch.ones(33, 12)}, ValueError, r"Linear layers, '0', '3', '5', got 'nope'"),
        ({"1": torch.ones(33, 12)}, ValueError, "got '1'"),
        ({"0": torch.zeros(12, 33)}, ValueError, r"masks\['0'\]: expected shape \[33, 12\]"),
        ({"0": torch.zeros(33)}, ValueError, r"expected shape \[33, 12\].*got \[33\]"),
        ({"0": torch.full((33, 12), 0.5)}, ValueError, r"masks\['0'\]: expected only 0 and 1"),
        ({"0": torch.full((33, 12), math.nan)}, ValueError, r"expected only 0 and 1"),
        ({"0": torch.full((33, 12), -1)}, ValueError, r"expected only 0 and 1"),
        ({"0": np.full((33, 12), 2)}, ValueError, r"expected only 0 and 1"),
        ({"0": torch.ones(33, 12, dtype=torch.complex64)}, TypeError, "got torch.complex64"),
        ({"0": np.full((33, 12), "a")}, TypeError, r"masks\['0'\]: expected booleans, or 0 and 1"),
        ({"0": [[1, 0]]}, TypeError, r"masks\['0'\]: expected a tensor or array, got list"),
        ({"0": None}, TypeError, "got NoneType"),
        ({0: torch.ones(33, 12)}, TypeError, "masks: expected names of layers, got 0"),
        ({"0": torch.ones(33, 12)}, ValueError, "masks that remove none"),
    ],
)
def test_masks_that_do_not_fit(masks, error, match):
    with pytest.raises(error, match=match):
        fm.prune(mlp(), masks)


def test_masks_that_are_no_mapping():
    with pytest.raises(TypeError, match="masks: expected a mapping such as"):
        fm.CustomMask([torch.ones(3)])


# --- methods


@pytest.mark.parametrize("method", [fm.L1Unstructured, fm.RandomUnstructured, fm.Structured])
def test_amounts(method):
    for amount in (-0.1, 1.01, math.nan, math.inf, 50.0):
        with pytest.raises(ValueError, match="amount: expected a share from 0 to 1, got"):
            method(amount)
    for amount in (True, "0.5", None, 1j):
        with pytest.raises(TypeError, match="amount: expected a float from 0 to 1, got"):
            method(amount)
    one = method(np.float32(0.5))
    assert type(one.amount) is float
    assert one == pickle.loads(pickle.dumps(one)) == method(0.5)


@pytest.mark.parametrize("method", [fm.L1Unstructured, fm.RandomUnstructured])
def test_scopes(method):
    for scope in ("all", None, ["layer"]):
        with pytest.raises(ValueError, match="scope: expected 'layer'"):
            method(0.5, scope=scope)


def test_seeds():
    for seed in (1.5, True, "0"):
        with pytest.raises(TypeError, match="seed: expected an int"):
            fm.RandomUnstructured(0.5, seed=seed)
    with pytest.raises(ValueError, match="seed: expected at least 0"):
        fm.RandomUnstructured(0.5, seed=-1)


def test_seeds_that_torch_does_not_take():
    with pytest.raises(ValueError, match="seed: expected less than"):
        fm.RandomUnstructured(0.5, seed=2**70)
