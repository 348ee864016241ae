"""sparsity: zeros per layer and overall, of every kind of model."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import Convolutional, Tied, assert_unchanged, mlp, snapshot
from rich.console import Console
from torch import nn

import fastmnist as fm

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)


def test_counts():
    model = mlp()
    with torch.no_grad():
        model[0].weight[:3] = 0
        model[3].weight[:, 0] = 0
        model[5].bias[0] = 0
    before = snapshot(model)
    zeros = fm.sparsity(model)
    assert_unchanged(model, before)
    assert zeros.layers == {"0": 36 / 396, "3": 17 / 561, "5": 0}
    assert (zeros.zeros, zeros.weights) == (53, 396 + 561 + 85)
    assert zeros.overall == 53 / 1042
    assert zeros["0"] == zeros.layers["0"]
    assert zeros.counts["0"].empty == 3
    assert zeros.counts["3"].shape == (17, 33)
    assert zeros.to_dict()["overall"] == {"weights": 1042, "zeros": 53, "share": 53 / 1042}
    assert zeros.to_dict()["layers"]["0"]["shape"] == [33, 12]


def test_every_kind_of_model():
    model = mlp()
    pruned = fm.prune(model, fm.L1Unstructured(0.75))
    wanted = dict.fromkeys(["0", "3", "5"], 0.75)
    for kind in (pruned, fm.fuse(pruned), pruned.to(torch.float64), nn.DataParallel(pruned)):
        assert fm.sparsity(kind).layers == pytest.approx(wanted, abs=0.01)
    for int8 in (
        fm.quantize(pruned, fm.Static(X)),
        fm.quantize(pruned, fm.Dynamic()),
        fm.compile(pruned, X),
    ):
        zeros = fm.sparsity(int8)
        assert zeros.layers.keys() == wanted.keys()
        assert all(0.74 <= share < 0.85 for share in zeros.layers.values())
    smaller = fm.sparsity(fm.prune(model, fm.Structured(0.5)))
    assert [count.shape for count in smaller.counts.values()] == [(16, 12), (16, 16), (5, 16)]
    assert smaller.overall == 0


def test_behind_a_mask_in_training():
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.5))
    with torch.no_grad():
        pruned[0].weight.fill_(1)  # what torch computes anew in the next forward pass
    assert fm.sparsity(pruned).layers["0"] == 0.5


def test_only_linear_layers_count():
    assert [*fm.sparsity(Convolutional()).layers] == ["head.0", "head.3"]
    assert [*fm.sparsity(Tied()).layers] == ["a", "head"]


def test_it_prints():
    zeros = fm.sparsity(fm.prune(mlp(), fm.L1Unstructured(0.5)))
    for text in (repr(zeros), str(zeros), zeros._repr_html_()):
        assert "overall" in text
        assert "33 x 12" in text
    console = Console(record=True, width=100, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(zeros)
    assert "50.0%" in console.export_text()


def test_it_pickles():
    zeros = fm.sparsity(mlp())
    for again in (pickle.loads(pickle.dumps(zeros)), copy.deepcopy(zeros)):
        assert again.to_dict() == zeros.to_dict()


def test_no_layers():
    with pytest.raises(ValueError, match="model: expected at least one Linear layer, got none"):
        fm.sparsity(nn.ReLU())
    for what in (nn.Linear, None, torch.ones(3)):
        with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module"):
            fm.sparsity(what)
