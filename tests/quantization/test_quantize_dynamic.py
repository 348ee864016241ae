"""quantize_dynamic: torch.ao's signature, and the usual script with one import changed."""

from __future__ import annotations

import copy

import pytest
import torch
from models import MyModel, assert_unchanged, quality, snapshot
from torch import nn
from torch.nn.utils import prune

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist import quantize_dynamic
from fastmnist.layers.native import torch_class
from fastmnist.layers.quantized import QuantizedLinear


@pytest.fixture(scope="module")
def my_model(digits) -> MyModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MyModel()
    fm.train(model, digits, epochs=6, seed=0)
    return model


def test_the_usual_script(my_model, digits):
    model = copy.deepcopy(my_model)
    x = digits.test.images / 255
    reference = fm.evaluate(model, digits)
    assert reference > 0.85

    prune.l1_unstructured(model.fc1, name="weight", amount=0.5)
    masked = fm.evaluate(model, digits)
    for net in (fm.compile(model, dynamic=True), fm.compile(model, calibration=digits.train)):
        assert fm.evaluate(net, digits) == pytest.approx(masked, abs=0.01)
        assert (net.layers[0].weight == 0).mean() >= 0.5
    assert prune.is_pruned(model)

    prune.remove(model.fc1, "weight")
    pruned = fm.evaluate(model, digits)
    assert pruned == masked
    nets = fm.compile(model, dynamic=True), fm.compile(model, calibration=digits.train)
    for net in nets:
        assert fm.evaluate(net, digits) == pytest.approx(pruned, abs=0.01)

    quantized = quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    assert type(quantized) is MyModel
    assert fm.evaluate(quantized, digits) == pytest.approx(pruned, abs=0.01)
    assert torch.equal(fm.compile(quantized)(x), quantized(x))
    assert torch.equal(nets[0](x), quantized(x))
    assert fm.evaluate(model, digits) == pruned


