"""Inputs and weights of unusual kinds: right, or refused with advice."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fastmnist as fm

X = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
CONFIGS = {"int8": fm.Dynamic(), "half": fm.Half()}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("model", [net(), nn.LSTM(16, 8).eval()], ids=["linear", "lstm"])
def test_what_is_no_tensor_is_refused(config, model):
    q = fm.quantize(model, CONFIGS[config])
    for rows in (X.numpy(), X.tolist(), None):
        with pytest.raises((TypeError, ValueError), match=r"input: expected a t"):
            q(rows)


@pytest.mark.parametrize("convert", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr])
def test_sparse_rows_are_refused_by_int8_layers(convert):
    with pytest.raises(TypeError, match=r"dense tensor, got .*use input.to_dense\(\)"):
        fm.quantize(net(), fm.Dynamic())(convert(X))
    nested = torch.nested.nested_tensor([X[:2], X[2:]])
    with pytest.raises(TypeError, match="to_padded_tensor"):
        fm.quantize(net(), fm.Dynamic())(nested)


@pytest.mark.parametrize("kind", ["buffer", "attribute"])
def test_half_of_weights_that_are_no_parameters(kind):
    model = net()
    expected = fm.quantize(model, fm.Half())
    weight = model[0].weight.detach()
    del model[0].weight
    if kind == "buffer":
        model[0].register_buffer("weight", weight)
    else:
        model[0].weight = weight
    half = fm.quantize(model, fm.Half())
    assert torch.equal(half(X), expected(X))
    assert {t.dtype for t in half.state_dict().values()} == {torch.bfloat16}
    assert model[0].weight is weight


def test_half_models_are_made_from_float_ones():
    half = fm.quantize(net(), fm.Half())
    for way in (lambda: fm.compile(half, X), lambda: fm.quantize(half, fm.Dynamic())):
        with pytest.raises(ValueError, match="16-bit layers: give the float model"):
            way()


def test_a_summary_given_rows_names_example():
    for rows in ((X, X), X, {"x": X}, [X]):
        with pytest.raises(ValueError, match="give example=") as raised:
            fm.summary(net(), rows)
        assert len(str(raised.value)) < 250
