"""torch.ao's scripts, unchanged but for the import, and what its guides do by mistake."""

from __future__ import annotations

import copy

import pytest
import torch
from models import same
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist.ao.quantize_fx import convert_fx, fuse_fx, prepare_fx, prepare_qat_fx
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.simulated import SimulatedLinear

X = torch.randn(96, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum((1, 2, 3)) > 0).long()


class Net(nn.Module):
    """As torch's own guide writes it: stubs, BatchNorm, a functional flatten."""

    def __init__(self):
        super().__init__()
        self.quant = tq.QuantStub()
        self.linear1 = nn.Linear(16, 24)
        self.bn1 = nn.BatchNorm1d(24)
        self.relu1 = nn.ReLU()
        self.linear2 = nn.Linear(24, 24)
        self.relu2 = nn.ReLU()
        self.linear3 = nn.Linear(24, 2)
        self.dequant = tq.DeQuantStub()

    def forward(self, x):
        x = self.quant(torch.flatten(x, 1))
        x = self.relu1(self.bn1(self.linear1(x)))
        x = self.relu2(self.linear2(x))
        return self.dequant(self.linear3(x))


def trained():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(model(X), Y).backward()
            optimizer.step()
    return model


def test_dynamic_script():
    model_fp32 = trained().eval()
    model_int8 = tq.quantize_dynamic(model_fp32, {nn.Linear}, dtype=torch.qint8)
    res = model_int8(X)
    with torch.no_grad():
        assert (res - model_fp32(X)).abs().max() < 0.2
    assert any(isinstance(m, QuantizedLinear) for m in model_int8.modules())


def test_static_script():
    model_fp32 = trained()
    model_fp32.eval()
    model_fp32.qconfig = tq.get_default_qconfig("x86")
    model_fp32_fused = tq.fuse_modules(
        model_fp32, [["linear1", "bn1", "relu1"], ["linear2", "relu2"]]
    )
    model_fp32_prepared = tq.prepare(model_fp32_fused)
    model_fp32_prepared(X)
    model_int8 = tq.convert(model_fp32_prepared)
    res = model_int8(X)
    with torch.no_grad():
        expected = model_fp32(X)
    assert (res - expected).abs().max() < 0.05 * expected.abs().max()
    assert sum(isinstance(m, QuantizedLinear) for m in model_int8.modules()) == 3
    assert len(fm.compile(model_int8).layers) == 3  # stubs do not stand between layers
    assert same(res, fm.compile(model_int8)(X))


def test_qat_script():
    model = Net()
    model.load_state_dict(trained().state_dict())
    model.eval()
    model.qconfig = tq.get_default_qat_qconfig("x86")
    fused = tq.fuse_modules_qat(model.train(), [["linear1", "bn1", "relu1"], ["linear2", "relu2"]])
    prepared = tq.prepare_qat(fused.train())
    optimizer = torch.optim.SGD(prepared.parameters(), lr=1e-3)
    for epoch in range(4):
        prepared.train()
        optimizer.zero_grad()
        F.cross_entropy(prepared(X), Y).backward()
        optimizer.step()
        if epoch > 1:
            prepared.apply(tq.disable_observer)
    prepared.eval()
    quantized = tq.convert(prepared)
    assert same(prepared(X), quantized(X))
    assert (quantized(X).argmax(1) == Y).float().mean() > 0.9


def test_in_place_everywhere():
    model = trained().eval()
    model.qconfig = tq.default_qconfig
    assert tq.fuse_modules(model, [["linear1", "bn1", "relu1"]], inplace=True) is model
    assert tq.prepare(model, inplace=True) is model
    model(X)
    assert tq.convert(model, inplace=True) is model
    assert any(isinstance(m, QuantizedLinear) for m in model.modules())
    assert not hasattr(model, "qconfig")


def test_eval_is_not_insisted_on_and_fusion_is_not_needed():
    model = trained().train()
    model.qconfig = tq.get_default_qconfig("fbgemm")
    prepared = tq.prepare(model)
    prepared(X)
    q = tq.convert(prepared)
    assert len([m for m in q.modules() if isinstance(m, QuantizedLinear)]) == 3
    assert model.training


def test_one_call_forms():
    def run(model, batches):
        for batch in batches:
            model(batch)

    def train(model, batches):
        for batch in batches:
            model(batch).sum().backward()

    model = trained()
    model.qconfig = tq.default_per_channel_qconfig
    q = tq.quantize(model, run, ([X, X],))
    assert any(isinstance(m, QuantizedLinear) for m in q.modules())
    q = tq.quantize_qat(model, train, ([X, X],))
    assert any(isinstance(m, QuantizedLinear) for m in q.modules())


