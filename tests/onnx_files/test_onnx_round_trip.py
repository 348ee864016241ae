"""What fm.export_onnx wrote, fm.import_onnx brings back: the same codes, the same bits."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from graph_models import (
    ACTIVATIONS,
    JOINS,
    OTHER,
    POSITIONS,
    WAYS,
    ActorCritic,
    Block,
    Joined,
    X,
    assert_same_bits,
    made,
)
from onnx_runs import run
from torch import nn

import fastmnist as fm
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.pixels import PixelNormalization, model_pixels

ALL_WAYS = {**WAYS, "float": lambda model, rows: model}


def chain(act):
    return nn.Sequential(nn.Linear(12, 16), act(), nn.Linear(16, 16), act(), nn.Linear(16, 4))


def behind_a_join(act):
    return Joined(lambda m, x: m.d(m.others[0](m.a(x) + m.b(x))), act())


def there_and_back(model, path, opset=21, **options):
    return fm.import_onnx(fm.export_onnx(model, path, opset, **options))


@pytest.mark.parametrize(
    ("way", "opset"), [("Static", 21), ("Dynamic", 13), ("float", 13), ("float", 21)]
)
@pytest.mark.parametrize("name", [*JOINS, *(f"act {n}" for n in ACTIVATIONS),
                                  *(f"join {n}" for n in ACTIVATIONS)])  # fmt: skip
def test_the_same_bits(name, way, opset, tmp_path):
    kind, _, act = name.partition(" ")
    places = {"act": chain, "join": behind_a_join}
    make = JOINS.get(name) or (lambda: places[kind](ACTIVATIONS[act]))
    q = ALL_WAYS[way](made(make), X)
    net = fm.compile(q)
    back = there_and_back(q, tmp_path / "net.onnx", opset)
    assert_same_bits(net(X), fm.compile(back, example=X)(X), name)
    if way != "float":  # of float layers torch rounds otherwise than kernels do
        with torch.no_grad():
            assert_same_bits(net(X), back(X), name)


@pytest.mark.parametrize("way", ALL_WAYS)
def test_several_inputs_and_outputs(way, tmp_path):
    q = ALL_WAYS[way](made(ActorCritic), {"state": X, "goal": OTHER})
    net = fm.compile(q)
    back = fm.compile(there_and_back(q, tmp_path / "net.onnx"), example=(X, OTHER))
    assert_same_bits(net(X, OTHER), back(goal=OTHER, state=X))


@pytest.mark.parametrize("way", ALL_WAYS)
def test_rows_of_positions(way, tmp_path):
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.across, self.head = Block(12), nn.Linear(5, 5), nn.Linear(12, 3)
            self.slope = nn.PReLU(5)

        def forward(self, x):
            x = self.block(x)
            x = x + self.across(x.transpose(1, 2)).transpose(1, 2)
            return self.head(self.slope(x).mean(1))

    q = ALL_WAYS[way](made(Mixer), POSITIONS)
    net = fm.compile(q, example=POSITIONS)
    path = fm.export_onnx(q, tmp_path / "net.onnx", example=POSITIONS)
    back = fm.compile(fm.import_onnx(path), example=POSITIONS)
    assert_same_bits(net(POSITIONS), back(POSITIONS))
    got = run(path, POSITIONS.numpy())[0]
    assert np.abs(got - net(POSITIONS).numpy()).max() < 0.05 * np.abs(got).max()


@pytest.mark.parametrize("config", [
    lambda: fm.Static(X), lambda: fm.Dynamic(), lambda: fm.Static(X, weight_bits=4),
    lambda: fm.Dynamic(weight_bits=3), lambda: fm.Static(X, per_channel=False),
])  # fmt: skip
def test_layers_hold_the_same_numbers(config, tmp_path):
    q = fm.quantize(chain(nn.ReLU), config())
    back = there_and_back(q, tmp_path / "net.onnx")
    assert isinstance(back, nn.Sequential)
    ours = [m for m in q.modules() if isinstance(m, QuantizedLinear)]
    theirs = [m for m in back.modules() if isinstance(m, QuantizedLinear)]
    assert [type(m) for m in back] == [nn.Flatten, *[QuantizedLinear] * 3]  # rows of any shape
    for a, b in zip(ours, theirs, strict=True):
        assert (a.name, a.kind, a.clamp) == (b.name, b.kind, b.clamp)
        assert {*a.state_dict()} == {*b.state_dict()}
        for key, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[key]), key


@pytest.mark.parametrize("columns", [True, False])
def test_a_scale_for_each_column(columns, tmp_path):
    rows = X * torch.logspace(-3, 3, 12)
    norm = nn.BatchNorm1d(12) if columns else nn.Identity()
    model = nn.Sequential(norm, nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    model(rows)
    q = fm.quantize(model.eval(), fm.Static(rows))
    back = there_and_back(q, tmp_path / "net.onnx")
    assert_same_bits(q(rows), back(rows))
    assert next(m.kind for m in back.modules() if isinstance(m, QuantizedLinear)) == (
        "affine" if columns else "static"
    )


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("options", [
    {"mean": 0.0, "std": 1.0}, {"mean": 0.1307, "std": 0.3081}, {"pixels": "0..255"},
    {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.4, 0.3)},
])  # fmt: skip
@pytest.mark.parametrize("way", ["Static", "Dynamic", "float"])
def test_pixels_keep_their_meaning(options, way, kind, tmp_path):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50, 12), dtype=np.uint8))
    model = made(lambda: chain(nn.ReLU))
    if way == "Static":
        net = fm.compile(model, images, **options)
    else:
        net = fm.compile(model, dynamic=way == "Dynamic", **options)
    back = there_and_back(net, tmp_path / "net.onnx", input=kind)
    assert model_pixels(back) == net.pixels
    again = fm.compile(back)
    assert again.pixels == net.pixels
    assert_same_bits(net(images), again(images))
    real = net.pixels.to_float(images)
    assert_same_bits(net(real), again(real))


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("way", ["Static", "Dynamic"])
def test_images(way, kind, tmp_path):
    images = torch.randint(0, 256, (30, 3, 4, 4), dtype=torch.uint8)
    told = PixelNormalization((0.1, 0.2, 0.3), (0.5, 0.4, 0.3))
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 3))
    named = {"mean": told.mean, "std": told.std}
    config = fm.Static(images, **named) if way == "Static" else fm.Dynamic(**named)
    q = fm.quantize(model, config)
    path = fm.export_onnx(q, tmp_path / "net.onnx", input=kind, example=images)
    rows = told.to_float(images)
    got = run(path, (images if kind == "uint8" else rows).numpy())[0]
    with torch.no_grad():
        assert np.abs(got - q(rows).numpy()).max() < 0.05
    back = fm.compile(fm.import_onnx(path), example=rows)
    net = fm.compile(q)
    assert_same_bits(net(images), back(images))
    assert_same_bits(net(rows), back(rows))


@pytest.mark.parametrize("name", ["add", "GLU", "cat of slices"])
def test_what_comes_back_is_a_model_like_any_other(name, tmp_path):
    model = made(JOINS[name])
    back = there_and_back(model, tmp_path / "net.onnx")
    assert not back.training
    for way in WAYS.values():
        q = way(back, X)
        assert any(isinstance(m, QuantizedLinear) for m in q.modules())
        net = fm.compile(q)
        with torch.no_grad():
            assert_same_bits(q(X), net(X))
    pruned = fm.prune(back, fm.L1Unstructured(0.5))
    assert fm.sparsity(pruned) is not None
    with torch.no_grad():
        for copied in (copy.deepcopy(back), pickle.loads(pickle.dumps(back))):
            assert torch.equal(copied(X), back(X))
        torch.testing.assert_close(back(X), model(X))


def test_it_is_saved_and_trained(tmp_path, digits):
    back = there_and_back(fm.NeuralNetwork(), tmp_path / "net.onnx", example=digits.test.images[:2])
    fm.train(back, digits, epochs=1)
    assert fm.evaluate(back, digits) > 0.5
    fm.save(tmp_path / "net.safetensors", back)
    loaded = fm.load(tmp_path / "net.safetensors")
    rows = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(loaded(rows), back(rows))
