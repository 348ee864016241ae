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
from fastmnist.layers.half import HalfLinear

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
    assert {c.what for c in fm.changes(half) if "16" in c.what} == {str(dtype)[6:]}


@pytest.mark.parametrize("dtype", TYPES)
def test_it_is_torchs_own_arithmetic(dtype):
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
    half = fm.quantize(mlp(), fm.Half())
    expected = half(X)
    assert same(torch.compile(half, fullgraph=True, backend="eager")(X), expected)
    torch._dynamo.reset()
    assert same(torch.export.export(half, (X,)).module()(X), expected)


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
    with pytest.raises(ValueError, match="expected a quantized model"):
        fm.compile(fm.quantize(mlp(), fm.Half()))
