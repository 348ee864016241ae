"""Compressed files leave empty neurons out, and answers stay as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.int8.empty_neurons import without_empty_neurons

X = torch.rand(40, 12, generator=torch.Generator().manual_seed(0)) * 2 - 0.5


def emptied() -> nn.Sequential:
    """12-10-8-3, some of whose neurons have no weights on one side or the other."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3)
        )
    with torch.no_grad():
        model[0].weight[[1, 4, 7]] = 0
        model[0].bias[1] = -0.5  # gives 0
        model[0].bias[4] = 0.7  # gives a constant
        model[0].bias[7] = 0.0
        model[2].weight[:, 5] = 0  # nobody reads it
        model[4].weight[:, 2] = 0
        model[2].weight[6] = 0  # gives what its bias is
        model[2].bias[6] = -1.0
    return model.eval()


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("compiled", [False, True])
def test_int8_models_lose_no_bit(kind, compiled, tmp_path):
    how = fm.Static(calibration=X) if kind == "static" else fm.Dynamic()
    model = fm.quantize(emptied(), how)
    model = fm.compile(model) if compiled else model
    fm.save(tmp_path / "m.safetensors", model, compress=True)
    loaded = fm.load(tmp_path / "m.safetensors")
    assert np.array_equal(np.asarray(loaded(X)), np.asarray(model(X)))
    layers = (
        loaded.network.layers if compiled else [loaded[i].network().layers[0] for i in (0, 2, 4)]
    )
    # Of a row's scale in a dynamic network all values are a part, so what gives some stays.
    want = [(12, 7), (7, 6), (6, 3)] if kind == "static" else [(12, 8), (8, 7), (7, 3)]
    assert [(layer.inputs, layer.outputs) for layer in layers] == want
    fm.save(tmp_path / "plain.safetensors", model)
    kept = fm.load(tmp_path / "plain.safetensors")
    assert (kept.network.layers if compiled else [kept[0].network().layers[0]])[0].outputs == 10


def test_float_models_stay_as_they_are(tmp_path):
    model = emptied()
    fm.save(tmp_path / "m.safetensors", model, compress=True)
    loaded = fm.load(tmp_path / "m.safetensors")
    assert loaded[0].out_features == 10
    assert torch.equal(loaded(X), model(X))


def test_a_class_comes_back_smaller(tmp_path, trained, digits):
    pruned = fm.prune(trained, fm.L1Unstructured(0.97))
    q = fm.quantize(pruned, fm.Static(calibration=digits.train))
    fm.save(tmp_path / "m.safetensors", q, compress=True)
    loaded = fm.load(tmp_path / "m.safetensors")
    x = digits.test.images[:30].float() / 255
    assert type(loaded) is fm.NeuralNetwork
    assert loaded.linear1.out_features < 96
    assert torch.equal(loaded(x), q(x))
    assert torch.equal(torch.as_tensor(fm.compile(loaded)(digits.test.images[:30])), q(x))


@pytest.mark.parametrize("code", ["view", "reshape", "attribute"])
def test_widths_that_forward_asks_for_stay(code, tmp_path):
    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = emptied()

        def forward(self, x):
            h = self.parts[1](self.parts[0](x))
            if code == "view":
                h = h.view(-1, 10)
            elif code == "reshape":
                h = h.reshape(x.shape[0], 10)
            elif self.parts[0].out_features != 10:
                h = 2 * h
            return self.parts[4](self.parts[3](self.parts[2](h)))

    q = fm.quantize(Asks(), fm.Static(calibration=X))
    fm.save(tmp_path / "m.safetensors", q, compress=True)
    loaded = fm.load(tmp_path / "m.safetensors", into=Asks())
    assert loaded.parts[0].out_features == 10
    assert torch.equal(loaded(X), q(X))


def test_models_that_are_no_chains_stay(tmp_path):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(12, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            h = self.a(x).relu()
            return self.c(h + self.b(h).relu())

    model = Branches().eval()
    with torch.no_grad():
        model.a.weight[2] = 0
    q = fm.quantize(model, fm.Static(calibration=X))
    fm.save(tmp_path / "m.safetensors", q, compress=True)
    loaded = fm.load(tmp_path / "m.safetensors", into=Branches())
    assert loaded.a.out_features == 6
    assert torch.equal(loaded(X), q(X))


def test_a_layer_keeps_one_neuron():
    network = fm.compile(fm.quantize(emptied(), fm.Static(calibration=X))).network
    for layer in network.layers:
        layer.weight[:] = 0
        layer.bias[:] = 0
    assert [layer.outputs for layer in without_empty_neurons(network).layers] == [1, 1, 3]


@pytest.mark.parametrize("act", [nn.Sigmoid(), nn.Softplus(), nn.LogSigmoid(), nn.GELU()], ids=str)
@pytest.mark.parametrize("static", [False, True])
def test_neurons_whose_activation_gives_a_constant_stay(act, static, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    model = nn.Sequential(nn.Linear(8, 16), act, nn.Linear(16, 4)).eval()
    with torch.no_grad():
        model[0].weight[:6] = 0
        model[0].bias[:6] = 0
    compiled = fm.compile(fm.quantize(model, fm.Static(x) if static else fm.Dynamic()))
    fm.save(tmp_path / "model", compiled, compress=True)
    assert torch.equal(fm.load(tmp_path / "model")(x), compiled(x))
