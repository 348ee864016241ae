"""Forwards, and code around models, that ask the first parameter where they are."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import X, make
from torch import Tensor, nn

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr


class ToItsDevice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.to(next(self.parameters()).device))


class ToItsType(ToItsDevice):
    def forward(self, x: Tensor) -> Tensor:
        first = next(self.parameters())
        return self.layers(x.to(first.device, first.dtype)).float()


class MakesState(ToItsDevice):
    """As recurrent models make their first state."""

    def forward(self, x: Tensor) -> Tensor:
        state = next(self.parameters()).new_zeros(x.shape[0], 12)
        return self.layers(x + state)


class OfLayersInside(ToItsDevice):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.to(next(self.layers[0].parameters()).device))


def aware(model: nn.Module) -> nn.Module:
    prepared = fm.prepare_qat(model, fm.QAT()).train()
    for _ in range(3):
        prepared(X)
    return fm.convert(prepared)


WAYS = {
    "fuse": fm.fuse,
    "Dynamic": lambda model: fm.quantize(model, fm.Dynamic()),
    "Static": lambda model: fm.quantize(model, fm.Static(X)),
    "Half": lambda model: fm.quantize(model, fm.Half()),
    "QAT": aware,
    "prune": lambda model: fm.prune(model, fm.L1Unstructured(0.01)),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", [ToItsDevice, ToItsType, MakesState, OfLayersInside])
def test_there_is_a_parameter_to_ask(kind, way, tmp_path) -> None:
    model = make(kind).eval()
    result = way(model)
    fm.save(tmp_path / "a.safetensors", result)
    loaded = fm.load(tmp_path / "a.safetensors", into=make(kind))
    with torch.no_grad():
        want = model(X)
        for each in (result, copy.deepcopy(result), pickle.loads(pickle.dumps(result)), loaded):
            assert [*each.parameters()]
            assert next(each.parameters()).device == torch.device("cpu")
            assert sqnr(want, each(X)) > 20