def test_qconfigs_are_obeyed():
    model = trained().eval()
    model.qconfig = tq.QConfig(
        activation=tq.MovingAverageMinMaxObserver.with_args(averaging_constant=0.5),
        weight=tq.default_weight_observer,
    )
    model.linear3.qconfig = None
    prepared = tq.prepare(model)
    assert prepared.linear1.settings.rule == fm.MovingAverage(0.5)
    assert not prepared.linear1.settings.weights.per_channel
    assert not isinstance(prepared.linear3, SimulatedLinear)
    prepared(X)
    q = tq.convert(prepared)
    assert type(q.linear3) is nn.Linear
    only = trained()
    only.linear2.qconfig = tq.get_default_qconfig("x86")
    prepared = tq.prepare(only)
    assert [n for n, m in prepared.named_modules() if isinstance(m, SimulatedLinear)] == ["linear2"]
    assert type(prepared.linear2.watcher) is tq.HistogramObserver
    assert prepared.linear2.settings.weights.per_channel
    only.linear2.qconfig = tq.get_default_qat_qconfig("qnnpack")
    prepared = tq.prepare_qat(only.train())
    assert prepared.linear2.settings.rule == fm.MovingAverage(0.01)
    assert not prepared.linear2.settings.weights.per_channel
    assert tq.get_default_qat_qconfig("x86").weight().is_per_channel


def test_torchs_own_qconfigs_and_stubs_while_torch_has_them():
    ao = pytest.importorskip("torch.ao.quantization")
    model = trained().eval()
    model.quant, model.dequant = ao.QuantStub(), ao.DeQuantStub()
    model.qconfig = ao.get_default_qconfig("x86")
    prepared = tq.prepare(model)
    assert type(prepared.linear1.watcher) is ao.HistogramObserver
    assert prepared.linear1.settings.weights.per_channel
    prepared(X)
    q = tq.convert(prepared)
    assert len([m for m in q.modules() if isinstance(m, QuantizedLinear)]) == 3
    model.qconfig = ao.get_default_qat_qconfig("x86")
    prepared = tq.prepare_qat(model.train())
    assert type(prepared.linear1.watcher) is ao.MovingAverageMinMaxObserver
    assert prepared.linear1.settings.weights.per_channel


def test_the_mistake_of_a_learning_path():
    """It prepares one object and converts another, and ships a float model without noticing."""
    model = trained().eval()
    model.qconfig = tq.get_default_qconfig("x86")
    prepared = tq.prepare(model)
    prepared(X)
    with pytest.raises(ValueError, match="no prepared layer"):
        tq.convert(model)
    with pytest.warns(UserWarning, match="never did: run the prepared model on calibration data"):
        unseen = tq.convert(tq.prepare(model))
    with pytest.raises(
        RuntimeError, match="layer 'linear1': expected a scale, got none, as it never saw data"
    ):
        unseen(X)


@pytest.mark.slow
def test_fx_mode():
    mapping = tq.get_default_qconfig_mapping("x86")
    prepared = prepare_fx(fuse_fx(trained().eval()), mapping, (X,))
    prepared(X)
    q = convert_fx(prepared)
    assert len([m for m in q.modules() if isinstance(m, QuantizedLinear)]) == 3
    mapping = (
        tq.QConfigMapping()
        .set_global(tq.get_default_qat_qconfig("x86"))
        .set_module_name("linear3", None)
    )
    prepared = prepare_qat_fx(trained().train(), mapping, (X,))
    assert not isinstance(prepared.linear3, SimulatedLinear)
    prepared(X).sum().backward()
    assert same(prepared.eval()(X), convert_fx(prepared)(X))
    by_type = tq.QConfigMapping().set_object_type(nn.Linear, tq.default_qconfig)
    assert isinstance(prepare_fx(trained(), by_type, (X,)).linear1, SimulatedLinear)
    old = {"": tq.default_qconfig, "module_name": [("linear1", None)]}
    assert not isinstance(prepare_fx(trained(), old).linear1, SimulatedLinear)
    with pytest.raises(TypeError, match="qconfig_mapping: expected a QConfigMapping, got int"):
        prepare_fx(trained(), 3)


