"""Results are held against their originals: the same calls, and nearly the same outputs."""

from __future__ import annotations

import warnings

import pytest
import torch
from models import ControlFlow, mlp
from torch import nn
from torch.nn import functional as F

import fastmnist as fm

X = torch.randn(64, 12, generator=torch.Generator().manual_seed(2))


class AsksForTypes(nn.Module):
    """GELU behind what is a plain Linear to the letter."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(12, 16), nn.Linear(16, 4)])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            if type(layer) is nn.Linear:
                x = F.gelu(x)
        return x


class AsksForParameters(AsksForTypes):
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
            if "weight" in dict(layer.named_parameters()):
                x = torch.tanh(x)
        return x


class AsksUntraced(AsksForTypes):
    def forward(self, x):
        if float(x.sum()) > 1e9:
            return x
        return super().forward(x)


@pytest.mark.parametrize("kind", [AsksForTypes, AsksForParameters])
def test_a_forward_that_asks_what_its_layers_are_is_refused(kind):
    model = kind().eval()
    for way in (
        lambda: fm.quantize(model, fm.Dynamic()),
        lambda: fm.quantize(model, fm.Static(X)),
        lambda: fm.quantize_dynamic(model, {nn.Linear}),
        lambda: fm.compile(model, X),
    ):
        with pytest.raises(ValueError, match=r"model: .* asks what its layers are .*exclude="):
            way()


def test_where_tracing_fails_rows_tell():
    model = AsksUntraced().eval()
    with pytest.warns(UserWarning, match=r"dB between signal and noise on calibration.*layer '"):
        fm.quantize(model, fm.Static(X))
    with pytest.raises(ValueError, match=r"check: .*dB.*layer '.*exclude="):
        fm.quantize(model, fm.Static(X, check=15.0))
    with pytest.warns(UserWarning, match="on example"):
        fm.quantize(model, fm.Dynamic(), example=X)
    assert "(not run)" in str(fm.changes(fm.quantize(model, fm.Dynamic()))[0])


def test_a_good_result_is_silent_and_says_how_it_was_checked():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        q = fm.quantize(mlp(), fm.Static(X, check=25.0))
        assert {c.checked for c in fm.changes(q)} == {"rows"}
        q = fm.quantize(mlp(), fm.Dynamic())
        assert {c.checked for c in fm.changes(q)} == {"graph"}
        q = fm.quantize(ControlFlow(), fm.Dynamic())
        assert {c.checked for c in fm.changes(q)} == {"not run"}
        q = fm.quantize(ControlFlow(), fm.Dynamic(), example=X)
        assert {c.checked for c in fm.changes(q)} == {"rows"}
        assert "not run" not in str(fm.changes(q))
        prepared = fm.prepare(ControlFlow(), example=(X,))
        prepared(X)
        assert {c.checked for c in fm.changes(fm.convert(prepared)) if "int8" in c.kind} == {"rows"}
        fused = fm.fuse(mlp(), example={"input": X}, check=80)
        assert torch.allclose(fused(X), mlp().eval()(X), atol=1e-6)
        fm.prune(mlp(), fm.L1Unstructured(0.9), example=X, check=100)
        dead = mlp()
        with torch.no_grad():
            dead[0].weight[:20] = 0  # neurons that give a constant, which goes into biases
        for model in (dead, mlp()):
            smaller = fm.prune(model, fm.Structured(0.7, multiple_of=4), example=X, check=100)
            assert {c.checked for c in fm.changes(smaller)} == {"rows"}


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 4), nn.Linear(12, 4)

    def forward(self, x, other=False):
        return self.b(x) if other else self.a(x)


def test_rows_must_reach_the_layers_and_fit_the_model():
    with pytest.raises(ValueError, match=r"example: layer 'b' was never called .*exclude=\['b'\]"):
        fm.quantize(Branches(), fm.Dynamic(), example=X)
    fm.quantize(Branches(), fm.Dynamic(), include="b", example={"x": X, "other": True})
    with pytest.raises(ValueError, match=r"example: expected rows that the model takes, got .*5\]"):
        fm.quantize(mlp(), fm.Dynamic(), example=torch.zeros(3, 5))
    for bad, error in (("15", TypeError), (True, TypeError), (0, ValueError), (-3, ValueError)):
        with pytest.raises(error, match="check: expected"):
            fm.quantize(mlp(), fm.Static(X, check=bad))


class Noisy(nn.Module):
    """Draws numbers in forward, as a VAE does."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(12, 8), nn.Linear(8, 12)

    def forward(self, x):
        h = self.encode(x)
        return self.decode(h + torch.randn_like(h))


def test_models_that_draw_numbers_draw_the_same_and_leave_the_generator_alone():
    model = Noisy().eval()
    state = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fm.quantize(model, fm.Dynamic(), example=X)
    assert torch.equal(torch.random.get_rng_state(), state)
