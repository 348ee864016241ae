"""Forwards of an instance's own: traced as they are, bound to the copy, or refused."""

from __future__ import annotations

import functools
import types
import weakref

import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr
from fastmnist.rewriting.copies import plain_copy

X = torch.randn(64, 12, generator=torch.Generator().manual_seed(2))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 4)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.b(self.relu(self.a(x)))


def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net().eval()


WAYS = {
    "fuse": fm.fuse,
    "static": lambda model: fm.quantize(model, fm.Static(X)),
    "dynamic": lambda model: fm.quantize(model, fm.Dynamic()),
    "prune": lambda model: fm.prune(model, {"a": torch.ones(16, 12) - torch.eye(16, 12)}),
    "copy": plain_copy,
}  # fmt: skip


def sigmoid_instead(self, x):
    return self.b(self.a(x).sigmoid())


def times(self, factor, x):
    return factor * self.b(self.relu(self.a(x)))


GOOD = {
    "a method": lambda m: types.MethodType(sigmoid_instead, m),
    "a partial of a method": lambda m: functools.partial(types.MethodType(times, m), 3),
    "a partial with the model": lambda m: functools.partial(times, m, 3),
    "its own method": lambda m: m.forward,
    "compiled": lambda m: torch.compile(m.forward, backend="eager"),
    "compiled method": lambda m: torch.compile(
        types.MethodType(sigmoid_instead, m), backend="eager"
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("forward", GOOD)
def test_what_can_be_bound_is_bound_to_the_copy(way, forward):
    model = net()
    model.forward = GOOD[forward](model)
    before = vars(model)["forward"]
    result = WAYS[way](model)
    assert vars(model)["forward"] is before
    with torch.no_grad():
        assert sqnr(model(X), result(X)) > 15  # what pruning leaves; wrong is below 10
        for p in model.parameters():
            p.zero_()  # the result calls its own layers, not these
        assert result(X).abs().max() > 0.01
    torch._dynamo.reset()


held = net()


def closure(model):
    return lambda x: model.b(model.relu(model.a(x)))


def wrapped(model):
    forward = model.forward

    @functools.wraps(forward)
    def twice(x):
        return 2 * forward(x)

    return twice


def of_a_global(x):
    return held.b(held.a(x))


BAD = {
    "closure": closure,
    "wrapped": wrapped,
    "default": lambda m: lambda x, b=m.b, a=m.a: b(a(x)),
    "keyword": lambda m: functools.partial(
        lambda x, layers: layers[1](layers[0](x)), layers=[m.a, m.b]
    ),
    "compiled closure": lambda m: torch.compile(closure(m), backend="eager"),
    "parameter": lambda m: lambda x, w=m.a.weight: x @ w.t(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("forward", BAD)
def test_what_holds_the_models_layers_is_refused(way, forward):
    model = net()
    model.forward = BAD[forward](model)
    with pytest.raises(ValueError, match=r"model: the forward was replaced .*types.MethodType"):
        WAYS[way](model)
    torch._dynamo.reset()


def test_a_global_and_a_child():
    held.forward = of_a_global
    with pytest.raises(ValueError, match=r"holds the model's own layer \(Net\)"):
        fm.quantize(held, fm.Dynamic())
    model = nn.Sequential(net(), nn.Linear(4, 2))
    model[0].forward = closure(model[0])
    with pytest.raises(ValueError, match=r"the forward of '0' was replaced"):
        fm.fuse(model)


def test_a_childs_own_forward_is_traced_and_kept():
    model = nn.Sequential(net(), nn.ReLU(), nn.Linear(4, 2)).eval()
    model[0].forward = types.MethodType(sigmoid_instead, model[0])
    result = fm.quantize(model, fm.Static(X))
    assert sqnr(model(X).detach(), result(X)) > 25
    layer = nn.Sequential(nn.Linear(12, 4), nn.ReLU()).eval()
    layer[0].forward = types.MethodType(lambda self, x: x[:, :4] * 2, layer[0])
    assert torch.equal(fm.fuse(layer)(X), layer(X))
    with pytest.raises(ValueError, match=r"at least one torch.nn.Linear"):
        fm.quantize(layer, fm.Dynamic())


def test_a_function_that_holds_nothing_of_the_model_is_fine():
    model = net()
    model.relu.forward = torch.sigmoid
    result = fm.quantize(model, fm.Static(X))
    assert sqnr(model(X).detach(), result(X)) > 25


class Counts(nn.Module):
    """Keeps and counts what it computes, in a buffer, an attribute and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(12, 8), nn.Linear(8, 2)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.times, self.kept = 0, []

    def forward(self, x):
        self.calls += 1
        self.times += 1
        self.kept.append(self.layer(x).relu())
        return self.out(self.kept[-1])


@pytest.mark.parametrize(
    "way",
    [
        fm.fuse,
        WAYS["dynamic"],
        lambda m: fm.prune(m, fm.Structured(0.5, multiple_of=4)),
        lambda m: fm.quantize(m, fm.Dynamic(), example=X),
        fm.prepare,
    ],
)
def test_tracing_and_verifying_leave_no_traces(way):
    model = Counts().eval()
    result = way(model)
    for net_ in (model, result):
        assert int(net_.calls) == net_.times == len(net_.kept) == 0
    result(X)
    assert int(result.calls) == result.times == len(result.kept) == 1


def test_in_place_leaves_no_traces_either():
    model = Counts().eval()
    fm.quantize(model, fm.Dynamic(), inplace=True, example=X)
    assert int(model.calls) == model.times == len(model.kept) == 0


# ---- other functions than forward ----------------------------------------------------------------


class WithHead(nn.Module):
    """A function in an attribute calls a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(12, 16), nn.Linear(16, 4)
        self.head = lambda h: self.c(h)

    def forward(self, x):
        return self.head(torch.tanh(self.a(x)))


class Holder:
    """An object with a method, that holds a layer or the whole model."""

    def __init__(self, held):
        self.held = held

    def run(self, x):
        return self.held.b(self.held.a(x))

    def one(self, x):
        return self.held(x)


@pytest.mark.parametrize("way", WAYS)
def test_functions_in_attributes_and_hooks(way):
    with pytest.raises(ValueError, match=r"the attribute 'head' is a function that holds"):
        WAYS[way](WithHead().eval())
    model = net()
    model.side = nn.Linear(12, 16)
    model.a.register_forward_hook(lambda module, args, y: y + model.side(args[0]))
    with pytest.raises(ValueError, match=r"a hook of 'a' is a function that holds .*hook is given"):
        WAYS[way](model)


@pytest.mark.parametrize("way", WAYS)
def test_objects_are_copied_with_the_model(way):
    model = net()
    model.forward = Holder(model).run
    result = WAYS[way](model)
    with torch.no_grad():
        assert sqnr(model(X), result(X)) > 15
        for p in model.parameters():
            p.zero_()
        assert result(X).abs().max() > 0.01
    model = net()
    model.forward = Holder(model.a).one  # a layer that nobody could put another one for
    with pytest.raises(ValueError, match=r"holds the model's own layer \(Linear\)"):
        WAYS[way](model)


def test_more_ways_to_hold():
    def weak(model):
        reference = weakref.ref(model)
        return lambda x: reference().b(reference().a(x))

    for forward in (
        weak,
        lambda m: functools.lru_cache(lambda x: m.b(m.a(x))),
        lambda m: (
            (lambda x: sum(held.b(held.a(part)) for part in [x])) if m is held else closure(m)
        ),
    ):
        for model in (net(), held):
            model.forward = forward(model)
            with pytest.raises(ValueError, match="the forward was replaced"):
                fm.quantize(model, fm.Dynamic())


def test_names_that_only_look_like_the_model():
    """A script has a global `held`; a function that reads an attribute of that name is fine."""
    held.__dict__.pop("forward", None)
    held.relu.forward = lambda x: getattr(x, "held", x).relu()
    assert sqnr(held(X).detach(), fm.quantize(held, fm.Static(X))(X)) > 25
    del held.relu.forward


class Hooked(nn.Module):
    """Activations with forwards of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c = nn.Linear(12, 16), nn.Linear(16, 4)
        self.relu, self.drop = nn.ReLU6(), nn.Dropout()

    def forward(self, x):
        return self.c(self.drop(self.relu(self.a(x))))


@pytest.mark.parametrize("part", ["relu", "drop"])
@pytest.mark.parametrize("way", [w for w in WAYS if w != "prune"])
def test_activations_with_a_forward_of_their_own(part, way):
    model = Hooked().eval()
    model.get_submodule(part).forward = torch.tanh
    assert sqnr(model(X).detach(), WAYS[way](model)(X)) > 20
    other = Hooked().eval()
    other.relu.forward = torch.tanh
    with pytest.raises(ValueError, match="modules_to_fuse"):
        fm.fuse_modules(other, [["a", "relu"]])


def test_an_lstm_with_a_forward_of_its_own_stays():
    lstm = nn.LSTM(12, 8, batch_first=True)
    model = nn.Sequential(lstm).eval()
    lstm.forward = lambda x: x * 3
    with pytest.raises(ValueError, match="at least one"):
        fm.quantize(model, fm.Dynamic())


class Knots:
    """Objects that lead to each other, many and without end, as trainers and loggers do."""

    def __init__(self, number: int) -> None:
        self.number, self.others = number, []

    def __getattr__(self, name):
        raise RuntimeError("not now")


def test_a_hook_that_leads_to_half_the_program_takes_no_time():
    knots = [Knots(i) for i in range(300)]
    for knot in knots:
        knot.others = knots
    model = net()
    model.vocabulary = [str(i) for i in range(100_000)]
    model.a.register_forward_hook(lambda module, args, y: None if knots else y)
    assert sqnr(model(X).detach(), fm.quantize(model, fm.Static(X))(X)) > 25