class Skip(nn.Module):
    """A residual sum by FloatFunctional, a CNN before it, a wrapper around all."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.fc1, self.fc2 = nn.Linear(64, 64), nn.Linear(64, 2)
        self.skip = tq.FloatFunctional()

    def forward(self, x):
        x = self.relu(self.bn(self.conv(x))).flatten(1)
        return self.fc2(self.skip.add_relu(x, self.fc1(x)))


def test_a_cnn_script():
    model = tq.QuantWrapper(Skip()).eval()
    model.qconfig = tq.get_default_qconfig("qnnpack")
    fused = tq.fuse_modules(model, [["module.conv", "module.bn", "module.relu"]])
    assert type(fused.module.bn).__name__ == "Identity"
    with torch.no_grad():
        assert (fused(X) - model(X)).abs().max() < 1e-5
    prepared = tq.prepare(fused)
    prepared(X)
    q = tq.convert(prepared)
    assert sum(isinstance(m, QuantizedLinear) for m in q.modules()) == 2
    with torch.no_grad():
        assert (q(X) - model(X)).abs().max() < 0.05
    functional = tq.FloatFunctional()
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    assert same(functional.cat([a, b], 1), torch.cat((a, b), 1))
    assert same(functional.mul_scalar(a, 2.0), a * 2)
    with pytest.raises(RuntimeError, match="call one of its methods"):
        functional(a)


def test_switches():
    model = trained().train()
    model.qconfig = tq.get_default_qat_qconfig("qnnpack")
    prepared = tq.prepare_qat(model)
    prepared.train()(X)
    with torch.no_grad():
        simulated = prepared.eval()(X)
        in_float = prepared.apply(tq.disable_fake_quant)(X)
        wide = copy.deepcopy(prepared).double()(X.double())
    assert not same(simulated, in_float)
    assert torch.allclose(in_float.double(), wide, rtol=1e-4, atol=1e-4)
    prepared.train()
    before = prepared.linear1.observer.range()
    prepared.apply(tq.disable_observer)
    prepared.train()(X * 9)
    assert prepared.linear1.observer.range() == before
    prepared.apply(tq.enable_observer).apply(tq.enable_fake_quant)
    prepared(X * 9)
    assert prepared.linear1.observer.range() != before


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda m: tq.get_default_qconfig("cuda"), ValueError, "backend: expected one of fbgemm"),
        (lambda m: tq.MinMaxObserver.with_args(bits=3)(), TypeError, "argument 'bits'"),
        (lambda m: with_qconfig(m, 3), TypeError, "qconfig: expected a QConfig"),
        (lambda m: tq.convert(m, is_reference=True), ValueError, "is_reference"),
    ],
)
def test_errors(run, error, message):
    with pytest.raises(error, match=message):
        run(trained())


@pytest.mark.parametrize("own", [True, False])
def test_dynamic_qconfigs_through_the_three_steps(own):
    ao = tq if own else pytest.importorskip("torch.ao.quantization")
    model = trained().eval()
    expected = tq.quantize_dynamic(model, {nn.Linear: ao.default_dynamic_qconfig})(X)
    model.qconfig = ao.default_dynamic_qconfig
    assert same(tq.convert(tq.prepare(model))(X), expected)
    model.linear3.qconfig = None
    q = tq.convert(tq.prepare(model, inplace=True), inplace=True)
    assert q is model
    assert type(q.linear3) is nn.Linear
    mapping = tq.QConfigMapping().set_global(ao.float16_dynamic_qconfig)
    q = convert_fx(prepare_fx(trained().eval(), mapping, (X,)))
    assert q.linear1.weight.dtype == torch.float16


def test_a_conv_that_trains_is_left_as_it_is():
    model = Skip().train()
    fused = tq.fuse_modules_qat(model, [["conv", "bn", "relu"]])
    assert type(fused.bn) is nn.BatchNorm2d
    prepared = tq.prepare_qat(fused)
    prepared(X).sum().backward()
    assert same(prepared.eval()(X).detach(), tq.convert(prepared)(X))


def with_qconfig(model, qconfig):
    model.qconfig = qconfig
    return tq.prepare(model)


def test_observers_can_be_run():
    observer = tq.MinMaxObserver(dtype=torch.quint8)
    with pytest.warns(UserWarning, match="MinMaxObserver: expected to have watched data"):
        assert [float(value) for value in observer.calculate_qparams()] == [1, 0]
    x = torch.tensor([-1.0, 3.0])
    assert observer(x) is x
    scale, zero_point = observer.calculate_qparams()
    assert float(scale) == pytest.approx(4 / 255)
    assert int(zero_point) == 64
