"""Forwards that do more than call one layer after the other."""

from __future__ import annotations

import math

import pytest
import torch
from models import ControlFlow, X, make, quality, randomize, same
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.layers.quantized import QuantizedLinear


def test_why_it_was_not_traced_is_said():
    q = fm.quantize(ControlFlow(), fm.Dynamic())
    assert all("cannot be traced" in c.what for c in fm.changes(q))


class Options(nn.Module):
    """Arguments with defaults, and a tuple as the result."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 8)
        self.b = nn.Linear(8, 4)

    def forward(self, x, return_hidden=False):
        h = F.relu(self.a(x))
        return (self.b(h), h) if return_hidden else self.b(h)


def test_flags_keep_their_meaning():
    model = make(Options)
    q = fm.quantize(model, fm.Static(X))
    y, h = q(X, return_hidden=True)
    assert torch.equal(y, q(X))
    assert (h - model(X, return_hidden=True)[1]).detach().abs().max() < 0.05


class Optional(nn.Module):
    """Gives features, or classes where it is given something to add to them."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 8)
        self.b = nn.Linear(8, 4)

    def forward(self, x, bonus=None):
        h = self.a(x)
        if bonus is None:
            return h
        return self.b(F.relu(h)) + bonus


class Unneeded(nn.Module):
    """Has an argument that changes nothing that matters."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 8)
        self.b = nn.Linear(8, 4)
        self.relu = nn.ReLU()

    def forward(self, x, mask=None, temperature=1.0):
        return self.b(self.relu(self.a(x)))


def test_arguments_with_defaults_keep_their_meaning():
    model = make(Optional)
    q = fm.quantize(model, fm.Dynamic())
    bonus = torch.ones(4)
    assert (q(X) - model(X)).detach().abs().max() < 0.05
    assert (q(X, bonus) - model(X, bonus)).detach().abs().max() < 0.05
    assert "without bonus" in str(fm.changes(q)[0])
    q = fm.quantize(make(Unneeded), fm.Dynamic())
    assert [c.what for c in fm.changes(q)] == ["fused with relu", "int8 dynamic", "int8 dynamic"]
    assert torch.equal(fm.compile(q)(X), q(X))


class ReadsSizes(nn.Module):
    """Asks a layer for its width."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 64), nn.Linear(64, 4)

    def forward(self, x):
        return self.fc2(self.fc1(x)) / math.sqrt(self.fc1.out_features)


class ThroughAList(nn.Module):
    """Calls its layers through a plain list, and a dict."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.steps = [self.fc1, self.fc2]
        self.heads = {"out": self.fc3}

    def forward(self, x):
        for step in self.steps:
            x = torch.relu(step(x))
        return self.heads["out"](x)


class Modes(nn.Module):
    """Does other things in training."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x):
        h = self.fc1(x)
        y = self.fc2(F.relu(h))
        return y if self.training else torch.cat((y, h), 1)


def is_called(q):
    """Whether int8 layers run when the model does."""
    calls = []
    for chain in [m for m in q.modules() if isinstance(m, QuantizedLinear)]:
        chain.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        q(X)
    return bool(calls)


@pytest.mark.parametrize("make", [ReadsSizes, ThroughAList, Modes])
def test_awkward_forwards(make):
    model = randomize(make()).train()
    for q in (fm.quantize(model, fm.Static(X)), fm.quantize(model, fm.Dynamic())):
        assert quality(model, q, X) > 25
        assert is_called(q)
    prepared = fm.prepare_qat(model).train()
    prepared(X)
    assert quality(model, prepared, X) > 25
    assert same(prepared.eval()(X), fm.convert(prepared)(X))
