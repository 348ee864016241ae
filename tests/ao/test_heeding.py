"""What an observer says is what its layer does; what a layer cannot do is refused by name."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from beside_torch import QUIET, X, made
from models import same
from torch import nn

import fastmnist as fm
import fastmnist.ao as tq

pytestmark = QUIET
SIGNED, SYMMETRIC = torch.qint8, torch.per_tensor_symmetric


def run(activation=tq.default_observer, weight=tq.default_weight_observer, x=X):
    """Convert a model that was calibrated under this qconfig."""
    model = made(tq)
    model.qconfig = tq.QConfig(activation, weight)
    prepared = tq.prepare(model)
    prepared(x)
    return tq.convert(prepared)


def codes(layer):
    return float(layer.input_scale), int(layer.input_zero_point)


class ToOne(tq.ObserverBase):
    """Whatever it sees, the scale covers its largest value in 100 steps."""

    def __init__(self, dtype=torch.quint8):
        super().__init__(dtype)
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x):
        self.largest = torch.maximum(self.largest, x.detach().abs().max())
        return x

    def calculate_qparams(self):
        return self.largest / 100, torch.tensor(100)


class Wider(tq.MinMaxObserver):
    """A subclass that only answers otherwise."""

    def calculate_qparams(self):
        scale, zero_point = super().calculate_qparams()
        return 2 * scale, zero_point // 2 + 64


class ByHand(tq.UniformQuantizationObserverBase):
    """Uses the base's arithmetic on a range of its own."""

    def forward(self, x):
        return x

    def calculate_qparams(self):
        return self._calculate_qparams(torch.tensor(-1.0), torch.tensor(3.0))


class ThirdParty(nn.Module):
    """No subclass of ours: an object that answers."""

    dtype = torch.qint8

    def forward(self, x):
        return x

    def calculate_qparams(self):
        return torch.tensor([0.25]), torch.tensor([-8])


OWN = [
    (ToOne, lambda x: (float(x.abs().max() / 100), 100)),
    (Wider, None),
    (ByHand, lambda x: (4 / 255, 64)),
    (ByHand.with_args(quant_min=0, quant_max=127), lambda x: (4 / 127, 32)),
    (ThirdParty, lambda x: (0.25, 120)),
    (tq.FixedQParamsObserver.with_args(scale=0.5, zero_point=7), lambda x: (0.5, 7)),
    (tq.MinMaxObserver.with_args(eps=0.5), lambda x: (0.5, round(float(-x.min()) / 0.5))),
    (
        tq.MinMaxObserver.with_args(dtype=SIGNED, qscheme=SYMMETRIC),
        lambda x: (float(x.abs().max() / 127.5), 128),
    ),
    (
        tq.MinMaxObserver.with_args(qscheme=SYMMETRIC),
        lambda x: (float(x.abs().max() / 127.5), 128),
    ),
    (
        tq.MinMaxObserver.with_args(quant_min=0, quant_max=127),
        lambda x: (float((x.max() - x.min()) / 127), None),
    ),
    (
        tq.MinMaxObserver.with_args(reduce_range=True),
        lambda x: (float((x.max() - x.min()) / 127), None),
    ),
    (
        tq.MinMaxObserver.with_args(quant_min=0, quant_max=15),
        lambda x: (float((x.max() - x.min()) / 15), None),
    ),
    (tq.MinMaxObserver, lambda x: (float((x.max() - x.min()) / 255), None)),
]


@pytest.mark.filterwarnings("ignore:outputs differ more than expected")
@pytest.mark.parametrize(
    ("observer", "expected", "fake"),
    [(*case, False) for case in OWN]
    # Those that take codes, and have a scheme.
    + [(*case, True) for case in OWN if case[0] not in (ToOne, ThirdParty, ByHand)],
)
def test_its_scale_and_zero_point_are_the_layers(observer, expected, fake):
    activation = observer
    if fake and "FixedQParams" in repr(observer):
        activation = tq.FixedQParamsFakeQuantize.with_args(observer=observer)
    elif fake:
        activation = tq.FakeQuantize.with_args(observer=observer)
    q = run(activation)
    alone = observer()
    alone(X)
    scale, zero_point = (float(value) for value in alone.calculate_qparams())
    shift = 128 if alone.dtype == torch.qint8 else 0
    got = codes(q.fc1)
    assert got == (pytest.approx(scale, rel=1e-6), zero_point + shift)
    if expected is not None:
        wanted = expected(X)
        assert got[0] == pytest.approx(wanted[0], rel=1e-5)
        assert wanted[1] in (None, got[1])
    for again in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        assert same(again(X), q(X))


