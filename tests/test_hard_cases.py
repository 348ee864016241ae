"""Models and calls at which transforms once gave wrong answers, or left half of their work."""

from __future__ import annotations

import copy
import io
import math
import types

import pytest
import torch
from models import mlp, randomize, same
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist.layers.quantized import QuantizedChain
from fastmnist.measuring.sqnr import outputs_of, sqnr
from fastmnist.ranges.rules import Rule

X = torch.randn(96, 12, generator=torch.Generator().manual_seed(3))
PIXELS = torch.randint(0, 256, (96, 12), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


def quality(model, other, x=X):
    with torch.no_grad():
        return sqnr(copy.deepcopy(model).eval()(x), other.eval()(x))


def relu_then_norm():
    return randomize(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.BatchNorm1d(16)))


def test_a_norm_past_an_activation_is_not_folded_before_it():
    model = relu_then_norm()
    fused = fm.fuse_modules(model.eval(), [["0", "1"]])
    for other in (
        fm.fuse(fm.fuse(model)),
        fm.fuse(fused),
        fm.quantize(fused, fm.Static(X)),
        fm.quantize(fm.fuse(model), fm.Dynamic()),
        fm.prepare_qat(fused),
        fm.prepare_qat(fm.quantize(model, fm.Static(X))),
    ):
        assert quality(model, other) > 30
    with pytest.raises(ValueError, match="follows its activation"):
        fm.fuse_modules(fused, [["0", "2"]])


def test_a_checkpoint_remembers_that_inputs_are_no_pixels():
    model = mlp()
    prepared = fm.prepare_qat(model).train()
    prepared(X)
    fresh = fm.prepare_qat(model)
    fresh.load_state_dict(prepared.state_dict())
    zeros_and_ones = (X > 0).float()
    assert same(prepared.eval()(zeros_and_ones), fresh.eval()(zeros_and_ones))
    assert quality(model, fm.convert(fresh)) > 30


def test_a_probe_in_eval_mode_changes_nothing():
    rows = PIXELS.float() / 255
    prepared = fm.prepare_qat(mlp()).train()
    prepared(rows)
    expected = prepared.eval()(rows)
    prepared(X)
    assert same(prepared(rows), expected)
    assert fm.convert(prepared)[0].pixels is not None


def test_pixels_are_not_stale_after_loading():
    q = fm.quantize(mlp(), fm.Static(PIXELS))
    q.load_state_dict(fm.quantize(mlp(), fm.Static(X * 3)).state_dict())
    with pytest.raises(ValueError, match="got uint8"):
        q(PIXELS)
    again = fm.quantize(mlp(), fm.Static(PIXELS))
    again.load_state_dict(fm.quantize(mlp(), fm.Static(PIXELS.flip(0))).state_dict())
    assert same(again(PIXELS), again(PIXELS / 255))


def test_channels_of_rows_that_are_not_flattened():
    images = torch.randint(0, 256, (40, 3, 4, 12), dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.1, 0.3, 0.6)
    floats = (images / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4)).eval()
    static = fm.quantize(model, fm.Static(images, mean, std))
    dynamic = fm.quantize(model, fm.Dynamic(mean, std))
    for q in (static, dynamic):
        assert quality(model, q, floats) > 25
        with pytest.raises(ValueError, match="uint8"):
            q(images)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(144, 4)).eval()
    q = fm.quantize(flat, fm.Static(images, mean, std))
    assert same(q(images), q(floats))
    assert quality(flat, q, floats) > 30


class InPlace(nn.Module):
    """Normalizes its own input, in place."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        x = x.flatten(1)
        x.sub_(0.5).mul_(20)
        return self.fc(x)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inputs_that_forward_changes_are_no_pixels(mode):
    prepared = fm.prepare(InPlace())
    with mode():
        prepared(PIXELS.float() / 255)
    assert fm.convert(prepared).fc.pixels is None


class ReadsSizes(nn.Module):
    """Asks a layer for its width."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 64), nn.Linear(64, 4)

    def forward(self, x):
        return self.fc2(self.fc1(x)) / math.sqrt(self.fc1.out_features)


class ThroughAList(nn.Module):
    """Calls its layers through a plain list, and a dict."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.steps = [self.fc1, self.fc2]
        self.heads = {"out": self.fc3}

    def forward(self, x):
        for step in self.steps:
            x = torch.relu(step(x))
        return self.heads["out"](x)


class Modes(nn.Module):
    """Does other things in training."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 16), nn.Linear(16, 4)

    def forward(self, x):
        h = self.fc1(x)
        y = self.fc2(F.relu(h))
        return y if self.training else torch.cat((y, h), 1)


