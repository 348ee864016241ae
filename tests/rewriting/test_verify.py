"""Results are held against their originals: the same calls, and nearly the same outputs."""

from __future__ import annotations

import itertools
import threading
import warnings

import pytest
import torch
from models import ControlFlow, mlp
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr

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
        for rows in (X.double(), X.numpy(), X.half(), (X.abs() * 50).to(torch.uint8), [X]):
            fm.quantize(mlp(), fm.Dynamic(), example=rows)
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
    with pytest.raises(ValueError, match=r"example: .*'b' was never called.*exclude=\['b'\]"):
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


class Scaled(nn.Module):
    """Multiplies by a number that depends on what its layers are."""

    def __init__(self, factor) -> None:
        super().__init__()
        self.a, self.relu, self.c = nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Linear(16, 4)
        self.factor = factor

    def forward(self, x):
        return self.c(self.relu(self.a(x))) * self.factor(self)


def count_plain(model):
    return 1.0 if type(model.a) is nn.Linear else 0.5


def count_weights(model):
    return sum(p.numel() for p in model.parameters())


def mean_weight(model):
    return sum(p.abs().mean() for p in model.parameters())


def count_relus(model):
    return sum(type(m) is nn.ReLU for m in model.modules())


def named(model):
    return 2.0 if "a.weight" in model.state_dict() else 1.0


@pytest.mark.parametrize("factor", [count_plain, count_weights, mean_weight, count_relus, named])
def test_numbers_that_depend_on_the_layers_are_refused(factor):
    model = Scaled(factor).eval()
    with pytest.raises(ValueError, match="asks what its layers are"):
        fm.quantize(model, fm.Dynamic())
    same = Scaled(lambda m: 0.5).eval()
    assert sqnr(same(X).detach(), fm.quantize(same, fm.Dynamic())(X)) > 25


class KeepsBefore(nn.Module):
    """Somebody reads the value before the activation later on."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(12, 16), nn.Linear(16, 4)
        self.before, self.history = None, {"all": []}

    def forward(self, x):
        self.before = self.a(x)
        self.history["all"].append(self.before)
        return self.c(F.relu(self.before))


@pytest.mark.parametrize(
    "way", [fm.fuse, lambda m: fm.quantize(m, fm.Static(X)), lambda m: fm.quantize(m, fm.Dynamic())]
)
def test_values_that_forward_keeps_are_what_they_were(way):
    model = KeepsBefore().eval()
    result = way(model)
    model(X)
    result(X)
    assert sqnr(model.before.detach(), result.before.detach()) > 25
    assert (result.history["all"][-1] < 0).any()


class Parts(nn.Module):
    """An encoder and a decoder, the activation or norm between them in the one or the other."""

    def __init__(self, encoder, decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def norm():
    module = nn.BatchNorm1d(16)
    module.running_mean.normal_()
    module.running_var.uniform_(0.3, 2)
    return module


PARTS = {
    "activation in the decoder": lambda: Parts([nn.Linear(12, 16)], [nn.ReLU(), nn.Linear(16, 4)]),
    "norm and activation": lambda: Parts(
        [nn.Linear(12, 16)], [norm(), nn.ReLU(), nn.Linear(16, 4)]
    ),
    "norm in the encoder": lambda: Parts(
        [nn.Linear(12, 16), nn.ReLU(), norm()], [nn.Linear(16, 4)]
    ),
}


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize(
    "way", [fm.fuse, lambda m: fm.quantize(m, fm.Static(X)), lambda m: fm.quantize(m, fm.Dynamic())]
)
def test_nothing_is_fused_across_containers(parts, way):
    model = PARTS[parts]().eval()
    result = way(model)
    code = model.encoder(X).detach()
    assert sqnr(code, result.encoder(X).detach()) > 25
    assert sqnr(model.decoder(code).detach(), result.decoder(code).detach()) > 25


def test_a_metric_without_a_number_allows_nothing():
    with pytest.raises(ValueError, match="max_drop: expected a loss of at most"):
        fm.prune(
            mlp(), fm.L1Unstructured(0.9), max_drop=5.0, data=(X, torch.zeros(64)),
            metric=lambda outputs, target: float("nan"), greater_is_better=True,
        )  # fmt: skip


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.lock = nn.Linear(12, 4), threading.Lock()

    def forward(self, x):
        return self.a(x)


def test_what_needs_a_copy_is_refused_without_one():
    model = Uncopyable()
    for options in ({"example": X}, {"check": 20.0}, {"max_drop": 1.0, "data": (X, X)}):
        with pytest.raises(TypeError, match="'lock' cannot be deep-copied"):
            fm.prune(model, fm.L1Unstructured(0.5), inplace=True, **options)
    assert fm.prune(model, fm.L1Unstructured(0.5), inplace=True) is model


def test_a_prepared_model_with_a_new_head_converts():
    prepared = fm.prepare(mlp())
    prepared(X)
    joined = nn.Sequential(prepared, nn.Linear(5, 2)).eval()
    assert sqnr(joined(X).detach(), fm.convert(joined)(X)) > 25
    with pytest.raises(ValueError, match="prepared already"):
        fm.prune(prepared, fm.Structured(0.5, multiple_of=1))


def test_a_lone_layer_is_left_as_it_was():
    layer = nn.Linear(12, 4).double().train()
    with pytest.raises(ValueError, match="single layer cannot change its class"):
        fm.quantize(layer, fm.Dynamic(), inplace=True)
    assert layer.training
    assert layer.weight.dtype == torch.float64


class DrawsLots(nn.Module):
    """Scales by another number each time, as one that reads a clock does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x):
        return self.b(self.a(x)) * next(TICKS)


TICKS = itertools.count(1)


def test_a_forward_that_never_does_the_same_twice_is_not_blamed():
    q = fm.quantize(DrawsLots().eval(), fm.Dynamic())
    assert {c.checked for c in fm.changes(q)} == {"not run"}


class CallsTwice(nn.Module):
    """One layer on two numbers of rows."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x):
        return self.last(self.shared(x)[:5] + self.shared(x[:5]))


def test_the_worst_layer_is_found_by_looking_alone():
    with pytest.raises(ValueError, match=r"layer '\w+' is furthest off"):
        fm.quantize(CallsTwice(), fm.Static(X, check=200))
