"""Models that are entered, patched or reached past what a copy can follow: right, or refused."""

from __future__ import annotations

import weakref
from collections import deque

import pytest
import torch
from models import X, make
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


WAYS = {
    "fuse": fm.fuse,
    "Dynamic": lambda model: fm.quantize(model, fm.Dynamic()),
    "Static": lambda model: fm.quantize(model, fm.Static(X)),
    "Half": lambda model: fm.quantize(model, fm.Half()),
}
EACH = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@EACH
def test_an_activation_patched_for_all(way, monkeypatch) -> None:
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: torch.where(x > 0, x, 0.3 * x))
    model = make(network)
    assert sqnr(model(X).detach(), way(model)(X).detach()) > 25
    with pytest.raises(ValueError, match=r"'1' \(ReLU\)"):
        fm.compile(model, X)


def test_a_linear_patched_for_all_is_left(monkeypatch) -> None:
    plain = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: 2 * plain(self, x))
    with pytest.raises(ValueError, match="expected at least one"):
        fm.quantize(make(network), fm.Dynamic())
    fused = fm.fuse(make(network))
    assert torch.equal(fused(X), make(network)(X))


HOOKS = {
    "before": lambda: register_module_forward_pre_hook(
        lambda m, args: (args[0] + 0.5,) if isinstance(m, nn.ReLU | nn.Identity) else None
    ),
    "after": lambda: register_module_forward_hook(
        lambda m, args, out: out * 2 if isinstance(m, nn.ReLU | nn.Identity) else None
    ),
}


@EACH
@pytest.mark.parametrize("register", HOOKS.values(), ids=HOOKS)
def test_a_hook_for_all_modules_keeps_layers_apart(way, register) -> None:
    handle = register()
    try:
        model = make(network)
        assert sqnr(model(X).detach(), way(model)(X).detach()) > 25
        with pytest.raises(ValueError, match="expected no hooks"):
            fm.compile(model, X)
    finally:
        handle.remove()


class Doubled(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return 2 * super().__call__(x)


@EACH
def test_a_call_of_ones_own(way) -> None:
    model = make(lambda: Doubled(*network())).eval()
    assert sqnr(model(X).detach(), way(model)(X).detach()) > 25
    with pytest.raises(ValueError, match="or a __call__ of its own"):
        fm.compile(model, X)


REGISTRY: dict[str, nn.Module] = {}


class ThroughWeakReference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.me = nn.Linear(12, 16), nn.Linear(16, 4), weakref.ref(self)

    def forward(self, x: Tensor) -> Tensor:
        me = self.me()
        assert me is not None
        return me.b(me.a(x).relu())


class ThroughRegistry(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 4)
        REGISTRY["a"] = self.a

    def forward(self, x: Tensor) -> Tensor:
        return self.b(REGISTRY["a"](x).relu())


@EACH
@pytest.mark.parametrize("kind", [ThroughWeakReference, ThroughRegistry])
def test_layers_reached_past_the_copy_are_refused(way, kind) -> None:
    with pytest.raises(ValueError, match="reach layers through self"):
        way(kind().eval())
    with pytest.raises(ValueError, match="reach layers through self"):
        fm.prune(kind().eval(), fm.L1Unstructured(0.9))


class InPlainLists(nn.Module):
    """Layers that no container of torch's holds, but the model does."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.rest = [nn.ReLU(), {"last": nn.Linear(16, 4)}]

    def forward(self, x: Tensor) -> Tensor:
        return self.rest[1]["last"](self.rest[0](self.first(x)))


def test_layers_in_plain_lists_are_the_models_own() -> None:
    model = make(InPlainLists).eval()
    assert sqnr(model(X).detach(), fm.quantize(model, fm.Dynamic())(X).detach()) > 25


@EACH
def test_what_torch_compile_wrapped_is_unwrapped(way) -> None:
    model, plain = make(network), make(network)
    model[0] = torch.compile(model[0], backend="eager")
    result = way(model)
    assert torch.equal(result(X), way(plain)(X))
    assert type(model[0]).__name__ == "OptimizedModule"  # as it was
    in_place = fm.quantize(
        make(network).append(torch.compile(nn.Linear(4, 2))), fm.Dynamic(), inplace=True
    )
    assert [c.layer for c in fm.changes(in_place) if "int8" in c.kind] == ["0", "2", "3"]


class CompiledForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 4)

    @torch.compile(backend="eager")
    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


def test_a_forward_compiled_in_its_class() -> None:
    model = make(CompiledForward).eval()
    with torch.no_grad():
        want = model(X)
        for way in (*WAYS.values(), *WAYS.values()):
            assert sqnr(want, way(model)(X)) > 25
    torch._dynamo.reset()


class KeepsInContainers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 4)
        self.history: list[Tensor] = []
        self.last: deque[dict[str, Tensor]] = deque(maxlen=2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        self.history.append(h)
        self.last.append({"h": h})
        return self.b(h)


@EACH
def test_what_a_call_with_gradients_left_in_containers_is_copied(way) -> None:
    model = make(KeepsInContainers).eval()
    model(X).sum().backward()
    result = way(model)
    assert model.history[0].grad_fn is not None  # as it was
    assert sqnr(model(X).detach(), result(X).detach()) > 25