def is_called(q):
    """Whether int8 layers run when the model does."""
    calls = []
    for chain in [m for m in q.modules() if isinstance(m, QuantizedChain)]:
        chain.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        q(X)
    return bool(calls)


@pytest.mark.parametrize("make", [ReadsSizes, ThroughAList, Modes])
def test_awkward_forwards(make):
    model = randomize(make()).train()
    for q in (fm.quantize(model, fm.Static(X)), fm.quantize(model, fm.Dynamic())):
        assert quality(model, q) > 25
        assert is_called(q)
    prepared = fm.prepare_qat(model).train()
    prepared(X)
    assert quality(model, prepared) > 25
    assert same(prepared.eval()(X), fm.convert(prepared)(X))


def test_a_forward_of_the_instances_own_is_left_alone():
    model = mlp()
    model[0].forward = types.MethodType(lambda s, x: F.linear(x, s.weight * 3, s.bias), model[0])
    for other in (
        fm.fuse(model),
        fm.quantize(model, fm.Dynamic()),
        fm.quantize(model, fm.Static(X)),
    ):
        assert quality(model, other) > 25


def test_norms_over_sequences_are_refused():
    model = randomize(nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8)))
    x = torch.randn(20, 8, 16)
    with pytest.raises(ValueError, match=r"layer '0': expected rows \[N, features\] where a Batch"):
        fm.quantize(model, fm.Static(x))
    prepared = fm.prepare_qat(model).train()
    with pytest.raises(ValueError, match="expected rows"):
        prepared(x)


def test_in_place_training_does_not_lose_computed_weights():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(12, 4)))
    with pytest.raises(ValueError, match="got '0', whose weight is computed"):
        fm.prepare_qat(model, inplace=True)
    assert fm.prepare_qat(model) is not None


class AddsInPlace(nn.Module):
    """Changes what a layer returned."""

    def __init__(self):
        super().__init__()
        self.fc, self.drop, self.head = (
            nn.Linear(12, 12),
            nn.Dropout(0.1, inplace=True),
            nn.Linear(12, 2),
        )

    def forward(self, x):
        h = self.fc(x)
        h += x
        return self.head(F.relu(self.drop(h), inplace=True))


def test_outputs_may_be_changed_in_place():
    prepared = fm.prepare_qat(AddsInPlace()).train()
    for _ in range(2):
        prepared(X).sum().backward()
    assert same(prepared.eval()(X), fm.convert(prepared)(X))


def test_fused_in_training_mode_is_saved(tmp_path):
    model = randomize(nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU())).train()
    fused = fm.fuse_modules(model, [["0", "1", "2"]])
    fm.save(tmp_path / "fused", fused)
    assert quality(model, fm.load(tmp_path / "fused")) > 100


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_training_in_other_dtypes_without_biases(dtype):
    model = nn.Sequential(
        nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4, bias=False)
    ).to(dtype)
    prepared = fm.prepare_qat(model).train()
    prepared(X.to(dtype)).float().sum().backward()
    assert prepared.eval()(X.to(dtype)).dtype == dtype


def test_a_norm_before_a_fused_layer_without_bias():
    model = randomize(nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 8, bias=False), nn.ReLU()))
    fused = fm.fuse_modules(model.eval(), [["1", "2"]])
    assert quality(model, fm.quantize(fused, fm.Static(X))) > 25


def test_chains_from_files_are_frozen(tmp_path):
    q = fm.quantize(mlp(), fm.Dynamic(), exclude="0")
    fm.save(tmp_path / "q", q)
    assert same(fm.load(tmp_path / "q")(X), q(X))


def test_the_suite_measures_what_it_is_given():
    model = mlp().eval()
    half = copy.deepcopy(model).bfloat16()
    with torch.no_grad():
        expected = half(X.bfloat16()).float()
        _, got = outputs_of([model, lambda x: half(x.bfloat16())], X)
        assert same(got, expected)
        own = nn.Sequential(nn.Identity(), copy.deepcopy(half))
        own[0].forward = lambda x: x.bfloat16()
        assert same(outputs_of([own], X)[0], expected)


def test_batches_of_another_form_with_max_drop():
    class Batches:
        def __iter__(self):
            return ({"x": x, "y": (x[:, 0] > 0).long()} for x in X.split(8))

    rows = Batches()
    read = lambda b: ((b["x"],), {}, b["y"])  # noqa: E731
    q = fm.quantize(mlp(), fm.Static(rows, batch_fn=read), max_drop=100)
    assert any(isinstance(m, QuantizedChain) for m in q.modules())
    assert len(fm.sensitivity(mlp(), rows, batch_fn=read, rounds=1)) == 3


