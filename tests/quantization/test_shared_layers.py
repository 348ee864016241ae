"""One layer called several times has one scale: said, where the ranges are too far apart."""

from __future__ import annotations

import warnings

import pytest
import torch
from models import make
from torch import Tensor, nn

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr

ROWS = torch.randn(64, 16, generator=torch.Generator().manual_seed(5))


class Recurring(nn.Module):
    """Calls `step` again and again, each time at `growth` times the range."""

    def __init__(self, growth: float = 20.0, times: int = 3) -> None:
        super().__init__()
        self.step, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        self.growth, self.times = growth, times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.step(x).tanh() * self.growth
        return self.head(x)


class Untraceable(Recurring):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > -1e9 else -x)


def said(model: nn.Module, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fm.quantize(model, fm.Static(ROWS, **options))
    return [str(w.message) for w in caught if "times apart" in str(w.message)]


@pytest.mark.parametrize("kind", [Recurring, Untraceable])
@pytest.mark.parametrize("observer", ["minmax", "moving_average", "mse"])
def test_ranges_far_apart_are_said(kind, observer: str) -> None:
    (text,) = said(make(lambda: kind(40.0)), observer=observer)
    assert "layer 'step' is called 3 times" in text
    assert "Dynamic()" in text
    assert "exclude=['step']" in text


def test_prepared_models_say_it_when_they_are_converted() -> None:
    for prepare, config in ((fm.prepare, fm.Static()), (fm.prepare_qat, fm.QAT())):
        prepared = prepare(make(lambda: Recurring(40.0)), config).train()
        for _ in range(3):
            prepared(ROWS)
        with pytest.warns(UserWarning, match="layer 'step' is called 3 times at ranges"):
            fm.convert(prepared)


def test_what_is_advised_helps() -> None:
    model = make(lambda: Recurring(40.0)).eval()
    want = model(ROWS).detach()
    assert sqnr(want, fm.quantize(model, fm.Dynamic())(ROWS)) > 25
    assert not said(Recurring(40.0, times=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        left = fm.quantize(model, fm.Static(ROWS), exclude="step")
    assert sqnr(want, left(ROWS)) > 25


@pytest.mark.parametrize("growth", [1.0, 2.0, 4.0])
def test_ranges_that_one_scale_serves_are_not_spoken_of(growth: float) -> None:
    assert not said(make(lambda: Recurring(growth)))


def test_calls_of_the_layer_itself_are_no_calls_of_the_model() -> None:
    prepared = fm.prepare(make(lambda: Recurring(1.0, times=1)), fm.Static())
    prepared(ROWS)
    for size in (1.0, 100.0):
        prepared.step(ROWS * size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fm.convert(prepared, check=1.0)
