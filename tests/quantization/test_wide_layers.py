"""Layers with more inputs than int8 sums can hold stay in float, and are listed."""

from __future__ import annotations

import pytest
import torch
from models import make
from torch import nn

import fastmnist as fm
from fastmnist.int8.network import MAX_INPUTS
from fastmnist.measuring.sqnr import sqnr

WIDE = MAX_INPUTS + 1
ROWS = torch.rand(4, WIDE, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDE, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def aware(model: nn.Module) -> nn.Module:
    prepared = fm.prepare_qat(model, fm.QAT()).train()
    prepared(ROWS)
    return fm.convert(prepared)


def prepared(model: nn.Module) -> nn.Module:
    watching = fm.prepare(model, fm.Static())
    watching(ROWS)
    return fm.convert(watching)


WAYS = {
    "Dynamic": lambda model: fm.quantize(model, fm.Dynamic()),
    "Static": lambda model: fm.quantize(model, fm.Static(ROWS)),
    "prepare": prepared,
    "QAT": aware,
    "quantize_dynamic": lambda model: fm.quantize_dynamic(model, {nn.Linear}),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_wide_layer_stays_in_float_and_is_listed(way) -> None:
    model = make(network)
    q = way(model)
    told = {change.layer: str(change) for change in fm.changes(q)}
    assert "65,536" in told["0"]
    assert "int8" in told["2"]
    assert torch.equal(q[0].weight, model[0].weight)
    assert sqnr(model(ROWS).detach(), q(ROWS)) > 25


def test_just_as_many_as_there_may_be_becomes_int8() -> None:
    model = nn.Sequential(nn.Linear(MAX_INPUTS, 2)).eval()
    q = fm.quantize(model, fm.Dynamic())
    assert "weight_int8" in dict(q[0].named_buffers())


@pytest.mark.parametrize("include", [None, "0"])
def test_a_model_with_none_but_wide_layers_is_refused_by_name(include: str | None) -> None:
    model = make(network) if include else nn.Sequential(nn.Linear(WIDE, 2))
    with pytest.raises(ValueError, match=r"layer '0': expected at most 65536 inputs, got 65537"):
        fm.quantize(model, fm.Dynamic(), include=include)


def test_a_wide_lstm_stays_in_float() -> None:
    model = nn.ModuleDict({"lstm": nn.LSTM(WIDE, 2), "head": nn.Linear(2, 2)})
    q = fm.quantize(model, fm.Dynamic())
    assert type(q["lstm"]) is nn.LSTM
    assert "65,536" in next(str(change) for change in fm.changes(q) if change.layer == "lstm")


def test_sixteen_bits_have_no_such_limit() -> None:
    half = fm.quantize(make(network), fm.Half())
    assert half[0].weight.dtype == torch.bfloat16


def test_a_compiled_network_has_it_in_float() -> None:
    model = make(network).requires_grad_(False)
    for net in (fm.compile(model, ROWS), fm.compile(model)):
        assert getattr(net.layers[0], "kind", "") == "float"
        assert sqnr(model(ROWS), net(ROWS)) > 25