class Bad(Rule):
    """Gives back what it was made with."""

    def range(self, seen):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [(None, TypeError), ((1,), TypeError), ((1, -1), ValueError), ((0, math.inf), ValueError)],
)
def test_rules_that_answer_nonsense(answer, error):
    rule = Bad()
    object.__setattr__(rule, "answer", answer)
    with pytest.raises(error, match=r"observer: expected Bad\.range to return"):
        fm.quantize(mlp(), fm.Static(X, observer=rule))


def test_recurrent_layers_keep_what_code_asks_for():
    for config in (fm.Dynamic(), fm.Half()):
        q = fm.quantize(nn.LSTM(4, 6, 2, bidirectional=True), config)
        q.flatten_parameters()
        assert (q.num_layers, q.hidden_size, q.bidirectional, q.batch_first) == (2, 6, True, False)
    q = fm.quantize(nn.GRU(4, 6), fm.Dynamic())
    assert q(torch.randn(7, 0, 4))[0].shape == (7, 0, 6)
    with pytest.raises(ValueError, match="at least one step"):
        q(torch.randn(0, 3, 4))


def test_specs_with_float16():
    q = fm.quantize_dynamic(mlp(), {nn.Linear: tq.float16_dynamic_qconfig})
    assert q[0].weight.dtype == torch.float16
    with pytest.raises(ValueError, match="qconfigs of one kind"):
        fm.quantize_dynamic(
            mlp(), {"0": tq.float16_dynamic_qconfig, "3": tq.default_dynamic_qconfig}
        )
    mapping = tq.QConfigMapping().set_global(tq.default_qconfig).set_module_name_regex("3", None)
    assert mapping.qconfig_of("3", mlp()[3]) is None


def nan_in_the_second_layer():
    prepared = fm.prepare(nn.Sequential(nn.Linear(12, 8), nn.Sigmoid(), nn.Linear(8, 2)))
    prepared(X)
    with torch.no_grad():
        prepared[2].weight[0, 0] = torch.nan
    return prepared


def dynamic_qconfig():
    model = mlp().double().train()
    model.qconfig = tq.default_dynamic_qconfig
    return model


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
        (dynamic_qconfig, lambda m: tq.prepare_qat(m, inplace=True)),
        (lambda: fm.prepare_qat(mlp()).train(), lambda m: fm.prepare(m, inplace=True)),
        (nan_in_the_second_layer, lambda m: fm.convert(m, inplace=True)),
        (lambda: mlp().to("meta"), lambda m: fm.prepare(m, inplace=True)),
        (lambda: mlp().to("meta"), lambda m: fm.prepare_qat(m, inplace=True)),
        (lambda: nn.Sequential(nn.LazyLinear(3)), lambda m: fm.prepare(m, inplace=True)),
    ],
)
def test_errors_leave_models_as_they_were(make, call):
    model = make()
    before = (
        str(model),
        [m.training for m in model.modules()],
        [p.dtype for p in model.parameters()],
    )
    with pytest.raises(ValueError, match=r"\w"):
        call(model)
    after = str(model), [m.training for m in model.modules()], [p.dtype for p in model.parameters()]
    assert after == before
    assert not model._forward_pre_hooks or isinstance(model, nn.Module)


def test_traced_models_save_and_load():
    for q in (
        fm.quantize(mlp(), fm.Static(X)),
        fm.quantize(mlp(), fm.Dynamic()),
        fm.quantize(nn.Sequential(nn.Linear(12, 4)), fm.Half()),
    ):
        traced = torch.jit.trace(q, X)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
        buffer.seek(0)
        again = torch.jit.load(buffer)
        assert same(again(X[:7]), q(X[:7]))


class ReadsWeightUntraced(nn.Module):
    """Reads a layer's weight where tracing cannot see it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return F.linear(x, self.fc.weight) if float(x.sum()) > -1e9 else x


def test_reading_a_weight_that_is_gone_says_what_to_do():
    q = fm.quantize(ReadsWeightUntraced(), fm.Dynamic())
    with pytest.raises(AttributeError, match=r"'fc' is an int8 layer, .*exclude=\['fc'\]"):
        q(X)
    assert not hasattr(q.fc, "weight")
    assert not hasattr(q.fc, "anything")


def test_hooks_are_not_fused_away():
    model = nn.Sequential(nn.Linear(12, 4), nn.ReLU())
    model[1].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="without hooks, got one on '1'"):
        fm.fuse_modules(model, ["0", "1"])
