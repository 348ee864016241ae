"""prepare, run, convert: the three steps, and that they are what quantize does."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from models import (
    ControlFlow,
    Convolutional,
    Encoder,
    Residual,
    mlp,
    randomize,
    relu_then_norm,
    same,
    snapshot,
)
from torch import nn

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.simulated import SimulatedLinear

X = torch.randn(70, 12, generator=torch.Generator().manual_seed(3))


def calibrated(model, x=X, **options):
    prepared = fm.prepare(model, fm.Static(**options))
    for batch in x.split(64):
        prepared(batch)
    return prepared


@pytest.mark.parametrize("rule", ["minmax", "moving_average", "percentile", "histogram", "mse"])
@pytest.mark.parametrize("make", [mlp, Residual, ControlFlow])
def test_the_steps_are_what_quantize_does(rule, make):
    model = randomize(make())
    before = snapshot(model)
    prepared = calibrated(model, observer=rule)
    with torch.no_grad():
        assert torch.allclose(prepared(X), model.eval()(X), rtol=1e-5, atol=1e-6)
    one = fm.convert(calibrated(make_again(model), observer=rule))
    other = fm.quantize(model, fm.Static(X, observer=rule))
    assert same(one(X), other(X))
    assert [str(c) for c in fm.changes(one)] == [str(c) for c in fm.changes(other)]
    assert snapshot(model)[0].keys() == before[0].keys()


def make_again(model):
    return copy.deepcopy(model)


def test_pixels_are_found_and_pinned():
    images = torch.randint(0, 256, (50, 12), dtype=torch.uint8)
    q = fm.convert(calibrated(mlp(), images.float() / 255))
    assert same(q(images), q(images.float() / 255))
    normalized = fm.convert(calibrated(mlp(), (images / 255 - 0.3) / 0.4, mean=0.3, std=0.4))
    assert same(normalized(images), normalized((images / 255 - 0.3) / 0.4))


def test_in_place():
    model = mlp().train()
    prepared = fm.prepare(model, inplace=True)
    assert prepared is model
    model(X)
    converted = fm.convert(model, inplace=True)
    assert converted is model
    assert isinstance(model[0], QuantizedLinear)
    assert not model.training
    assert not model._forward_pre_hooks
    single = fm.prepare(nn.Linear(12, 3))
    single(X)
    assert isinstance(fm.convert(single), QuantizedLinear)
    with pytest.raises(ValueError, match="single layer cannot change its class"):
        fm.convert(single, inplace=True)


def test_a_converted_model_can_go_on_being_calibrated():
    prepared = calibrated(mlp())
    first = fm.convert(prepared)
    prepared(X * 3)
    second = fm.convert(prepared)
    scale = [float(q[0].input_scale) for q in (first, second)]
    assert scale[1] == pytest.approx(3 * scale[0], rel=1e-5)


def test_prepared_models_travel():
    prepared = calibrated(mlp(), observer="mse")
    expected = fm.convert(prepared)(X)
    assert same(fm.convert(pickle.loads(pickle.dumps(prepared)))(X), expected)
    assert same(fm.convert(copy.deepcopy(prepared))(X), expected)
    buffer = io.BytesIO()
    torch.save(prepared.state_dict(), buffer)
    buffer.seek(0)
    again = fm.prepare(mlp(), fm.Static(observer="mse"))
    again.load_state_dict(torch.load(buffer, weights_only=True))
    assert same(fm.convert(again)(X), expected)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"include": "0"}, ["3", "5"]),
        ({"exclude": "0"}, ["0"]),
        ({"include": ["0", "[35]"]}, []),
        ({"exclude": nn.ReLU, "include": "3"}, None),
    ],
)
def test_include_and_exclude(options, left):
    if left is None:
        with pytest.raises(ValueError, match=r"exclude: .*is in, got ReLU"):
            fm.prepare(mlp(), **options)
        return
    for q in (
        fm.quantize(mlp(), fm.Static(X), **options),
        fm.quantize(mlp(), fm.Dynamic(), **options),
        fm.quantize(mlp(), fm.Half(), **options),
    ):
        stayed = [n for n, m in q.named_modules() if type(m).__name__ in ("Linear", "FusedLinear")]
        assert stayed == left
        assert [c.layer for c in fm.changes(q) if "left in float" in c.what] == left


def test_what_cannot_be_quantized_is_left_and_listed():
    model = randomize(Encoder())
    q = fm.quantize(model, fm.Dynamic())
    left = {c.layer: c.what for c in fm.changes(q) if "left in float" in c.what}
    assert left
    assert all(name.endswith("out_proj") for name in left)
    for name in left:
        assert isinstance(q.get_submodule(name), nn.Linear)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("config", ["static", "dynamic", "prepared"])
def test_transformers_do_not_read_weights_behind_our_back(config, mask):
    """torch's encoder has a fast path that never calls linear1: our layers must be called."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        model = nn.TransformerEncoder(layer, 2).eval()
        x = torch.randn(4, 5, 16)
    padding = torch.zeros(4, 5, dtype=torch.bool)
    padding[:, 4:] = True
    options = {"src_key_padding_mask": padding} if mask else {}
    with torch.no_grad():
        expected = model(x, **options)
        if config == "dynamic":
            q = fm.quantize(model, fm.Dynamic())
        elif config == "static":
            q = fm.quantize(model, fm.Static(x))
        else:
            prepared = fm.prepare(model)
            prepared(x, **options)
            q = fm.convert(prepared)
        layers = [m for m in q.modules() if isinstance(m, QuantizedLinear)]
        assert len(layers) == 4
        calls = []
        for layer in layers:
            layer.register_forward_hook(lambda *_: calls.append(1))
        got = q(x, **options)
    assert len(calls) == 4
    real = slice(0, 4) if mask else slice(None)
    assert (got - expected)[:, real].abs().max() < 0.1
    assert model.layers[0].activation_relu_or_gelu == 1


