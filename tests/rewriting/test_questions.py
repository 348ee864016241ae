"""Forwards that ask what their layers are, where no single trace can tell."""

from __future__ import annotations

import types

import pytest
import torch
from models import X, make
from torch import Tensor, nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu, self.b = nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4)


class AsksWithOption(Layers):
    """Does other things with its second argument, so that there is no one graph."""

    def forward(self, x: Tensor, more: Tensor | None = None) -> Tensor:
        x = self.a(x)
        if type(self.a) is nn.Linear:
            x = F.gelu(x)
        return self.b(x if more is None else x + more)


class Untraceable(Layers):
    def forward(self, x: Tensor) -> Tensor:
        x = self.step(self.a, x if float(x.sum()) > -1e9 else -x)
        return self.b(x)

    def step(self, layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x)


class AsksForType(Untraceable):
    def step(self, layer: nn.Module, x: Tensor) -> Tensor:
        return F.gelu(layer(x)) if type(layer) == nn.Linear else layer(x)  # noqa: E721


class AsksForActivation(Untraceable):
    def step(self, layer: nn.Module, x: Tensor) -> Tensor:
        x = self.relu(layer(x))
        return 2 * x if isinstance(self.relu, nn.ReLU) else x


def _is_linear(layer: nn.Module) -> bool:
    return layer.__class__ is nn.Linear


class AsksThroughFunction(Untraceable):
    def step(self, layer: nn.Module, x: Tensor) -> Tensor:
        return F.gelu(layer(x)) if _is_linear(layer) else layer(x)


class AsksForAttribute(Untraceable):
    def step(self, layer: nn.Module, x: Tensor) -> Tensor:
        return F.gelu(layer(x)) if hasattr(layer, "weight") else layer(x)


class AsksForParameter(Layers):
    """Under a mask a weight is no parameter any more: torch computes it."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(F.gelu(x) if isinstance(self.a.weight, nn.Parameter) else x)


class AsksForName(Layers):
    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(F.gelu(x) if "weight" in dict(self.a.named_parameters()) else x)


class AsksForDtype(Untraceable):
    def step(self, layer: nn.Module, x: Tensor) -> Tensor:
        x = layer(x)
        return F.gelu(x) if layer.weight.dtype == torch.float32 else x


class AsksOnlyWhenMade(Untraceable):
    """As most code does: to draw its weights, and of its input."""

    def __init__(self) -> None:
        super().__init__()
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError("x")
        return super().forward(x)


TRANSFORMS = {
    "Dynamic": lambda model, **options: fm.quantize(model, fm.Dynamic(), **options),
    "Half": lambda model, **options: fm.quantize(model, fm.Half(), **options),
    "fuse": lambda model, **options: fm.fuse(model, **options),
}
ASKING = [AsksForType, AsksForActivation, AsksThroughFunction, AsksForAttribute, AsksForDtype]


@pytest.mark.parametrize("kind", ASKING)
def test_what_cannot_be_looked_at_is_refused_with_the_forward(kind) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\) asks what its layers are.*example="):
        fm.quantize(make(kind), fm.Dynamic())


@pytest.mark.parametrize("kind", [AsksForParameter, AsksForName])
def test_what_masks_rename_is_refused_by_prune(kind) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\) asks what its layers are.*example="):
        fm.prune(make(kind), fm.L1Unstructured(0.1))
    with pytest.warns(UserWarning, match="outputs differ"):
        fm.prune(make(kind), fm.L1Unstructured(0.1), example=X)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_rows_decide_instead(transform) -> None:
    model = make(AsksForAttribute).eval()
    result = transform(model, example=X)
    assert sqnr(model(X).detach(), result(X).detach()) > 25
    with pytest.warns(UserWarning, match="outputs differ more than expected"):
        fm.quantize(make(AsksForType).eval(), fm.Dynamic(), example=X)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_each_way_of_an_optional_argument_is_held_against_the_original(transform) -> None:
    if transform is TRANSFORMS["fuse"]:
        assert torch.equal(transform(make(AsksWithOption))(X), make(AsksWithOption)(X))
        return
    with pytest.raises(ValueError, match=r"asks what its layers are .*calls 'gelu'"):
        transform(make(AsksWithOption))


@pytest.mark.parametrize("kind", [Untraceable, AsksOnlyWhenMade])
@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_other_questions_are_allowed(kind, transform) -> None:
    model = make(kind).eval()
    assert sqnr(model(X).detach(), transform(model)(X).detach()) > 25


def test_a_forward_of_the_instance_may_call_that_of_its_class() -> None:
    class Plain(Layers):
        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.relu(self.a(x)))

    model = make(Plain).eval()
    model.forward = types.MethodType(lambda self, x: 2 * type(self).forward(self, x), model)
    for change in fm.changes(q := fm.quantize(model, fm.Dynamic())):
        assert change.checked != "not run"
    assert sqnr(model(X).detach(), q(X)) > 25
    assert fm.prune(model, fm.Structured(0.5)).a.out_features == 16