def test_signed_symmetric_codes_are_exact():
    """Zero point 0 of signed codes is 128 of ours: the same values, bit for bit."""
    q = run(tq.MinMaxObserver.with_args(dtype=SIGNED, qscheme=SYMMETRIC))
    layer = q.fc1
    scale = layer.input_scale
    signed = torch.clamp(torch.round(X * (1 / scale)), -128, 127)
    exact = (signed.double() * scale.double()) @ layer.weight.double().T + layer.bias.double()
    assert torch.allclose(layer(X).double(), exact.clamp(min=0), rtol=1e-5, atol=1e-5)


def test_weights():
    plain = run(weight=tq.default_weight_observer)
    assert len(plain.fc1.weight_scale.unique()) == 1
    channels = run(weight=tq.default_per_channel_weight_observer)
    assert len(channels.fc1.weight_scale.unique()) > 1
    four = tq.default_per_channel_weight_observer.with_args(quant_min=-8, quant_max=7)
    layer = run(weight=four).fc1
    assert (layer.weight_int8.min(), layer.weight_int8.max()) >= (-8, 7)
    largest = made(tq).fc1.weight.detach().abs().amax(1)
    assert torch.allclose(layer.weight_scale, largest / 7.5)
    least = run(weight=tq.default_weight_observer.with_args(eps=0.5)).fc1
    assert least.weight_scale.unique().tolist() == [0.5]
    clipped = tq.HistogramObserver.with_args(dtype=SIGNED, qscheme=SYMMETRIC)
    assert float(run(weight=clipped).fc1.weight_scale[0]) <= float(largest.max()) / 127.5 + 1e-7
    fixed = tq.FixedQParamsObserver.with_args(
        scale=0.01, zero_point=0, dtype=SIGNED, quant_min=-128, quant_max=127
    )
    assert run(weight=fixed).fc1.weight_scale.unique().tolist() == [pytest.approx(0.01)]


def test_affine_weights_are_symmetric_and_said_to_be():
    # As QConfig's own documentation in torch writes it.
    with pytest.warns(UserWarning, match=r"qconfig, weight: weights have zero point 0 here"):
        q = run(weight=tq.default_observer.with_args(dtype=SIGNED, quant_min=-128, quant_max=127))
    assert torch.allclose(q.fc1.weight, made(tq).fc1.weight, atol=0.01)


REFUSED = [
    (tq.MinMaxObserver.with_args(dtype=torch.qint32), None, "activation: expected qint8 or quint8"),
    (tq.PerChannelMinMaxObserver, None, "activation: expected a qscheme per tensor, got PerCh"),
    (tq.PlaceholderObserver, None, "activation: expected an observer, or a dynamic or float16"),
    (tq.NoopObserver, None, "activation: expected an observer of 8 bits, got NoopObserver"),
    (nn.Identity, None, "activation: expected an observer of 8 bits, got Identity"),
    (tq.MinMaxObserver.with_args(dtype=torch.uint16), None, "got MinMaxObserver of uint16"),
    (None, tq.MinMaxObserver, "weight: expected torch.qint8, .* got MinMaxObserver of quint8"),
    (None, nn.Identity, "weight: expected torch.qint8, .* got Identity"),
    (None, tq.default_float_qparams_observer, "weight: expected torch.qint8"),
    (
        None,
        tq.default_per_channel_weight_observer.with_args(ch_axis=1),
        "weight: expected ch_axis=0, the outputs",
    ),
    (None, tq.PlaceholderObserver.with_args(dtype=torch.float16), "torch.float16 beside such"),
]


@pytest.mark.parametrize(("activation", "weight", "message"), REFUSED)
def test_what_a_layer_cannot_have_is_refused_by_name(activation, weight, message):
    if message.startswith("torch.float16 beside"):
        activation = tq.PlaceholderObserver
    qconfig = (activation or tq.default_observer, weight or tq.default_weight_observer)
    with pytest.raises(ValueError, match=f"qconfig of 'fc1', .*{message}"):
        run(*qconfig)
    # Where it is said of another layer, that one is named.
    model = made(tq)
    model.body[2].qconfig = tq.QConfig(*qconfig)
    with pytest.raises(ValueError, match=r"qconfig of 'body\.2\.0'"):
        tq.prepare(model)


class OutOfRange(ToOne):
    def calculate_qparams(self):
        return torch.tensor(0.5), torch.tensor(300)


class TwoScales(ToOne):
    def calculate_qparams(self):
        return torch.tensor([0.5, 1.0]), torch.tensor([3, 3])


class Shifted(tq.MinMaxObserver):
    def calculate_qparams(self):
        return torch.tensor([0.5]), torch.tensor([3])


class Doubling(tq.FakeQuantize):
    def forward(self, x):
        return 2 * x


