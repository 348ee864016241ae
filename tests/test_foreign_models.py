"""Models as other people write them: none has to be changed, none is broken."""

from __future__ import annotations

import pytest
import torch
from models import (
    Attention,
    ControlFlow,
    Convolutional,
    Encoder,
    Functional,
    MyModel,
    Nested,
    ReadsWeights,
    Residual,
    SharedActivation,
    Tied,
    TwoInputs,
    UsedTwice,
    assert_unchanged,
    randomize,
    snapshot,
)
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.layers.quantized import QuantizedChain

GENERATOR = torch.Generator().manual_seed(4)
X = torch.randn(40, 12, generator=GENERATOR)
IMAGES = torch.rand(40, 1, 28, 28, generator=GENERATOR)
SEQUENCES = torch.randn(10, 7, 12, generator=GENERATOR)


class Hardened(nn.Sequential):
    """ReLU6, Hardtanh, 3-D inputs."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(12, 9), nn.ReLU6(), nn.Linear(9, 7), nn.Hardtanh(-0.5, 1.5))


# Model, its input, how many operators it becomes, and how many float Linear layers stay.
MODELS = {
    "MyModel": (MyModel, IMAGES, 2, 0),
    "Functional": (Functional, X, 3, 0),
    "Nested": (Nested, X, 1, 0),
    "UsedTwice": (UsedTwice, X, 2, 0),
    "SharedActivation": (SharedActivation, X, 3, 0),
    "Residual": (Residual, X, 3, 0),
    "ControlFlow": (ControlFlow, X, 2, 0),
    "Convolutional": (Convolutional, IMAGES, 1, 0),
    "Encoder": (Encoder, SEQUENCES, 5, 2),
    "Attention": (Attention, SEQUENCES, 1, 1),
    "Tied": (Tied, X, 2, 0),
    "ReadsWeights": (ReadsWeights, X, 1, 1),
    "Hardened": (Hardened, SEQUENCES, 1, 0),
    "GraphModule": (lambda: torch.fx.symbolic_trace(Residual()), X, 3, 0),
}


def make(kind, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("config", ["static", "dynamic"])
@pytest.mark.parametrize("training", [True, False])
def test_quantizes_unchanged(name, config, training):
    kind, x, operators, left = MODELS[name]
    model = randomize(make(kind)).train(training)
    before = snapshot(model)
    q = fm.quantize(model, fm.Static(x) if config == "static" else fm.Dynamic())
    assert_unchanged(model, before)
    assert type(q) is type(model) or name == "GraphModule"  # fx makes a class for each copy
    chains = [m for m in q.modules() if isinstance(m, QuantizedChain)]
    assert len(chains) == operators
    assert sum(isinstance(m, nn.Linear) for m in q.modules()) == left
    with torch.no_grad():
        expected = model.eval()(x)
        assert (q(x) - expected).abs().max() < 0.05 * expected.abs().max() + 0.02
    assert {c.layer for c in fm.changes(q) if "int8" in c.what}


def test_why_it_was_not_traced_is_said():
    q = fm.quantize(ControlFlow(), fm.Dynamic())
    assert all("cannot be traced" in c.what for c in fm.changes(q))


def test_keywords_dicts_and_several_inputs():
    model = make(TwoInputs)
    numbers = torch.randn(40, 3)
    expected = model(X, numbers).detach()
    for data, options in (
        ((X, numbers, torch.zeros(40)), {}),
        ({"image": X, "numbers": numbers}, {}),
        (({"image": X, "numbers": numbers}, torch.zeros(40)), {}),
        ([{"a": X, "b": numbers}], {"batch_fn": lambda b: ((b["a"], b["b"]), None)}),
        ([(X, numbers)], {"batch_fn": lambda b: ((b[0],), {"numbers": b[1]}, None)}),
    ):
        data = iter(data) if "batch_fn" in options else data
        q = fm.quantize(model, fm.Static(data, **options))
        assert (q(X, numbers) - expected).abs().max() < 0.05
        assert torch.equal(q(image=X, numbers=numbers), q(X, numbers))


class CalledByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(input=x)


def test_a_layer_called_by_keyword():
    """nn.Linear's argument is called input; our module takes its place."""
    model = CalledByKeyword()
    for config in (fm.Static(X), fm.Dynamic()):
        q = fm.quantize(model, config)
        assert (q(X) - model(X)).detach().abs().max() < 0.05


