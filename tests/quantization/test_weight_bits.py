"""weight_bits: codes of 2 to 8 bits, layer by layer, after training and in it."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from models import assert_unchanged, mlp, snapshot
from torch import nn

import fastmnist as fm
from fastmnist import _core
from fastmnist.int8 import reference

BITS = (2, 3, 4, 5, 6, 7, 8)
X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("draw", ["normal", "cauchy", "zero", "tiny", "one"])
def test_the_scales_are_the_references(bits, draw):
    rng = np.random.default_rng(bits)
    weight = {
        "normal": lambda: rng.normal(size=(5, 300)),
        "cauchy": lambda: rng.standard_cauchy((4, 97)),
        "zero": lambda: np.zeros((2, 3)),
        "tiny": lambda: rng.normal(size=(3, 40)) * 1e-38,
        "one": lambda: rng.normal(size=(6, 1)),
    }[draw]().astype(np.float32)
    codes, scales = _core.quantize_weights(weight, bits)
    want_codes, want_scales = reference.quantize_weights(weight, bits)
    assert np.array_equal(codes, want_codes)
    assert np.array_equal(scales, want_scales)
    assert np.abs(codes).max(initial=0) <= 2 ** (bits - 1) - 1


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_the_error_is_the_least_of_many_scales(bits):
    weight = np.random.default_rng(0).laplace(size=(8, 500)).astype(np.float32)
    codes, scales = _core.quantize_weights(weight, bits)
    most = 2 ** (bits - 1) - 1
    own = ((weight - codes * scales[:, None].astype(np.float64)) ** 2).sum(axis=1)
    for share in np.linspace(0.05, 1.2, 400):
        scale = share * np.abs(weight).max(axis=1, keepdims=True) / most
        other = np.clip(np.rint(weight / scale), -most, most) * scale
        assert (own <= ((weight - other) ** 2).sum(axis=1) * 1.03).all(), share


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_every_layer_has_so_many_bits(bits, per_channel, trained, digits):
    config = fm.Static(calibration=digits.train, weight_bits=bits, per_channel=per_channel)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # two bits disturb more than is usual
        q = fm.quantize(trained, config)
    for name in ("linear1", "linear2", "linear3"):
        layer = q.get_submodule(name)
        assert int(layer.weight_int8.abs().max()) <= 2 ** (bits - 1) - 1
        assert (len(layer.weight_scale.unique()) > 1) == per_channel
    said = str(fm.changes(q)[-1])
    assert (f"weights of {bits} bits" in said) == (bits < 8)
    x = digits.test.images[:40]
    assert torch.equal(torch.as_tensor(fm.compile(q)(x)), q(x.float() / 255))


def test_layers_can_differ(trained):
    bits = {"linear3": 8, "linear[12]": 4}
    q = fm.quantize(trained, fm.Dynamic(weight_bits=bits))
    largest = [int(q.get_submodule(f"linear{i}").weight_int8.abs().max()) for i in (1, 2, 3)]
    assert largest == [7, 7, 127]
    every = fm.quantize(trained, fm.Dynamic(weight_bits={"linear2": 3, "*": 5}))
    assert int(every.linear2.weight_int8.abs().max()) <= 3
    assert int(every.linear1.weight_int8.abs().max()) <= 15
    nested = nn.Sequential(nn.Sequential(nn.Linear(12, 9), nn.ReLU()), nn.Linear(9, 4))
    q = fm.quantize(nested, fm.Dynamic(weight_bits={"0": 4}))
    assert int(q[0][0].weight_int8.abs().max()) <= 7 < int(q[1].weight_int8.abs().max())


def test_recurrent_layers_and_cells():
    model = nn.ModuleDict({"lstm": nn.LSTM(6, 5), "cell": nn.GRUCell(6, 5), "out": nn.Linear(5, 2)})

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = model

        def forward(self, x):
            y, _ = self.parts["lstm"](x)
            return self.parts["out"](y[-1] + self.parts["cell"](x[0]))

    q = fm.quantize(Net(), fm.Dynamic(weight_bits={"*lstm": 4, "*cell": 3}))
    codes = {n: int(b.abs().max()) for n, b in q.named_buffers() if n.endswith("weight_int8")}
    assert all(most <= 7 for name, most in codes.items() if "lstm" in name)
    assert all(most <= 3 for name, most in codes.items() if "cell" in name)
    assert codes["parts.out.weight_int8"] == 127


@pytest.mark.parametrize(
    ("bits", "kind", "text"),
    [
        (1, ValueError, "weight_bits: expected from 2 to 8 bits, got 1"),
        (9, ValueError, "weight_bits: expected from 2 to 8 bits, got 9"),
        (4.0, TypeError, "weight_bits: expected an int"),
        (True, TypeError, "weight_bits: expected an int"),
        ("4", TypeError, "weight_bits: expected an int"),
        ({}, ValueError, "empty mapping"),
        ({"0": 12}, ValueError, r"weight_bits\['0'\]: expected from 2 to 8"),
        ({0: 4}, TypeError, "names of layers"),
        ({"nope": 4}, ValueError, "got 'nope'"),
    ],
)
@pytest.mark.parametrize("way", ["static", "dynamic", "qat", "prepare"])
def test_refused(bits, kind, text, way):
    model = mlp()
    before = snapshot(model)
    make = {
        "static": lambda: fm.quantize(model, fm.Static(calibration=X, weight_bits=bits)),
        "dynamic": lambda: fm.quantize(model, fm.Dynamic(weight_bits=bits)),
        "qat": lambda: fm.prepare_qat(model, fm.QAT(weight_bits=bits)),
        "prepare": lambda: fm.prepare(model, fm.Static(weight_bits=bits)),
    }[way]
    with pytest.raises(kind, match=text):
        make()
    assert_unchanged(model, before)


# ---- training ------------------------------------------------------------------------------------


def test_prepared_by_hand_as_all_at_once(trained, digits):
    x = digits.train.images[:512].float() / 255
    prepared = fm.prepare(trained, fm.Static(weight_bits=4))
    prepared(x)
    q = fm.quantize(trained, fm.Static(calibration=x, weight_bits=4))
    assert torch.equal(fm.convert(prepared).linear1.weight_int8, q.linear1.weight_int8)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_training_simulates_what_is_converted(bits, per_channel, trained, digits):
    model = fm.prepare_qat(trained, fm.QAT(weight_bits=bits, per_channel=per_channel))
    steps = model.linear1.weight_step
    assert (steps is None) == (bits == 8)
    if steps is not None:
        assert [*steps.shape] == ([96] if per_channel else [1])
        first = steps.detach().clone()
    fm.train(model, digits, epochs=2, seed=0)
    if steps is not None:
        assert not torch.equal(model.linear1.weight_step, first)
    q = fm.convert(model)
    x = digits.test.images[:60].float() / 255
    assert torch.equal(model.eval()(x), q(x))
    assert int(q.linear1.weight_int8.abs().max()) <= 2 ** (bits - 1) - 1
    plain = fm.quantize(trained, fm.Static(calibration=digits.train, weight_bits=bits, check=0.1))
    assert fm.evaluate(q, digits) >= fm.evaluate(plain, digits) - 0.03


def test_the_gradients_of_steps_are_those_of_the_paper():
    """LSQ, equation 3: round(w/s) - w/s inside, ±most outside, times 1/sqrt(count · most)."""
    from fastmnist.int8.quantizer import WeightRule
    from fastmnist.layers.fake_quantize import fake_weight_learned

    rule = WeightRule(bits=3)
    weight = torch.tensor([[0.1, -0.26, 0.9, -5.0], [0.4, 0.1, 0.0, 2.0]], requires_grad=True)
    steps = torch.tensor([0.2, 0.5], requires_grad=True)
    values = fake_weight_learned(weight, steps, rule)
    torch.testing.assert_close(
        values, torch.tensor([[0.0, -0.2, 0.6, -0.6], [0.5, 0.0, 0.0, 1.5]]), atol=1e-6, rtol=0
    )
    values.sum().backward()
    ratio = weight.detach() / steps.detach()[:, None]
    inside = ratio.abs() <= 3
    own = torch.where(inside, torch.round(ratio) - ratio, 3 * ratio.sign())
    torch.testing.assert_close(steps.grad, own.sum(dim=1) / (4 * 3) ** 0.5)
    assert torch.equal(weight.grad, inside.float())


def test_pixels_with_a_mean_and_table_columns(digits):
    """Where the input's scales are folded into columns, scales come with the data."""
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1.0, 100.0, 0.01, 5.0, 1.0, 1000.0]
    )
    y = (rows[:, 0] > 0).long()
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    trainable = fm.prepare_qat(model, fm.QAT(weight_bits=4, per_feature=True))
    fm.train(trainable, (rows, y), epochs=2, seed=0)
    q = fm.convert(trainable)
    assert torch.equal(trainable.eval()(rows), q(rows))
    assert int(q[0].weight_int8.abs().max()) <= 7


def test_prepared_models_travel(trained, digits):
    model = fm.prepare_qat(trained, fm.QAT(weight_bits=4))
    fm.train(model, digits, epochs=1, seed=0)
    x = digits.test.images[:20].float() / 255
    want = model.eval()(x)
    assert torch.equal(copy.deepcopy(model)(x), want)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), want)
    other = fm.prepare_qat(fm.NeuralNetwork(), fm.QAT(weight_bits=4))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), want)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model.train()(x).float()).all()


def test_scales_that_diverged_are_named():
    prepared = fm.prepare_qat(mlp(), fm.QAT(weight_bits=4)).train()
    prepared(torch.rand(20, 12))
    with torch.no_grad():
        prepared[3].weight_step[2] = float("nan")
    with pytest.raises(ValueError, match="layer '3': expected finite scales in its weight_step"):
        fm.convert(prepared)
