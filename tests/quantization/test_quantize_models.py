"""Models as other people write them: none has to be changed, none is broken."""

from __future__ import annotations

import pytest
import torch
from models import (
    IMAGES,
    SEQUENCES,
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
    X,
    assert_unchanged,
    make,
    randomize,
    snapshot,
)
from torch import nn

import fastmnist as fm
from fastmnist.layers.linear import is_float_linear
from fastmnist.layers.quantized import QuantizedLinear


class Hardened(nn.Sequential):
    """ReLU6, Hardtanh, 3-D inputs."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(12, 9), nn.ReLU6(), nn.Linear(9, 7), nn.Hardtanh(-0.5, 1.5))


# Model, its input, how many int8 layers it becomes, and how many float Linear layers stay.
MODELS = {
    "MyModel": (MyModel, IMAGES, 2, 0),
    "Functional": (Functional, X, 3, 0),
    "Nested": (Nested, X, 2, 0),
    "UsedTwice": (UsedTwice, X, 2, 0),
    "SharedActivation": (SharedActivation, X, 3, 0),
    "Residual": (Residual, X, 3, 0),
    "ControlFlow": (ControlFlow, X, 2, 0),
    "Convolutional": (Convolutional, IMAGES, 2, 0),
    "Encoder": (Encoder, SEQUENCES, 5, 2),
    "Attention": (Attention, SEQUENCES, 1, 1),
    "Tied": (Tied, X, 2, 0),
    "ReadsWeights": (ReadsWeights, X, 1, 1),
    "Hardened": (Hardened, SEQUENCES, 2, 0),
    "GraphModule": (lambda: torch.fx.symbolic_trace(Residual()), X, 3, 0),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("config", ["static", "dynamic"])
@pytest.mark.parametrize("training", [True, False])
def test_quantizes_unchanged(name, config, training):
    kind, x, count, left = MODELS[name]
    model = randomize(make(kind)).train(training)
    before = snapshot(model)
    q = fm.quantize(model, fm.Static(x) if config == "static" else fm.Dynamic())
    assert_unchanged(model, before)
    assert type(q) is type(model) or name == "GraphModule"  # fx makes a class for each copy
    assert sum(isinstance(m, QuantizedLinear) for m in q.modules()) == count
    assert sum(is_float_linear(m) for m in q.modules()) == left
    with torch.no_grad():
        expected = model.eval()(x)
        assert (q(x) - expected).abs().max() < 0.05 * expected.abs().max() + 0.02
    assert {c.layer for c in fm.changes(q) if "int8" in c.what}


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
    assert isinstance(q, QuantizedLinear)
    assert not isinstance(linear, QuantizedLinear)
    sequential = nn.Sequential(linear)
    assert torch.equal(fm.quantize(sequential, fm.Static(X))(X), q(X))
    for container in (nn.ModuleList([linear]), nn.ModuleDict({"a": linear})):
        q = fm.quantize(container, fm.Dynamic())
        assert isinstance(next(iter(q.children())), QuantizedLinear)


def test_tied_weights_of_two_layers():
    model = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 12))
    model[3].weight = model[0].weight
    randomize(model)
    for config in (fm.Static(X), fm.Dynamic()):
        q = fm.quantize(model, config)
        expected = model(X).detach()
        assert (q(X) - expected).abs().max() < 0.02 * expected.abs().max()