def test_hooks_still_run_and_see_what_they_saw():
    model = make(Nested)
    seen = {}

    def note(name):
        def hook(module, args, kwargs=None, y=None):
            seen.setdefault(name, []).append([type(a).__name__ for a in args])

        return hook

    model.body["first"].register_forward_hook(lambda m, a, y: note("container")(m, a))
    model.body["first"][0].register_forward_pre_hook(note("pre"))
    model.heads[0][1].register_forward_hook(lambda m, a, k, y: note("kw")(m, a), with_kwargs=True)
    model.heads[0][1].register_forward_pre_hook(
        lambda m, a, k: note("pre kw")(m, a), with_kwargs=True
    )
    model.register_forward_hook(lambda m, a, y: note("root")(m, a))
    expected = model.eval()(X).detach()
    seen.clear()
    q = fm.quantize(model, fm.Dynamic())
    assert not seen  # tracing does not run them on symbols
    assert (q(X) - expected).abs().max() < 0.05
    assert set(seen) == {"container", "pre", "kw", "pre kw", "root"}
    assert all(calls == [["Tensor"]] for calls in seen.values())
    seen.clear()
    q = fm.quantize(model, fm.Static(X))
    assert all(a == ["Tensor"] for calls in seen.values() for a in calls)
    assert (q(X) - expected).abs().max() < 0.05


def test_a_hook_that_changes_values_is_honoured():
    model = make(lambda: nn.Sequential(nn.Sequential(nn.Linear(12, 8), nn.ReLU()), nn.Linear(8, 4)))
    model[0].register_forward_hook(lambda m, a, y: y * 3 - 1)
    q = fm.quantize(model, fm.Static(X))
    assert (q(X) - model(X)).detach().abs().max() < 0.1


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class OwnRelu(nn.ReLU):
    def forward(self, x):
        return x.abs()


class OwnIdentity(nn.Identity):
    def forward(self, x):
        return x * 3


def test_subclasses_with_their_own_forward_are_left_alone():
    model = nn.Sequential(
        OwnLinear(12, 8),
        nn.Linear(8, 8),
        OwnRelu(),
        nn.Linear(8, 8),
        OwnIdentity(),
        nn.Linear(8, 4),
    )
    for config in (fm.Static(X), fm.Dynamic()):
        q = fm.quantize(model, config)
        assert type(q[0]) is OwnLinear
        assert type(q[2]) is OwnRelu
        with torch.no_grad():
            assert (q(X) - model(X)).abs().max() < 0.2
    with pytest.raises(ValueError, match="got none"):
        fm.quantize(nn.Sequential(OwnLinear(3, 2)), fm.Dynamic())


