"""Evaluating what torch made of a model, and what else can be called."""

from __future__ import annotations

import functools

import pytest
import torch
from models import mlp
from torch import nn

import fastmnist as fm

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(4))
Y = torch.arange(40) % 5


def exported(model):
    sizes = ({0: torch.export.Dim("rows")},)
    return torch.export.export(model, (X,), dynamic_shapes=sizes).module()


WAYS = {
    "exported": exported,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "traced": lambda model: torch.jit.trace(model, X),
    "scripted": torch.jit.script,
    "parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "traced by fx": torch.fx.symbolic_trace,
    "partial": functools.partial,
    "method": lambda model: model.forward,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("way", WAYS)
def test_what_torch_made_of_a_model(way):
    model = mlp().eval()
    expected = fm.evaluate(model, (X, Y))
    made = WAYS[way](model)
    for data in ((X, Y), [(X[:30], Y[:30]), (X[30:], Y[30:])]):
        assert torch.equal(fm.evaluate(made, data).correct, expected.correct)
    report = fm.compare({"model": model, "made": made}, (X, Y), rounds=1)
    assert report[1].accuracy == expected
    assert report.about["data"] == "data"