@pytest.mark.parametrize("config", [fm.Dynamic(), fm.Half()])
def test_transformers_from_a_file(config, tmp_path):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 1)).eval()
    q = fm.quantize(model, config)
    fm.save(tmp_path / "t", q)
    x = torch.randn(2, 5, 16)
    loaded = fm.load(tmp_path / "t", into=model)
    with torch.no_grad():
        assert same(loaded(x), q(x))


def test_recurrent_layers_that_static_leaves_are_listed():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(12, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0])

    left = {c.layer: c.what for c in fm.changes(fm.quantize(Tagger(), fm.Static(X)))}
    assert "Dynamic" in left["lstm"]
    assert "lstm" in {c.layer for c in fm.changes(fm.quantize(Tagger(), fm.Dynamic()))}


def test_convolutions_stay():
    model = randomize(Convolutional())
    kinds = [type(m) for m in model.modules() if "Conv" in type(m).__name__]
    q = fm.quantize(model, fm.Dynamic())
    assert [type(m) for m in q.modules() if "Conv" in type(m).__name__] == kinds


class Locked(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 3)
        self.connection = (i for i in range(3))

    def forward(self, x):
        return self.fc(x)


class Branches(nn.Module):
    """One layer is only reached by some rows."""

    def __init__(self):
        super().__init__()
        self.always, self.seldom = nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, x):
        return self.seldom(x) if float(x.sum()) > 1e6 else self.always(x)


def test_errors_name_the_layer_and_what_to_do():
    nan = X.clone()
    nan[5, 5] = torch.nan
    for run in (
        lambda: fm.quantize(mlp(), fm.Static(nan)),
        lambda: fm.prepare(mlp())(nan),
        lambda: fm.prepare(mlp())(nan * torch.inf),
    ):
        with pytest.raises(ValueError, match="finite inputs to layer '0', got NaN or inf: clean"):
            run()
    with pytest.raises(
        ValueError, match=r"got 70 samples .*'seldom' never saw data.*exclude=\['seldom'\]"
    ):
        fm.quantize(Branches(), fm.Static(X))
    assert fm.quantize(Branches(), fm.Static(X), exclude="seldom")
    prepared = fm.prepare(Branches())
    with pytest.raises(
        ValueError, match="'always', which never saw data: run it on calibration data"
    ):
        fm.convert(prepared)
    prepared(X)
    with pytest.raises(ValueError, match="'seldom', which never saw data: run it"):
        fm.convert(prepared)
    with pytest.raises(ValueError, match="no prepared layer: both return a copy"):
        fm.convert(mlp())  # the model whose copy was prepared
    with pytest.raises(ValueError, match="no prepared layer"):
        fm.convert(fm.quantize(mlp(), fm.Dynamic()))
    with pytest.raises(TypeError, match="attribute 'connection' cannot be deep-copied"):
        fm.prepare(Locked())
    with pytest.raises(TypeError, match="attribute 'connection' cannot be deep-copied"):
        fm.prepare_qat(Locked())
    prepared = calibrated(mlp())
    for again in (fm.prepare, fm.prepare_qat, lambda m: fm.quantize(m, fm.Dynamic()), fm.fuse):
        with pytest.raises(ValueError, match="prepared"):
            again(prepared)
    with pytest.raises(ValueError, match=r"fm.convert it first"):
        fm.save(io.BytesIO(), prepared)
    with pytest.raises(ValueError, match="Static without calibration"):
        fm.prepare(mlp(), fm.Static(X))
    with pytest.raises(TypeError, match=r"expected Static\(...\), got QAT"):
        fm.prepare(mlp(), fm.QAT())
    with pytest.raises(TypeError, match=r"expected QAT\(...\), got the class QAT"):
        fm.prepare_qat(mlp(), fm.QAT)
    with pytest.raises(TypeError, match=r"fm\.prepare_qat takes it"):
        fm.quantize(mlp(), fm.QAT())
    with pytest.raises(ValueError, match="expected data with targets"):
        fm.quantize(mlp(), fm.Dynamic(), max_drop=1)
    with pytest.raises(ValueError, match="max_drop: expected 0 or more"):
        fm.quantize(mlp(), fm.Static(X), max_drop=-1)
    with pytest.raises(ValueError, match="expected beside max_drop= alone"):
        fm.quantize(mlp(), fm.Static(X), metric=len)
    with pytest.raises(TypeError, match="SimulatedLinear: made by"):
        SimulatedLinear(3, 4)
    with pytest.raises(TypeError, match="per_channel: expected a bool"):
        fm.quantize(mlp(), fm.Dynamic(per_channel="yes"))


