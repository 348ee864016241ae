"""unprune, torch's own remove, and checkpoints of masked models."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import assert_unchanged, mlp, snapshot
from torch import nn
from torch.nn.utils import prune as torch_prune

import fastmnist as fm

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)


# --- unprune, remove, checkpoints


def test_unprune_brings_everything_back():
    model = mlp().eval()
    torch_prune.l1_unstructured(model[0], "bias", 0.5)
    pruned = fm.prune(model, fm.L1Unstructured(0.9))
    before = snapshot(pruned)
    back = fm.unprune(pruned)
    assert_unchanged(pruned, before)
    assert not torch_prune.is_pruned(back)
    assert isinstance(back[0].weight, nn.Parameter)
    assert torch.equal(back[0].bias, model[0].bias_orig)
    assert back.state_dict().keys() == mlp().state_dict().keys()
    assert torch.equal(back(X), mlp().eval()(X))
    assert "unpruned: weight" in str(fm.changes(back)[-1])


@pytest.mark.parametrize(
    "make",
    [
        mlp,
        lambda: fm.prune(mlp(), fm.Structured(0.5, multiple_of=1)),
        lambda: fm.quantize(fm.prune(mlp(), fm.L1Unstructured(0.5)), fm.Dynamic()),
    ],
)
def test_nothing_to_unprune(make):
    with pytest.raises(ValueError, match="model: expected masks of torch"):
        fm.unprune(make())


def test_unprune_wants_a_model():
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module"):
        fm.unprune(mlp)


def test_torch_removes_our_masks_and_checkpoints_load():
    model = mlp().eval()
    pruned = fm.prune(model, fm.L1Unstructured(0.7, "global"))
    other = fm.prune(model, fm.RandomUnstructured(0.7))
    other.load_state_dict(pruned.state_dict())
    assert torch.equal(other(X), pruned(X))
    expected = pruned(X)
    for i in (0, 3, 5):
        assert torch_prune.is_pruned(pruned[i])
        torch_prune.remove(pruned[i], "weight")
    assert not torch_prune.is_pruned(pruned)
    assert torch.equal(pruned(X), expected)
    model.load_state_dict(pruned.state_dict())
    assert torch.equal(model(X), expected)
    other = fm.prune(other, fm.L1Unstructured(0), amounts={"0": 0.9})
    with torch.no_grad():
        expected = other(X)
    for again in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert torch.equal(again(X), expected)


def test_unprune_says_when_nothing_is_left_to_come_back(tmp_path):
    pruned = fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.5))
    fm.save(tmp_path / "m", pruned)
    with pytest.raises(ValueError, match="expected weights behind the masks, got zeros alone"):
        fm.unprune(fm.load(tmp_path / "m"))
