"""Every layer that quantizing leaves stands alone: whichever way a model is entered or watched."""

from __future__ import annotations

import copy
import pickle
import types

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune, weight_norm

import fastmnist as fm
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.measuring.sqnr import sqnr

X = torch.randn(96, 12, generator=torch.Generator().manual_seed(11))
PIXELS = torch.randint(0, 256, (96, 12), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


def train_aware(model):
    prepared = fm.prepare_qat(model).train()
    prepared(X)
    return fm.convert(prepared)


WAYS = {
    "static": lambda model: fm.quantize(model, fm.Static(X)),
    "dynamic": lambda model: fm.quantize(model, fm.Dynamic()),
    "half": lambda model: fm.quantize(model, fm.Half()),
    "aware": train_aware,
    "fused": fm.fuse,
}


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def deep(*, bias: bool = True) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Linear(12, 24, bias=bias), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 24, bias=bias),
            nn.Linear(24, 16, bias=bias), nn.ReLU6(), nn.Linear(16, 4, bias=bias),
        ).eval()  # fmt: skip


class TwoHeads(nn.Module):
    """A body that is called by itself, a policy and a value on top of it, as in actor-critics."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.policy, self.critic = (
            nn.Linear(16, 5),
            nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 1)),
        )

    def forward(self, x):
        return self.policy(self.body(x))

    def value(self, x):
        return self.critic(self.body(x))


def both(self, x):
    h = self.body(x)
    return self.policy(h), self.critic(h[:, :8])


def close(got, want, decibels=25):
    assert got.shape == want.shape
    assert got.dtype == torch.float32
    assert sqnr(want.detach(), got.detach()) > decibels


def test_another_method_is_another_way_in(way):
    model = TwoHeads().eval()
    if way in (WAYS["static"], WAYS["aware"]):
        model.critic = model.critic[1:]  # which forward must reach, to be calibrated
        model.forward = types.MethodType(both, model)
    q = way(model)
    for got, want in zip(q(X), model(X), strict=True):
        close(got, want)
    if not isinstance(model(X), tuple):
        close(q.value(X), model.value(X))
    close(q.body(X), model.body(X))
    code = model.body(X).detach()
    close(q.policy(code), model.policy(code))


def test_static_leaves_what_calibration_never_reached_alone_or_refuses():
    with pytest.raises(ValueError, match=r"layer 'critic.0' never saw data: .*exclude="):
        fm.quantize(TwoHeads(), fm.Static(X))
    model = TwoHeads().eval()
    q = fm.quantize(model, fm.Static(X), exclude="critic")
    close(q.value(X), model.value(X))


@pytest.mark.parametrize("bias", [True, False])
def test_slices_children_and_copies_of_parts(way, bias):
    model = deep(bias=bias)
    q = way(model)
    for start, stop in ((0, 2), (0, -1), (3, None), (3, 4), (4, 6), (6, None)):
        rows = model[:start](X).detach()
        close(q[start:stop](rows), model[start:stop](rows))
    part = copy.deepcopy(q[3])
    rows = model[:3](X).detach()
    close(part(rows), model[3](rows))
    close(pickle.loads(pickle.dumps(q[3]))(rows), model[3](rows))
    y = X
    for layer in q.children():
        y = layer(y)
    assert torch.equal(y, q(X))


def test_a_new_head_on_an_int8_body(way):
    """Transfer learning: what the body gives are plain floats, for any layer."""
    model = deep()
    q = way(model)
    with torch.no_grad():
        features = q[:-1](X)
    head = nn.Linear(16, 3)
    loss = head(features).square().mean()
    loss.backward()
    assert head.weight.grad is not None
    joined = nn.Sequential(*q[:-1], head)
    assert torch.equal(joined(X), head(features))


def test_hooks_see_the_values_of_their_own_layer(way):
    model = deep()
    q = way(model)
    # Of a pair that became one, both names give what the activation gives.
    for name in ("3", "5", "1", "6"):
        seen = []
        for net in (model, q):
            handle = net.get_submodule(name).register_forward_hook(
                lambda m, args, y, seen=seen: seen.append(y.detach().clone())
            )
            net(X)
            handle.remove()
        close(seen[1], seen[0])


def test_a_hooked_pair_stays_apart(way):
    """A hook on a Linear sees what the Linear gives, before its activation."""
    model = deep()
    seen = []
    model[0].register_forward_hook(lambda m, args, y: seen.append(y.detach().clone()))
    model(X)
    q = way(model)
    seen[1:] = []
    q(X)
    close(seen[1], seen[0])
    assert (seen[1] < 0).any()


def test_compile_gives_the_same_bits():
    model = deep(bias=False)
    for config in (fm.Static(X), fm.Static(PIXELS), fm.Dynamic()):
        q = fm.quantize(model, config)
        net = fm.compile(q)
        assert torch.equal(net(X), q(X))
        assert [layer.name for layer in net.layers] == ["0", "3", "4", "6"]
        y = X
        for layer in net.layers:  # each layer alone: one native call
            one = fm.compile(q.get_submodule(layer.name))
            y = one(y)
        assert torch.equal(y, q(X))


# ---- the layer as a module -----------------------------------------------------------------------


@pytest.fixture
def layer() -> QuantizedLinear:
    return fm.quantize(deep(), fm.Static(X))[3]


def test_its_state_is_the_contract():
    q = fm.quantize(deep(bias=False), fm.Static(X))
    assert {key: (value.dtype, value.shape) for key, value in q[3].state_dict().items()} == {
        "weight_scale": (torch.float32, (24,)),
        "weight_int8": (torch.int8, (24, 24)),
        "input_scale": (torch.float32, ()),
        "input_zero_point": (torch.int32, ()),
    }
    table = nn.Sequential(nn.BatchNorm1d(12), *deep()).eval()
    affine = fm.quantize(table, fm.Static(X * 3))[1]
    assert affine.kind == "affine"
    assert affine.state_dict().keys() == {
        "weight_scale", "bias", "weight_int8", "input_scale", "input_zero_point",
        "input_multiplier", "input_offset",
    }  # fmt: skip
    dynamic = fm.quantize(deep(), fm.Dynamic())[0]
    assert dynamic.state_dict().keys() == {"weight_scale", "bias", "weight_int8"}


def test_its_parameters_are_frozen_and_its_weight_is_for_reading(layer):
    assert isinstance(layer, nn.Linear)
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight_scale"]
    assert not any(p.requires_grad for p in layer.parameters())
    real = deep()[3].weight
    assert layer.weight.shape == real.shape
    assert (layer.weight - real).abs().max() <= layer.weight_scale.max() / 2 + 1e-6
    table = nn.Sequential(nn.BatchNorm1d(12), *deep()).eval()
    table[0].running_var.uniform_(0.5, 2)
    folded = fm.fuse(table)[1].weight
    affine = fm.quantize(table, fm.Static(X * 3))[1]
    assert sqnr(folded.detach(), affine.weight) > 35


REFUSED = {
    "assigned": lambda m: setattr(m, "weight", nn.Parameter(torch.zeros(24, 24))),
    "assigned a tensor": lambda m: setattr(m, "weight", torch.zeros(24, 24)),
    "deleted": lambda m: delattr(m, "weight"),
    "reset": lambda m: m.reset_parameters(),
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 0.5),
    "parametrized": lambda m: parametrize.register_parametrization(m, "weight", nn.Identity()),
    "initialized": lambda m: nn.init.zeros_(m.weight),
    "scaled": lambda m: m.weight.mul_(2),
    "normalized": lambda m: weight_norm(m),
}


@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_its_weight_cannot_be_changed(layer, how):
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    rows = X.repeat(1, 2)
    expected = layer(rows)
    with pytest.raises((TypeError, ValueError, RuntimeError, KeyError)):
        REFUSED[how](layer)
    assert layer.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert torch.equal(layer(rows), expected)


def test_messages_say_what_to_do(layer):
    for change in ("assigned", "reset", "pruned"):
        with pytest.raises(TypeError, match=r"weight of '3': .*exclude=\['3'\]"):
            REFUSED[change](layer)


def test_a_parameter_that_was_made_to_require_grad(layer):
    rows = X.repeat(1, 2)
    expected = layer(rows)
    for parameter in layer.parameters():
        parameter.requires_grad_()
        with pytest.raises(RuntimeError, match=r"'3': expected requires_grad=False.*prepare_qat"):
            layer(rows)
        parameter.requires_grad_(False)
    assert torch.equal(layer(rows), expected)


def test_a_bad_state_leaves_the_layer_as_it_was(layer):
    rows = X.repeat(1, 2)
    expected = layer(rows)
    other = {key: value.clone() for key, value in layer.state_dict().items()}
    other["weight_int8"] += 1
    other["input_scale"] = torch.tensor(float("nan"))
    with pytest.raises(ValueError, match="scale"):
        layer.load_state_dict(other)
    assert torch.equal(layer(rows), expected)


WRITES = {
    "a bias": lambda m: m.bias.add_(0.5),
    "a scale": lambda m: m.weight_scale.mul_(2),
    "codes": lambda m: m.weight_int8.zero_(),
    "another bias": lambda m: setattr(m, "bias", nn.Parameter(m.bias + 1, requires_grad=False)),
    "initialized": lambda m: nn.init.constant_(m.bias, 0.25),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_is_written_counts(layer, what):
    rows = X.repeat(1, 2)
    before = layer(rows)
    with torch.no_grad():
        WRITES[what](layer)
    assert not torch.equal(layer(rows), before)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(rows), layer(rows))
    assert torch.equal(copy.deepcopy(layer)(rows), layer(rows))


OF_THE_INPUT = {
    "input_scale": lambda t: t.mul_(4),
    "input_zero_point": lambda t: t.add_(9),
    "input_multiplier": lambda t: t.mul_(2),
    "input_offset": lambda t: t.add_(1),
}


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("key", OF_THE_INPUT)
def test_what_is_written_of_the_input_counts(key, replaced):
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(12).eval()
    norm.running_mean.normal_()
    affine = key in ("input_multiplier", "input_offset")
    linear = nn.Linear(12, 4).eval()
    layer = fm.quantize(nn.Sequential(norm, linear) if affine else linear, fm.Static(X))
    layer = layer[1] if affine else layer
    early, before = copy.deepcopy(layer), layer(X)
    if replaced:
        setattr(layer, key, OF_THE_INPUT[key](layer.get_buffer(key).clone()))
    else:
        OF_THE_INPUT[key](layer.get_buffer(key))
    late = copy.deepcopy(layer)
    assert not torch.equal(layer(X), before)
    assert torch.equal(late(X), layer(X))
    assert torch.equal(early(X), before)
    early.load_state_dict(layer.state_dict())
    assert torch.equal(early(X), layer(X))
    OF_THE_INPUT[key](early.get_buffer(key))
    assert not torch.equal(early(X), layer(X))


def test_written_numbers_that_are_no_pixels_refuse_pixels():
    pixels = torch.randint(0, 256, (96, 12), dtype=torch.uint8)
    layer = fm.quantize(nn.Linear(12, 4).eval(), fm.Static(pixels))
    layer(pixels)
    layer.get_buffer("input_scale").mul_(2)
    with pytest.raises(ValueError, match="expected floats, got uint8"):
        layer(pixels)


def test_a_bias_is_not_masked_or_taken_away(layer):
    for change in (
        lambda: prune.l1_unstructured(layer, "bias", 0.5),
        lambda: parametrize.register_parametrization(layer, "bias", nn.Identity()),
        lambda: delattr(layer, "bias"),
    ):
        with pytest.raises(TypeError, match="layer is int8"):
            change()
    assert layer(X.repeat(1, 2)).shape == (96, 24)


def test_made_in_inference_mode_it_can_be_loaded_into():
    with torch.inference_mode():
        q = fm.quantize(deep(), fm.Dynamic())
    expected = q(X)
    q.load_state_dict({key: value.clone() for key, value in q.state_dict().items()})
    assert torch.equal(q(X), expected)


@pytest.mark.parametrize("order", ["after", "leading"])
def test_a_norm_over_the_middle_dimension_is_right_or_refused(order, tmp_path):
    """[N, C, L] with C == L: no look at the weights tells which dimension is normalized."""
    norm = nn.BatchNorm1d(12)
    nn.init.normal_(norm.weight, 1, 0.5)
    norm.running_mean.normal_()
    model = (
        nn.Sequential(norm, nn.Linear(12, 12))
        if order == "leading"
        else nn.Sequential(nn.Linear(12, 12), norm, nn.ReLU(), nn.Linear(12, 4))
    )
    model.eval()
    middle = torch.randn(5, 12, 12)
    for make in (fm.fuse, WAYS["dynamic"], WAYS["half"]):
        result = make(model)
        close(result(X), model(X))
        fm.save(tmp_path / "m.safetensors", result)
        for each in (result, copy.deepcopy(result), fm.load(tmp_path / "m.safetensors")):
            with pytest.raises(ValueError, match=r"layer '[01]': expected rows .*BatchNorm1d"):
                each(middle)
    close(fm.quantize(model, fm.Static(middle))(middle), model(middle))  # rows show it
