"""Quantization-aware training of models that are not plain."""

from __future__ import annotations

import pytest
import torch
from models import same
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

import fastmnist as fm

X = torch.randn(96, 12, generator=torch.Generator().manual_seed(3))


def test_in_place_training_does_not_lose_computed_weights():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(12, 4)))
    with pytest.raises(ValueError, match="got '0', whose weight is computed"):
        fm.prepare_qat(model, inplace=True)
    prepared = fm.prepare_qat(model)
    assert parametrize.is_parametrized(model[0], "weight")
    assert torch.equal(prepared[0].weight, model[0].weight)


class AddsInPlace(nn.Module):
    """Changes what a layer returned."""

    def __init__(self):
        super().__init__()
        self.fc, self.drop, self.head = (
            nn.Linear(12, 12),
            nn.Dropout(0.1, inplace=True),
            nn.Linear(12, 2),
        )

    def forward(self, x):
        h = self.fc(x)
        h += x
        return self.head(F.relu(self.drop(h), inplace=True))


def test_outputs_may_be_changed_in_place():
    prepared = fm.prepare_qat(AddsInPlace()).train()
    for _ in range(2):
        prepared(X).sum().backward()
    assert same(prepared.eval()(X), fm.convert(prepared)(X))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_training_in_other_dtypes_without_biases(dtype):
    model = nn.Sequential(
        nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4, bias=False)
    ).to(dtype)
    prepared = fm.prepare_qat(model).train()
    prepared(X.to(dtype)).float().sum().backward()
    assert prepared.eval()(X.to(dtype)).dtype == dtype
