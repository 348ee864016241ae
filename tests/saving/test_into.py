"""Files and the models they are loaded into: every layer is put where forward reaches it."""

from __future__ import annotations

import contextlib
import types

import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(2))


class Listed(nn.Module):
    """forward calls layers that stand in a Python list, beside their names."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.t, self.c = nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 4)
        self.order = [self.a, (self.t, {"last": self.c})]

    def forward(self, x):
        x = self.order[0](x)
        tanh, rest = self.order[1]
        return rest["last"](tanh(x))


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(12, 32), nn.Linear(32, 4)
        self.a.register_forward_hook(lambda module, args, y: y * 2)

    def forward(self, x):
        return self.c(torch.tanh(self.a(x)))


CONFIGS = {"static": fm.Static(X), "dynamic": fm.Dynamic(), "half": fm.Half()}


@pytest.mark.parametrize("kind", [Listed, Doubled])
@pytest.mark.parametrize("config", CONFIGS)
def test_layers_are_put_wherever_they_are_called(kind, config, tmp_path):
    model = kind().eval()
    q = fm.quantize(model, CONFIGS[config])
    assert sqnr(model(X).detach(), q(X)) > 25
    fm.save(tmp_path / "m.safetensors", q)
    again = fm.load(tmp_path / "m.safetensors", into=kind())
    assert torch.equal(again(X), q(X))


def add_hook(model):
    model.register_forward_hook(lambda module, args, y: y * 2)


def hook_inside(model):
    model.relu1.register_forward_hook(lambda module, args, y: y * 2)


def double(self, x):
    return 2 * type(self).forward(self, x)


def own_forward(model):
    model.forward = types.MethodType(double, model)


def other_activation(model):
    model.relu1 = nn.Tanh()


CHANGES = {f.__name__: f for f in (add_hook, hook_inside, own_forward, other_activation)}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("make", [lambda m: m, fm.fuse, lambda m: fm.quantize(m, fm.Dynamic())])
def test_what_a_file_cannot_rebuild_it_does_not_pretend_to(change, make, tmp_path):
    """The network comes back by its class alone only where that computes the same."""
    model = fm.NeuralNetwork().eval()
    CHANGES[change](model)
    result = make(model)
    rows = torch.rand(20, 784)
    path = tmp_path / "m.safetensors"
    fm.save(path, result)
    with contextlib.suppress(ValueError):
        assert torch.allclose(fm.load(path)(rows), result(rows), atol=1e-5)
    into = fm.NeuralNetwork()
    CHANGES[change](into)
    assert torch.allclose(fm.load(path, into=into)(rows), result(rows), atol=1e-5)


def test_hooks_in_a_chain_are_not_lost(tmp_path):
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    model[1].register_forward_hook(lambda module, args, y: y * 2)
    fm.save(tmp_path / "m.safetensors", model)
    with pytest.raises(ValueError, match=r"into=Net\(\)"):
        fm.load(tmp_path / "m.safetensors")


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 16), nn.Sequential(nn.ReLU(), nn.Linear(16, 4)))

    def forward(self, x):
        return self.net(x)


def test_masks_of_nested_chains_come_back(tmp_path):
    pruned = fm.prune(Nested(), fm.L1Unstructured(0.5))
    for model in (pruned, fm.fuse(pruned)):
        fm.save(tmp_path / "m.safetensors", model)
        again = fm.load(tmp_path / "m.safetensors")
        assert torch.equal(again(X), model(X))
    fm.save(tmp_path / "m.safetensors", pruned)
    assert fm.sparsity(fm.load(tmp_path / "m.safetensors")).overall == pytest.approx(0.5, abs=0.01)


def test_a_model_of_another_class_is_named(tmp_path):
    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Linear(3, 3)

        def forward(self, x):
            return self.proj(x)[..., :2].cumsum(-1)

    fm.save(tmp_path / "a.safetensors", fm.quantize(Owner(), fm.Dynamic()))
    with pytest.raises(ValueError, match=r"into: expected .* layer 'proj', got Linear.*give a new"):
        fm.load(tmp_path / "a.safetensors", into=nn.Linear(3, 3))