def test_per_tensor_weights_share_a_scale():
    for config in (fm.Static(X, per_channel=False), fm.Dynamic(per_channel=False)):
        q = fm.quantize(mlp(), config)
        for layer in (q[0], q[3], q[5]):
            assert layer.weight_scale.unique().numel() == 1
        assert same(fm.compile(q)(X), q(X))


def nan_in_the_second_layer():
    prepared = fm.prepare(nn.Sequential(nn.Linear(12, 8), nn.Sigmoid(), nn.Linear(8, 2)))
    prepared(X)
    with torch.no_grad():
        prepared[2].weight[0, 0] = torch.nan
    return prepared


class Own(tq.ObserverBase):
    """Of somebody's own, which a norm that is folded in does not let see its columns."""

    def __init__(self):
        super().__init__(torch.quint8)

    def forward(self, x):
        return x

    def calculate_qparams(self):
        return torch.tensor(-1.0), torch.tensor(0)  # no scale


def with_qconfig(model, qconfig):
    model.qconfig = qconfig
    return model


OWN = tq.QConfig(Own, tq.default_weight_observer)


def without_a_scale():
    model = with_qconfig(mlp(), tq.default_qconfig)
    model[3].qconfig = OWN
    prepared = tq.prepare(model)
    prepared(X)
    return prepared


@pytest.mark.parametrize(
    ("make", "call"),
    [
        (lambda: mlp().double().train(), lambda m: fm.prepare(m, include="nope", inplace=True)),
        (lambda: nn.Conv2d(1, 2, 3).double(), lambda m: fm.prepare(m, inplace=True)),
        (lambda: relu_then_norm().train(), lambda m: fm.prepare_qat(m, include="x", inplace=True)),
        (
            lambda: fm.quantize(mlp(), fm.Dynamic()),
            lambda m: fm.prepare_qat(m, exclude="*", inplace=True),
        ),
        (
            lambda: with_qconfig(mlp().double().train(), tq.default_weight_only_qconfig),
            lambda m: tq.prepare_qat(m, inplace=True),
        ),
        (
            lambda: with_qconfig(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 2)), OWN),
            lambda m: tq.prepare(m, inplace=True),
        ),
        (without_a_scale, lambda m: tq.convert(m, inplace=True)),
        (lambda: fm.prepare_qat(mlp()).train(), lambda m: fm.prepare(m, inplace=True)),
        (nan_in_the_second_layer, lambda m: fm.convert(m, inplace=True)),
        (lambda: mlp().to("meta"), lambda m: fm.prepare(m, inplace=True)),
        (lambda: mlp().to("meta"), lambda m: fm.prepare_qat(m, inplace=True)),
        (lambda: nn.Sequential(nn.LazyLinear(3)), lambda m: fm.prepare(m, inplace=True)),
    ],
)
def test_errors_leave_models_as_they_were(make, call):
    def state(model):
        return (
            str(model),
            [m.training for m in model.modules()],
            [p.dtype for p in model.parameters()],
            [[*m._forward_pre_hooks.values()] for m in model.modules()],
            [[*m._forward_hooks.values()] for m in model.modules()],
        )

    model = make()
    before = state(model)
    with pytest.raises(ValueError, match=r"\w"):
        call(model)
    assert state(model) == before


def test_a_prepared_model_is_to_be_converted_before_it_compiles(trained):
    for prepared in (fm.prepare(trained), fm.prepare_qat(trained)):
        with pytest.raises(ValueError, match=r"fm\.convert makes it int8, which compiles"):
            fm.compile(prepared)
