"""Warnings name the line of the user's own code."""

from __future__ import annotations

import warnings

import torch
from models import make
from torch import Tensor, nn

import fastmnist as fm


class Recurring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step, self.head = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.step(x).tanh() * 40
        return self.head(x)


def test_a_warning_names_the_line_that_called_the_library() -> None:
    rows = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fm.quantize(make(Recurring), fm.Static(rows))
        prepared = fm.prepare(make(Recurring))
        prepared(rows)
        fm.convert(prepared)
    apart = [w for w in caught if "times apart" in str(w.message)]
    assert len(apart) == 2
    assert {w.filename for w in apart} == {__file__}