class DataParallel(nn.Module):
    """The same name and attribute as torch's, without its devices."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


def test_wrappers_are_seen_through():
    model = make(Nested)
    expected = fm.quantize(model, fm.Dynamic())(X)
    compiled = torch.compile(model, backend="eager")
    compiled(X)
    for wrapped in (DataParallel(model), compiled, DataParallel(compiled)):
        q = fm.quantize(wrapped, fm.Dynamic())
        assert type(q) is Nested
        assert torch.equal(q(X), expected)
        assert type(fm.fuse(wrapped)) is Nested
        assert type(fm.prune(wrapped, fm.L1Unstructured(0.5))) is Nested
    model.compile(backend="eager")
    assert torch.equal(fm.quantize(model, fm.Dynamic())(X), expected)
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_other_floats(dtype):
    model = make(Functional).to(dtype)
    before = snapshot(model)
    q = fm.quantize(model, fm.Static(X))
    assert_unchanged(model, before)
    assert torch.equal(q(X.to(dtype)), q(X.to(dtype).float()))
    assert q(X).dtype == torch.float32


def test_a_lazy_layer_that_ran():
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(4))
    model(X)
    assert fm.quantize(model, fm.Static(X))[0].in_features == 12


def test_roots():
    linear = make(lambda: nn.Linear(12, 4))
    q = fm.quantize(linear, fm.Static(X))
    assert isinstance(q, QuantizedChain)
    assert not isinstance(linear, QuantizedChain)
    sequential = nn.Sequential(linear)
    assert torch.equal(fm.quantize(sequential, fm.Static(X))(X), q(X))
    for container in (nn.ModuleList([linear]), nn.ModuleDict({"a": linear})):
        q = fm.quantize(container, fm.Dynamic())
        assert isinstance(next(iter(q.children())), QuantizedChain)


def test_parametrized_layers():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(12, 8)), nn.ReLU())
    q = fm.quantize(model, fm.Dynamic())
    assert torch.nn.utils.parametrize.is_parametrized(model[0])
    with torch.no_grad():
        assert (q(X) - model(X)).abs().max() < 0.05


def test_tied_weights_of_two_layers():
    model = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 12))
    model[3].weight = model[0].weight
    randomize(model)
    for config in (fm.Static(X), fm.Dynamic()):
        q = fm.quantize(model, config)
        expected = model(X).detach()
        assert (q(X) - expected).abs().max() < 0.02 * expected.abs().max()


class Options(nn.Module):
    """Arguments with defaults, and a tuple as the result."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 8)
        self.b = nn.Linear(8, 4)

    def forward(self, x, return_hidden=False):
        h = F.relu(self.a(x))
        return (self.b(h), h) if return_hidden else self.b(h)


def test_flags_keep_their_meaning():
    model = make(Options)
    q = fm.quantize(model, fm.Static(X))
    y, h = q(X, return_hidden=True)
    assert torch.equal(y, q(X))
    assert (h - model(X, return_hidden=True)[1]).detach().abs().max() < 0.05


class Optional(nn.Module):
    """Gives features, or classes where it is given something to add to them."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 8)
        self.b = nn.Linear(8, 4)

    def forward(self, x, bonus=None):
        h = self.a(x)
        if bonus is None:
            return h
        return self.b(F.relu(h)) + bonus


class Unneeded(nn.Module):
    """Has an argument that changes nothing that matters."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(12, 8)
        self.b = nn.Linear(8, 4)
        self.relu = nn.ReLU()

    def forward(self, x, mask=None, temperature=1.0):
        return self.b(self.relu(self.a(x)))


def test_arguments_with_defaults_keep_their_meaning():
    model = make(Optional)
    q = fm.quantize(model, fm.Dynamic())
    bonus = torch.ones(4)
    assert (q(X) - model(X)).detach().abs().max() < 0.05
    assert (q(X, bonus) - model(X, bonus)).detach().abs().max() < 0.05
    assert "without bonus" in str(fm.changes(q)[0])
    q = fm.quantize(make(Unneeded), fm.Dynamic())
    assert "one operator for a, b" in str([c.what for c in fm.changes(q)])
    assert torch.equal(fm.compile(q)(X), q(X))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(12, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def test_an_lstm_stays_and_its_head_does_not():
    model = make(Recurrent)
    q = fm.quantize_dynamic(model, {nn.Linear})
    assert type(q.lstm) is nn.LSTM
    assert (q(SEQUENCES) - model(SEQUENCES)).detach().abs().max() < 0.05


class Methods(MyModel):
    """Attributes and methods of its own."""

    classes = ("a", "b")

    def __init__(self, size=3):
        super().__init__()
        self.size = size
        self.note = {"trained": True}

    def label(self, x):
        return self.classes[int(self(x).argmax()) % 2]


def test_results_keep_class_attributes_and_methods():
    model = Methods()
    for result in (
        fm.fuse(model), fm.prune(model, fm.L1Unstructured(0.5)), fm.quantize(model, fm.Dynamic())
    ):  # fmt: skip
        assert type(result) is Methods
        assert result.size == 3
        assert result.note == {"trained": True}
        assert result.note is not model.note
        assert result.label(IMAGES[:1]) in "ab"


def test_a_model_in_python_lists_is_no_module_tree():
    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(12, 4)]

        def forward(self, x):
            return self.layers[0](x)

    with pytest.raises(ValueError, match=r"at least one torch.nn.Linear"):
        fm.quantize(Hidden(), fm.Dynamic())
