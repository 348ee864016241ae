"""Half precision: torch's own kernels, floats in and out, and what modules need to do."""

from __future__ import annotations

import copy
import io
import os
import pickle

import pytest
import torch
from models import Convolutional, Encoder, Functional, Residual, mlp, randomize, same
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
import fastmnist.layers.half as half_module
from fastmnist.layers.half import HalfLinear
from fastmnist.measuring.sqnr import sqnr

X = torch.randn(70, 12, generator=torch.Generator().manual_seed(3))
TYPES = [torch.bfloat16, torch.float16]


def layers(model):
    return [m for m in model.modules() if isinstance(m, HalfLinear)]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("make", [mlp, Functional, Residual])
def test_close_to_float_and_float_out(dtype, make):
    model = randomize(make()).eval()
    half = fm.quantize(model, fm.Half(dtype))
    with torch.no_grad():
        y, expected = half(X), model(X)
    assert y.dtype == torch.float32
    tolerance = 0.03 if dtype == torch.bfloat16 else 0.004
    assert (y - expected).abs().max() <= tolerance * expected.abs().max()
    assert all(layer.weight.dtype == dtype for layer in layers(half))
    assert {c.kind for c in fm.changes(half) if "16" in c.what} == {str(dtype)[6:]}


@pytest.mark.parametrize("dtype", TYPES)
def test_it_is_torchs_own_arithmetic(dtype, monkeypatch):
    monkeypatch.setitem(half_module.NATIVE, dtype, True)
    monkeypatch.setattr(half_module, "_ENOUGH", 0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    half = fm.quantize(model, fm.Half(dtype))
    other = copy.deepcopy(model).to(dtype)
    with torch.no_grad():
        expected = other(X.to(dtype)).float()
        assert same(half(X), expected)
        hidden = F.relu(F.linear(X.to(dtype), other[0].weight, other[0].bias))
        assert half[0](X).dtype == torch.float32  # each layer stands alone
        assert torch.equal(half[0](X), hidden)


@pytest.mark.parametrize("dtype", TYPES)
def test_without_native_products_it_is_float32_of_the_same_weights(dtype, monkeypatch):
    monkeypatch.setitem(half_module.NATIVE, dtype, False)
    model = mlp()
    half = fm.quantize(model, fm.Half(dtype))
    assert "computed in float32: the CPU has no" in str(fm.changes(half)[-1])
    widened = copy.deepcopy(model).to(dtype).float().eval()
    assert same(half(X), widened(X))
    many = torch.randn(50_000, 12)
    assert same(half(many), widened(many))


@pytest.mark.parametrize("change", ["copy_", "assigned", "loaded", "copied"])
def test_what_was_widened_follows_the_weights(change, monkeypatch):
    monkeypatch.setitem(half_module.NATIVE, torch.bfloat16, False)
    half = fm.quantize(nn.Sequential(nn.Linear(12, 4)), fm.Half())
    half(X)
    ones = torch.ones(4, 12, dtype=torch.bfloat16)
    if change == "copied":
        half = pickle.loads(pickle.dumps(copy.deepcopy(half)))
        assert "_wide" not in vars(half[0])
    if change == "assigned":
        half[0].weight = nn.Parameter(ones, requires_grad=False)
    elif change == "loaded":
        half.load_state_dict({"0.weight": ones, "0.bias": half[0].bias.clone()})
    else:
        half[0].weight.copy_(ones)
    assert torch.allclose(half(X), X.sum(1, keepdim=True) + half[0].bias.float(), atol=1e-5)


def test_recurrent_layers_too(monkeypatch):
    monkeypatch.setitem(half_module.NATIVE, torch.bfloat16, False)
    rows = torch.randn(2, 5, 12)
    half = fm.quantize(nn.LSTM(12, 8), fm.Half())
    owner = copy.deepcopy(half.inner).float()
    assert torch.equal(half(rows)[0], owner(rows)[0])
    with torch.no_grad():
        half.inner.weight_hh_l0.zero_()
        owner.weight_hh_l0.zero_()
    assert torch.equal(half(rows)[0], owner(rows)[0])
    assert copy.deepcopy(half)._widened.value is None


def test_the_choice_by_rows_is_between_two_roundings(monkeypatch):
    monkeypatch.setitem(half_module.NATIVE, torch.bfloat16, True)
    half = fm.quantize(nn.Sequential(nn.Linear(12, 4)), fm.Half())
    many = torch.randn(half_module._ENOUGH // 48 + 1, 12)
    assert sqnr(half(many[:64]), half(many)[:64]) > 40


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("make", [mlp, Functional, Residual, Convolutional])
def test_files_pickles_and_state(dtype, make, tmp_path):
    model = randomize(make()).eval()
    x = torch.randn(3, 1, 28, 28) if make is Convolutional else X
    try:
        with torch.no_grad():
            model(x)
    except RuntimeError:
        x = torch.randn(3, 1, 8, 8)
    half = fm.quantize(model, fm.Half(dtype))
    expected = half(x)
    for again in (pickle.loads(pickle.dumps(half)), copy.deepcopy(half), half.float()):
        assert same(again(x), expected)
        assert layers(again)[0].weight.dtype == dtype
    path = tmp_path / "half.safetensors"
    fm.save(path, half)
    loaded = fm.load(path) if make in (mlp, Functional) else fm.load(path, into=make())
    assert same(loaded(x), expected)
    assert layers(loaded)[0].weight.dtype == dtype
    fm.save(tmp_path / "float.safetensors", model)
    if make is mlp:
        sizes = [os.path.getsize(tmp_path / f"{n}.safetensors") for n in ("half", "float")]
        assert sizes[0] < sizes[1]
    buffer = io.BytesIO()
    torch.save(half.state_dict(), buffer)
    buffer.seek(0)
    fresh = fm.quantize(randomize(make(), seed=5), fm.Half(dtype))
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert same(fresh(x), expected)


def test_the_file_is_half_as_large(tmp_path):
    model = fm.NeuralNetwork()
    for name, variant in {"float": model, "half": fm.quantize(model, fm.Half())}.items():
        fm.save(tmp_path / name, variant)
    assert os.path.getsize(tmp_path / "half") < 0.51 * os.path.getsize(tmp_path / "float")


@pytest.mark.slow
def test_a_row_in_compare(digits):
    model = fm.NeuralNetwork()
    variants = {"original": model, "bfloat16": fm.quantize(model, fm.Half(torch.bfloat16))}
    report = fm.compare(variants, digits, rounds=1)
    assert report["bfloat16"].layers_changed == 3
    assert report["bfloat16"].disk < 0.51 * report["original"].disk
    assert abs(report["bfloat16"].difference) < 0.02
    assert "bfloat16" in fm.variants(model, digits)


def test_under_torch_compile_and_export():
    # What is compiled is so for any number of rows: of the type itself where the CPU has that.
    for dtype, floor in ((torch.bfloat16, 40), (torch.float16, 55)):
        half = fm.quantize(mlp(), fm.Half(dtype))
        expected = half(X)
        compiled = torch.compile(half, fullgraph=True, backend="eager")(X)
        torch._dynamo.reset()
        exported = torch.export.export(half, (X,)).module()(X)
        assert same(compiled, exported)
        assert sqnr(expected, compiled) > floor


def test_quantize_dynamic_takes_the_types():
    for dtype in TYPES:
        q = fm.quantize_dynamic(mlp(), {nn.Linear}, dtype=dtype)
        assert q[0].weight.dtype == dtype
    q = fm.quantize_dynamic(randomize(Encoder()), {nn.Linear}, dtype=torch.float16)
    assert q(torch.randn(2, 5, 12)).dtype == torch.float32


def test_errors():
    model = mlp()
    with torch.no_grad():
        model[3].weight[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"layer '3': .*65504.* weight.*use torch.bfloat16"):
        fm.quantize(model, fm.Half(torch.float16))
    assert fm.quantize(model, fm.Half(torch.float16), exclude="3")
    for dtype in (torch.float32, torch.int8, "half", None):
        with pytest.raises(ValueError, match=r"dtype: expected torch.bfloat16 or torch.float16"):
            fm.quantize(mlp(), fm.Half(dtype))
    with pytest.raises(TypeError, match=r"input: expected floats, got torch\.uint8"):
        fm.quantize(mlp(), fm.Half())(X.to(torch.uint8))
    with pytest.raises(ValueError, match=r"'0' \(HalfLinear\): it is no layer"):
        fm.compile(fm.quantize(mlp(), fm.Half()))
