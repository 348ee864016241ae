"""What an adversarial reader found, kept from coming back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

import fastmnist as fm
from fastmnist import _core


@pytest.mark.parametrize("size", [3e-6, 1e-5, 1e-3])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_small_floats_are_no_pixels(size, shift):
    torch.manual_seed(0)
    model = nn.Linear(8, 3)
    nn.init.uniform_(model.weight, -1 / size, 1 / size)
    x = (torch.rand(200, 8) - shift) * size
    quantized = fm.quantize(model, fm.Static(calibration=x))
    with torch.no_grad():
        assert (quantized(x) - model(x)).abs().max() < 0.05
    with pytest.raises(ValueError, match="saw no pixels"):
        quantized(torch.zeros(1, 8, dtype=torch.uint8))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.1307, 0.3081), (0.5, 0.5)])
def test_floats_of_pixels_still_are(mean, std):
    pixels = torch.arange(256, dtype=torch.uint8).reshape(4, 64)
    floats = pixels.float().div(255).sub(mean).div(std)
    config = fm.Static(calibration=floats, mean=mean, std=std)
    quantized = fm.quantize(nn.Sequential(nn.Linear(64, 3)), config)
    assert torch.equal(quantized(pixels), quantized(floats))
    if (mean, std) == (0.0, 1.0):
        found = fm.quantize(nn.Sequential(nn.Linear(64, 3)), fm.Static(calibration=floats))
        assert torch.equal(found(pixels), found(floats))


def test_subclasses_cannot_change_rows_between_view_and_use():
    class Sly(torch.Tensor):
        def is_neg(self):
            rows.set_(torch.empty(0).untyped_storage(), 0, (0,), (1,))
            return False

    net = fm.compile(nn.Sequential(nn.Linear(64, 5)), dynamic=True)
    rows = torch.rand(200, 64)
    with pytest.raises((TypeError, ValueError), match="out"):
        net(rows, out=torch.zeros(200, 5).as_subclass(Sly))


def test_out_behind_autograds_back():
    net = fm.compile(nn.Sequential(nn.Linear(4, 5)), dynamic=True)
    with pytest.raises(ValueError, match="does not require grad"):
        net(torch.rand(2, 4), out=torch.zeros(2, 5, requires_grad=True))
    with pytest.raises(TypeError, match=r"got torch\.float64"):
        net(torch.rand(2, 4), out=torch.zeros(2, 5, dtype=torch.float64))
    with pytest.raises(TypeError, match="not contiguous"):
        net(torch.rand(2, 4), out=torch.zeros(5, 2).T)


def test_instances_without_init():
    empty = fm.CompiledModel.__new__(fm.CompiledModel)
    row = np.zeros((1, 3), np.float32)
    uses = (lambda: empty(row), lambda: empty.predict(row), lambda: empty.unpack(0))
    for use in (*uses, lambda: empty.in_features):
        with pytest.raises(RuntimeError, match="never initialized"):
            use()
    assert empty.nbytes == 0
    with pytest.raises(ValueError, match="initialized"):
        _core.pack([_core.Layer.__new__(_core.Layer)], "static")


def described(path, chain, tensors):
    model = {"type": "module", "class": None, "pixels": None, "changes": [], "masked": [],
             "replaced": {}, "chain": chain}  # fmt: skip
    text = json.dumps({"format": 1, "single": False, "models": {"m": model}})
    save_file({f"m/{k}": v for k, v in tensors.items()}, path, {"fastmnist": text})
    return path


def test_long_and_empty_chains_in_files(tmp_path):
    path = tmp_path / "m.safetensors"
    flatten = {"type": "flatten", "path": "a"}
    some = np.zeros(1, np.float32)
    fm.load(described(path, [flatten] * 3000, {"x": some}))["m"]
    with pytest.raises(ValueError, match="at most"):
        fm.load(described(path, [flatten] * 5000, {"x": some}))["m"]
    linear = {"type": "linear", "path": "a", "shape": [0, 2**28], "bias": True}
    weight = np.zeros((2**28, 0), np.float32)
    with pytest.raises(ValueError, match="expected shape"):
        fm.load(described(path, [linear], {"a.weight": weight}))["m"]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.b = self.a
        self.c = nn.Linear(8, 2)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.sigmoid(self.a(x)))))


class Contiguous(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        return torch.relu(self.fc(x.contiguous()))


class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x.view(-1, 4))


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "m.safetensors"
    x = torch.rand(50, 8)
    quantized = fm.quantize(Tied(), fm.Static(calibration=x))
    fm.save(path, quantized)
    assert torch.equal(fm.load(path, into=Tied())(x), quantized(x))
    for model, rows in ((Contiguous(), torch.rand(2, 3, 8)), (Viewed(), torch.rand(6, 8))):
        fm.save(path, model)
        assert torch.equal(fm.load(path)(rows), model(rows))


def test_paths_that_are_none(tmp_path):
    for call in (lambda: fm.save(None, nn.Linear(2, 2)), lambda: fm.load(5)):
        with pytest.raises(TypeError, match="path: expected"):
            call()


def test_compiled_models_warn_of_other_pixels_too(digits):
    net = fm.compile(fm.NeuralNetwork(), digits.train)
    other = fm.load_dataset("digits", mean=0.5, std=0.25)
    with pytest.warns(UserWarning, match="load the data with the same"):
        fm.evaluate(net, other)


def test_compare_names_the_variant_that_does_not_fit():
    data = torch.rand(20, 8), torch.randint(0, 3, (20,))
    with pytest.raises(RuntimeError, match="variants: 'b' cannot"):
        fm.compare({"a": nn.Linear(8, 3), "b": nn.Linear(3, 3)}, data, rounds=1)