@pytest.mark.slow
def test_on_mnist(mnist):
    """The same, on the real thing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MyModel()
    fm.train(model, mnist.train.subset(6000), epochs=1, seed=0)
    quantized = quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    assert fm.evaluate(quantized, mnist) == pytest.approx(fm.evaluate(model, mnist), abs=0.0015)


def stacked() -> nn.Sequential:
    head = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    return nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), head)


def kinds(model) -> dict[str, str]:
    return {
        name: type(m).__name__
        for name, m in model.named_modules()
        if isinstance(m, nn.Linear | QuantizedLinear)
    }


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        (None, ["0", "2.0", "2.2"]),
        ({nn.Linear}, ["0", "2.0", "2.2"]),
        ([nn.Linear], ["0", "2.0", "2.2"]),
        ({nn.Linear: tq.default_dynamic_qconfig}, ["0", "2.0", "2.2"]),
        ({"0"}, ["0"]),
        ({"2"}, ["2.0", "2.2"]),
        ({"2.0"}, ["2.0"]),
        ({"2.2"}, ["2.2"]),
        ({"0", "2.2"}, ["0", "2.2"]),
        ({"": tq.default_dynamic_qconfig}, ["0", "2.0", "2.2"]),
        ({nn.Conv2d, nn.Linear}, ["0", "2.0", "2.2"]),
        ({nn.Sequential}, ["0", "2.0", "2.2"]),
    ],
)
def test_what_is_selected(spec, layers):
    model = stacked()
    q = quantize_dynamic(model, spec)
    assert [name for name, kind in kinds(q).items() if kind == "QuantizedLinear"] == layers
    x = torch.randn(9, 6)
    with torch.no_grad():
        assert (q(x) - model(x)).abs().max() < 0.02


@pytest.mark.parametrize("dtype", [None, torch.qint8, torch.int8])
def test_dtypes(dtype):
    assert quantize_dynamic(stacked(), {nn.Linear}, dtype)


def test_in_place():
    model = stacked().train()
    expected = quantize_dynamic(model, {nn.Linear})
    before = snapshot(model)
    assert_unchanged(model, before)
    again = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)
    assert again is model
    assert isinstance(model[0], QuantizedLinear)  # the activation behind it is part of it now
    assert not model.training
    x = torch.randn(9, 6)
    assert torch.equal(model(x), expected(x))
    with pytest.raises(ValueError, match="single layer cannot change its class"):
        quantize_dynamic(nn.Linear(3, 2), inplace=True)


def test_root_linear():
    linear = nn.Linear(6, 3)
    q = quantize_dynamic(linear, {nn.Linear})
    assert isinstance(q, QuantizedLinear)
    assert [c.layer for c in fm.changes(q)] == [""]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"dtype": torch.float64},
            ValueError,
            "dtype: expected one of torch.qint8, torch.int8, torch.float16, torch.bfloat16, torch",
        ),
        (
            {"dtype": torch.quint8, "qconfig_spec": {nn.Linear}},
            ValueError,
            "qconfig of '0', weight: expected torch.qint8",
        ),
        ({"dtype": "int4"}, ValueError, "int4"),
        ({"mapping": {nn.Linear: nn.Linear}}, ValueError, "mapping: expected modules of fastmnist"),
        ({"qconfig_spec": {nn.Linear: "a qconfig"}}, TypeError, "expected a QConfig such as"),
        ({"qconfig_spec": nn.Linear}, TypeError, r"expected a set such as \{nn.Linear\}"),
        ({"qconfig_spec": "0"}, TypeError, "expected a set"),
        ({"qconfig_spec": {"nothing"}}, ValueError, "names of the model's modules, got 'nothing'"),
        ({"qconfig_spec": {3}}, TypeError, "qconfig_spec: expected types of modules"),
        ({"qconfig_spec": 3}, TypeError, "qconfig_spec"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        quantize_dynamic(stacked(), **arguments)


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()), None),
        (nn.Sequential(nn.Conv1d(1, 2, 3)), {nn.Linear, nn.Conv1d}),
        (stacked(), {nn.Conv2d}),
        (stacked(), {nn.LSTM}),
        (stacked(), set()),
        (stacked(), {"1"}),
        (stacked(), {nn.Linear: None}),
    ],
)
@pytest.mark.parametrize("inplace", [True, False])
def test_nothing_to_quantize_is_a_warning_as_in_torch(model, spec, inplace):
    model = copy.deepcopy(model).train()
    with pytest.warns(UserWarning, match="expected a layer with a qconfig that quantizes it"):
        q = quantize_dynamic(model, spec, inplace=inplace)
    assert (q is model) == inplace
    assert not q.training
    assert str(q) == str(model)


def test_types_without_a_dynamic_form_are_left_and_listed():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4))
    q = quantize_dynamic(model, {nn.Linear, nn.Conv1d, nn.Flatten})
    told = [str(change) for change in fm.changes(q)]
    assert "0: left in float: Conv1d has no dynamic form" in told
    assert "2: int8 dynamic" in told


def columns_of_many_sizes():
    """Rows whose columns differ by a million, and a trained norm that levels them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(512, 12) * torch.logspace(-3, 3, 12) + torch.logspace(-2, 2, 12)
        model = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))
        for _ in range(60):
            model.train()(x)
    return model.eval(), x


def test_a_norm_that_levels_the_columns_stays():
    """One scale a row of raw columns would leave nothing of the small ones."""
    model, x = columns_of_many_sizes()
    for q in (quantize_dynamic(model), fm.quantize(model, fm.Dynamic())):
        assert torch_class(q[0]) is nn.BatchNorm1d
        assert quality(model, q, x) > 38
        assert torch.equal(fm.compile(q)(x), q(x))
    net = fm.compile(model, dynamic=True)
    assert [step.kind for step in net.network.steps] == ["affine", "int8"]
    alike = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 16)).eval()
    assert type(quantize_dynamic(alike)[0]) is not nn.BatchNorm1d  # it costs nothing to fold it
    assert quality(alike, quantize_dynamic(alike), torch.randn(64, 12)) > 38


def test_such_a_norm_stays_in_dynamic_training():
    model, x = columns_of_many_sizes()
    model.qconfig = tq.default_dynamic_qat_qconfig
    prepared = tq.prepare_qat(model.train())
    prepared(x).square().mean().backward()
    assert prepared[1].weight.grad.abs().sum() > 0
    q = tq.convert(prepared.eval())
    assert torch_class(q[0]) is nn.BatchNorm1d
    assert torch.equal(q(x), prepared(x).detach())
    assert quality(model, q, x) > 35
