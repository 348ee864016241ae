"""Which layers of a model are changed, and which are left alone."""

from __future__ import annotations

import types

import pytest
import torch
from models import SEQUENCES, X, make, mlp, quality
from torch import nn
from torch.nn import functional as F

import fastmnist as fm


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class OwnRelu(nn.ReLU):
    def forward(self, x):
        return x.abs()


class OwnIdentity(nn.Identity):
    def forward(self, x):
        return x * 3


def test_subclasses_with_their_own_forward_are_left_alone():
    model = nn.Sequential(
        OwnLinear(12, 8),
        nn.Linear(8, 8),
        OwnRelu(),
        nn.Linear(8, 8),
        OwnIdentity(),
        nn.Linear(8, 4),
    )
    for config in (fm.Static(X), fm.Dynamic()):
        q = fm.quantize(model, config)
        assert type(q[0]) is OwnLinear
        assert type(q[2]) is OwnRelu
        with torch.no_grad():
            assert (q(X) - model(X)).abs().max() < 0.2
    with pytest.raises(ValueError, match="got none"):
        fm.quantize(nn.Sequential(OwnLinear(3, 2)), fm.Dynamic())


def test_parametrized_layers():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(12, 8)), nn.ReLU())
    q = fm.quantize(model, fm.Dynamic())
    assert torch.nn.utils.parametrize.is_parametrized(model[0])
    with torch.no_grad():
        assert (q(X) - model(X)).abs().max() < 0.05


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(12, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def test_an_lstm_stays_and_its_head_does_not():
    model = make(Recurrent)
    q = fm.quantize_dynamic(model, {nn.Linear})
    assert type(q.lstm) is nn.LSTM
    assert (q(SEQUENCES) - model(SEQUENCES)).detach().abs().max() < 0.05


def test_a_model_in_python_lists_is_no_module_tree():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(12, 4)]

        def forward(self, x):
            return self.layers[0](x)

    with pytest.raises(ValueError, match=r"at least one torch.nn.Linear"):
        fm.quantize(Hidden(), fm.Dynamic())


def test_a_forward_of_the_instances_own_is_left_alone():
    model = mlp()
    model[0].forward = types.MethodType(lambda s, x: F.linear(x, s.weight * 3, s.bias), model[0])
    for other in (
        fm.fuse(model),
        fm.quantize(model, fm.Dynamic()),
        fm.quantize(model, fm.Static(X)),
    ):
        assert quality(model, other, X) > 25
