"""Which layers eager rules quantize: the same as torch.ao, by attributes, dicts and specs."""

from __future__ import annotations

import pytest
import torch
from beside_torch import ALL, QUIET, X, made, quantized
from torch import nn

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist.layers.half_weights import HalfWeightLinear
from fastmnist.measuring.sqnr import sqnr

ao = pytest.importorskip("torch.ao.quantization")
pytestmark = QUIET


def attribute(**qconfigs):
    """Set ``qconfig`` of modules by name; "model" is the whole."""

    def said(lib, model):
        for name, value in qconfigs.items():
            module = model if name == "model" else model.get_submodule(name.replace("_", "."))
            module.qconfig = None if value is None else getattr(lib, value)

    return said


def propagated(lib, model):
    rules = {"": lib.default_qconfig, "head": None, "body": None, "body.0": lib.default_qconfig}
    lib.propagate_qconfig_(model, rules)


def propagated_by_type(lib, model):
    model.head.qconfig = None
    lib.propagate_qconfig_(model, {nn.Linear: lib.default_qconfig, "body.0": None})


EAGER = {
    "everything": (attribute(model="default_qconfig"), ALL),
    "but one": (attribute(model="default_qconfig", head=None), ALL[:3]),
    "but a container": (attribute(model="default_qconfig", body=None), ["fc1", "head"]),
    "one of a container": (
        attribute(model="default_qconfig", body=None, body_2="default_qconfig"),
        ["fc1", "body.2.0", "head"],
    ),
    "one alone": (attribute(body="get"), ["body.0", "body.2.0"]),
    "nothing": (attribute(head=None), []),
    "propagate_qconfig_ by name": (propagated, ["fc1", "body.0"]),
    "propagate_qconfig_ by type": (propagated_by_type, ["fc1", "body.2.0"]),
}


@pytest.mark.parametrize("name", EAGER)
@pytest.mark.filterwarnings("ignore:None of the submodule", "ignore:model. expected a layer")
def test_attributes(name):
    said, expected = EAGER[name]
    found = {}
    for lib in (ao, tq):
        model = made(lib)
        if name == "one alone":
            model.body.qconfig = lib.default_qconfig
        else:
            said(lib, model)
        prepared = lib.prepare(model)
        prepared(X)
        q = lib.convert(prepared)
        found[lib] = quantized(q, lib)
        assert not any(hasattr(m, "qconfig") for m in q.modules())
    assert found[tq] == found[ao] == expected


class Tagger(nn.Module):
    """Two kinds of layers that only dynamic quantization takes, and a Linear."""

    def __init__(self, lib=tq):
        super().__init__()
        self.words = nn.EmbeddingBag(20, 6, mode="sum")
        self.lstm = nn.LSTM(6, 8)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


SPECS = {
    "none": (lambda lib: None, torch.qint8),
    "a type": (lambda lib: {nn.Linear}, torch.qint8),
    "types": (lambda lib: {nn.Linear, nn.LSTM, nn.Conv1d}, torch.qint8),
    "float16": (lambda lib: {nn.Linear, nn.LSTM}, torch.float16),
    "embeddings": (lambda lib: None, torch.quint8),
    "embeddings, 4 bits": (lambda lib: None, torch.quint4x2),
    "a name": (lambda lib: {"head.0"}, torch.qint8),
    "a container": (lambda lib: {"head"}, torch.qint8),
    "its type": (lambda lib: {nn.Sequential}, torch.qint8),
    "a name beats a type": (
        lambda lib: {nn.Linear: lib.default_dynamic_qconfig, "head.2": None},
        torch.qint8,
    ),
    "a type beats its owner": (
        lambda lib: {"head": None, nn.Linear: lib.default_dynamic_qconfig},
        torch.qint8,
    ),
    "each its own": (
        lambda lib: {
            nn.EmbeddingBag: lib.float_qparams_weight_only_qconfig,
            nn.LSTM: lib.float16_dynamic_qconfig,
            "head.0": lib.per_channel_dynamic_qconfig,
        },
        torch.qint8,
    ),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("own", [False, True])
def test_dynamic_specs(name, own):
    spec, dtype = SPECS[name]
    found = {}
    for lib in (ao, tq):
        model = made(lib, Tagger)
        if own:  # a qconfig of a module's own beats every spec
            model.head[2].qconfig = None
        q = lib.quantize_dynamic(model, spec(lib), dtype=dtype)
        found[lib] = quantized(q, lib)
    assert found[tq] == found[ao] != []


def test_each_layer_as_its_qconfig_says():
    model = made(tq)
    model.qconfig = tq.default_qconfig
    model.fc1.qconfig = tq.float16_dynamic_qconfig
    model.body[0].qconfig = tq.per_channel_dynamic_qconfig
    model.body[2].qconfig = tq.default_dynamic_qconfig
    prepared = tq.prepare(model, inplace=True)
    expected = prepared(X).detach()
    assert tq.convert(prepared, inplace=True) is model
    assert type(model.fc1) is HalfWeightLinear
    assert [model.body[0].kind, model.body[2][0].kind, model.head.kind] == [
        "dynamic",
        "dynamic",
        "static",
    ]
    assert len(model.body[0].weight_scale.unique()) > 1
    assert len(model.body[2][0].weight_scale.unique()) == 1
    assert sqnr(expected, model(X)) > 35
    told = [str(c) for c in fm.changes(model)]
    assert not any("left in float" in sentence for sentence in told)