@pytest.mark.parametrize(
    ("activation", "weight", "message"),
    [
        (
            OutOfRange,
            None,
            "layer 'fc1': expected OutOfRange to give one scale above 0 and one zero",
        ),
        (TwoScales, None, "expected TwoScales to give one scale"),
        (
            None,
            Shifted.with_args(dtype=SIGNED),
            "to give one weight scale or 24, with zero point 0",
        ),
        (Doubling, None, "activation: expected FakeQuantize or an observer, got Doubling"),
        (tq.RecordingObserver, None, "calculate_qparams: expected an observer of ranges"),
    ],
)
def test_answers_that_make_no_sense_are_refused(activation, weight, message):
    error = RuntimeError if activation is tq.RecordingObserver else ValueError
    with pytest.raises(error, match=message):
        run(activation or tq.default_observer, weight or tq.default_weight_observer)


TRAINING = {
    "default": tq.default_qat_qconfig,
    "fused": tq.default_qat_qconfig_v2,
    "signed": tq.default_symmetric_qnnpack_qat_qconfig,
    "signed, per channel": tq.default_per_channel_symmetric_qnnpack_qat_qconfig,
    "dynamic": tq.default_dynamic_qat_qconfig,
    "weights of 4 bits": tq.QConfig(
        tq.default_fake_quant,
        tq.default_weight_fake_quant.with_args(quant_min=-8, quant_max=7),
    ),
    "dynamic, weights of 4 bits": tq.QConfig(
        tq.default_dynamic_fake_quant,
        tq.default_weight_fake_quant.with_args(quant_min=-8, quant_max=7),
    ),
    "of one's own": tq.QConfig(ToOne, tq.default_weight_observer),
}


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("norm", ["", "behind", "in front"])
def test_training_simulates_the_very_bits(name, norm):
    if norm == "in front" and name == "of one's own":
        norm = "behind"  # what columns cannot have
    torch.manual_seed(0)
    behind = [nn.BatchNorm1d(16)] if norm == "behind" else []
    before = nn.BatchNorm1d(12) if norm == "in front" else nn.Identity()
    layers = nn.Linear(12, 16), *behind, nn.ReLU(), nn.Linear(16, 3)
    model = nn.Sequential(before, *layers).train()
    model.qconfig = TRAINING[name]
    prepared = tq.prepare_qat(model)
    optimizer = torch.optim.SGD(prepared.parameters(), 0.05)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = (prepared(X) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    q = tq.convert(prepared.eval())
    assert same(prepared(X).detach(), q(X))
    assert q[1].kind == {"dynamic": "dynamic", "in front": "affine"}.get(
        "dynamic" if "dynamic" in name else norm, "static"
    )
    if "4 bits" in name:
        assert q[1].weight_int8.abs().max() <= 8


def test_switches_of_training():
    model = made(tq).train()
    model.qconfig = tq.default_qat_qconfig
    prepared = tq.prepare_qat(model)
    prepared(X)

    def rule():
        return prepared.fc1.input_rule().scale

    before = rule()
    prepared.apply(tq.disable_observer)
    prepared(100 * X)
    assert rule() == before
    prepared.apply(tq.enable_observer)
    prepared(100 * X)
    assert rule() != before


def test_a_leading_norm_and_observers():
    """What is folded in gives each column a range of its own; observers cannot say that."""
    model = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 4)).eval()
    model.qconfig = tq.default_qconfig
    prepared = tq.prepare(model)
    prepared(X)
    assert tq.convert(prepared)[1].kind == "affine"
    four = tq.default_per_channel_weight_observer.with_args(quant_min=-8, quant_max=7)
    model.qconfig = tq.QConfig(tq.default_observer, four)
    prepared = tq.prepare(model)
    prepared(X)
    layer = tq.convert(prepared)[1]
    assert layer.kind == "affine"
    assert int(layer.weight_int8.min()) >= -8
    assert layer.weight_int8.abs().amax(1).min() >= 7  # each output uses its codes
    model.qconfig = tq.QConfig(ToOne, tq.default_weight_observer)
    with pytest.raises(ValueError, match="expected an observer of ranges, got ToOne, as a Batch"):
        tq.prepare(model)


def test_float16_is_of_weights_alone_unless_static():
    big = torch.full((1, 12), 3e4)
    model = nn.Sequential(nn.Linear(12, 4)).eval()
    nn.init.ones_(model[0].weight)
    expected = model(big).detach()
    model.qconfig = tq.float16_dynamic_qconfig
    assert torch.allclose(tq.convert(tq.prepare(model))(big), expected)
    model.qconfig = tq.float16_static_qconfig
    told = [str(change) for change in fm.changes(tq.convert(tq.prepare(model)))]
    assert told[0].startswith("0: float16")


def test_a_regular_expression_that_is_none_is_named():
    mapping = tq.QConfigMapping().set_module_name_regex("b(", None)
    with pytest.raises(ValueError, match=r"module_name_regex: expected .*'b\('.*re\.escape"):
        mapping.qconfig_of("b", nn.Linear)
