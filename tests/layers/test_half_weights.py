"""Float16 weights under float32 arithmetic: torch.ao's dynamic float16."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import Encoder, Residual, X, mlp, quality, randomize, same
from torch import nn

import fastmnist as fm
from fastmnist.layers.half_weights import HalfWeightLinear, HalfWeightRecurrent


@pytest.mark.parametrize("make", [mlp, Residual])
def test_as_weights_that_were_rounded(make):
    model = make().eval()
    q = fm.quantize_dynamic(model, {nn.Linear}, dtype=torch.float16)
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for layer in rounded.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(layer.weight.half())
        assert torch.allclose(q(X), rounded(X), atol=1e-6)
    layers = [m for m in q.modules() if isinstance(m, HalfWeightLinear)]
    assert all(layer.weight.dtype == torch.float16 for layer in layers)
    assert all(layer.bias.dtype == torch.float32 for layer in layers)
    assert {str(c).partition(": ")[2] for c in fm.changes(q) if "16" in str(c)} == {
        "float16, weights"
    }


@pytest.mark.parametrize("size", [1e-6, 1.0, 7e4, 1e30])
def test_activations_of_any_size(size):
    model = randomize(mlp())
    model.append(nn.Tanh())
    q = fm.quantize_dynamic(model, {nn.Linear}, dtype=torch.float16)
    assert quality(model, q, size * X) > 50


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers(kind):
    torch.manual_seed(0)
    owner = kind(12, 8, 2, batch_first=True).eval()
    q = fm.quantize_dynamic(owner, {kind}, dtype=torch.float16)
    assert isinstance(q, HalfWeightRecurrent)
    assert all(p.dtype == torch.float16 for p in q.parameters())
    x = torch.randn(3, 5, 12) * 1e5  # beyond float16
    with torch.no_grad():
        assert torch.allclose(q(x)[0], owner(x)[0], atol=0.02)
    q.flatten_parameters()
    assert (q.num_layers, q.hidden_size) == (2, 8)


def test_it_travels(tmp_path):
    q = fm.quantize_dynamic(mlp(), {nn.Linear}, dtype=torch.float16)
    expected = q(X)
    size = len(pickle.dumps(mlp()))
    assert len(pickle.dumps(q)) < size + 2000  # what was widened is not in it
    for again in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q), copy.deepcopy(q).double()):
        assert same(again(X), expected)
        assert again[0].weight.dtype == torch.float16
    path = tmp_path / "half.safetensors"
    fm.save(path, {"half": q})
    assert same(fm.load(path)["half"](X), expected)
    fresh = fm.quantize_dynamic(mlp(), {nn.Linear}, dtype=torch.float16)
    with torch.no_grad():
        fresh[0].weight.mul_(2)
    assert not same(fresh(X), expected)  # what was widened follows what is written
    fresh.load_state_dict(q.state_dict())
    assert same(fresh(X), expected)
    assert same(torch.compile(q, fullgraph=True, backend="eager")(X), expected)
    torch._dynamo.reset()
    assert same(torch.export.export(q, (X,)).module()(X), expected)


def test_in_transformers_and_in_place():
    model = randomize(Encoder())
    x = torch.randn(2, 5, 12)
    q = fm.quantize_dynamic(model, dtype=torch.float16)
    assert quality(model, q, x) > 50
    model = mlp().eval()
    expected = fm.quantize_dynamic(model, dtype=torch.float16)(X)
    assert fm.quantize_dynamic(model, dtype=torch.float16, inplace=True) is model
    assert same(model(X), expected)


def test_errors():
    q = fm.quantize_dynamic(mlp(), {nn.Linear}, dtype=torch.float16)
    with pytest.raises(TypeError, match=r"input: expected floats, got torch\.uint8"):
        q[0](torch.zeros(2, 12, dtype=torch.uint8))
    model = mlp()
    with torch.no_grad():
        model[3].weight[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"layer '3': .*65504.* weight.*use torch.bfloat16"):
        fm.quantize_dynamic(model, {nn.Linear}, dtype=torch.float16)
