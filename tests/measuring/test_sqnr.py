"""Outputs of several models on the same rows, and how near they are."""

from __future__ import annotations

import copy

import torch
from models import mlp, same
from torch import nn

from fastmnist.measuring.sqnr import outputs_of

X = torch.randn(96, 12, generator=torch.Generator().manual_seed(3))


def test_the_suite_measures_what_it_is_given():
    model = mlp().eval()
    half = copy.deepcopy(model).bfloat16()
    with torch.no_grad():
        expected = half(X.bfloat16()).float()
        _, got = outputs_of([model, lambda x: half(x.bfloat16())], X)
        assert same(got, expected)
        own = nn.Sequential(nn.Identity(), copy.deepcopy(half))
        own[0].forward = lambda x: x.bfloat16()
        assert same(outputs_of([own], X)[0], expected)
