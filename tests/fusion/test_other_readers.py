"""Layers that other code than forward runs, too, are not fused with what follows in forward."""

from __future__ import annotations

import pytest
import torch
from models import X, make, randomize
from torch import Tensor, nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr


class ValueHead(nn.Module):
    """An actor and a critic on one trunk, under different activations."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.policy, self.critic = nn.Linear(12, 16), nn.Linear(16, 4), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.policy(F.relu(self.trunk(x)))

    def value(self, x: Tensor) -> Tensor:
        return self.critic(torch.tanh(self.trunk(x)))


class Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.act = nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU()
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.norm(self.fc(x))))

    def embed(self, x: Tensor) -> Tensor:
        return self.norm(self.fc(x))

    value = embed


class SharedActivation(nn.Module):
    """One ReLU, in forward behind one layer, elsewhere behind another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(12, 16), nn.Linear(12, 8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.a(x)) * 2

    def value(self, x: Tensor) -> Tensor:
        return self.relu(self.b(x))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = ValueHead(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def value(self, x: Tensor) -> Tensor:
        return self.body.critic(self.body.trunk(x).sigmoid())


WAYS = ["fuse", "Dynamic", "Static", "Half", "prepare"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [ValueHead, Embeds, SharedActivation, Nested])
def test_every_way_in_gives_what_it_gave(kind, way: str) -> None:
    model = randomize(make(kind)).eval()
    names = [name for name, _ in model.named_modules()]
    unreached = [name for name in names if name.endswith("critic") or name == "b"]
    result = {
        "fuse": lambda: fm.fuse(model),
        "Dynamic": lambda: fm.quantize(model, fm.Dynamic()),
        "Static": lambda: fm.quantize(model, fm.Static(X), exclude=unreached or None),
        "Half": lambda: fm.quantize(model, fm.Half()),
        "prepare": lambda: fm.prepare(model, fm.Static()),
    }[way]()
    assert sqnr(model(X).detach(), result(X).detach()) > 25
    assert sqnr(model.value(X).detach(), result.value(X).detach()) > 25


class OnlyLooks(nn.Module):
    """Other code that does not run the layers leaves the pair free to be fused."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.relu, self.out = nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for layer in (self.fc, self.out):
            nn.init.normal_(layer.weight, 0, 0.3)

    def size(self) -> int:
        return self.fc.weight.numel() + sum(p.numel() for p in self.out.parameters())

    def features(self, x: Tensor) -> Tensor:
        return self.relu(self.fc(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.features(x))


def test_code_that_only_looks_at_layers_does_not_keep_them_apart() -> None:
    fused = fm.fuse(make(OnlyLooks))
    assert fused.fc.clamp == (0.0, float("inf"))
    assert torch.equal(fused.features(X), make(OnlyLooks).features(X))
    # What is compiled has one way in.
    assert len(fm.compile(make(Embeds), X).layers) == 2
