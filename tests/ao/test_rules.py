"""Which layers rules quantize: the same as torch.ao, in every mode, and as near the float model."""

from __future__ import annotations

import copy

import pytest
import torch
from models import quality
from torch import nn

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist.ao import quantize_fx as tfx
from fastmnist.layers.embedding import QuantizedEmbedding, QuantizedEmbeddingBag
from fastmnist.layers.half_weights import HalfWeightLinear, HalfWeightRecurrent
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.recurrent import QuantizedRecurrent
from fastmnist.measuring.sqnr import sqnr

ao = pytest.importorskip("torch.ao.quantization")
afx = pytest.importorskip("torch.ao.quantization.quantize_fx")

X = torch.randn(256, 12, generator=torch.Generator().manual_seed(0))
OURS = (
    QuantizedLinear, QuantizedRecurrent, HalfWeightLinear, HalfWeightRecurrent,
    QuantizedEmbedding, QuantizedEmbeddingBag,
)  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:Please use quant_min"),
    pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated"),
    pytest.mark.filterwarnings("ignore:.*is deprecated"),
]


class Net(nn.Module):
    """Layers at three depths, each with an activation behind it."""

    def __init__(self, lib=tq):
        super().__init__()
        self.quant, self.dequant = lib.QuantStub(), lib.DeQuantStub()
        self.fc1, self.relu = nn.Linear(12, 24), nn.ReLU()
        self.body = nn.Sequential(
            nn.Linear(24, 24), nn.ReLU(), nn.Sequential(nn.Linear(24, 16), nn.ReLU())
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.dequant(self.head(self.body(self.relu(self.fc1(self.quant(x))))))


def made(lib, kind=Net):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = kind(lib)
    return model.eval()


def quantized(model, lib):
    """Names of the layers that are no longer float."""
    if lib is tq:
        names = [n for n, m in model.named_modules() if isinstance(m, OURS)]
        return [name for name in names if ".directions." not in name]
    kinds = ("Linear", "LSTM", "GRU", "Embedding")
    return [
        name
        for name, m in model.named_modules()
        if "quantized" in type(m).__module__
        and type(m).__name__.startswith(kinds)
        and "Packed" not in type(m).__name__
    ]


ALL = ["fc1", "body.0", "body.2.0", "head"]
# What is said of the layers, and which of them are quantized by it.
MAPPINGS = {
    "the default": (lambda lib, m: lib.get_default_qconfig_mapping("x86"), ALL),
    "qnnpack": (lambda lib, m: lib.get_default_qconfig_mapping("qnnpack"), ALL),
    "global": (lambda lib, m: m().set_global(lib.default_qconfig), ALL),
    "per channel": (lambda lib, m: m().set_global(lib.default_per_channel_qconfig), ALL),
    "none": (lambda lib, m: m(), []),
    "an empty dict": (lambda lib, m: {}, []),
    "types": (  # torch wants them alike that it fuses
        lambda lib, m: (
            m()
            .set_object_type(nn.Linear, lib.default_qconfig)
            .set_object_type(nn.ReLU, lib.default_qconfig)
        ),
        ALL,
    ),
    "another type": (lambda lib, m: m().set_object_type(nn.Conv2d, lib.default_qconfig), []),
    "a name": (
        lambda lib, m: m().set_global(lib.default_qconfig).set_module_name("head", None),
        ALL[:3],
    ),
    "a container": (
        lambda lib, m: m().set_global(lib.default_qconfig).set_module_name("body", None),
        ["fc1", "head"],
    ),
    "a name in a container": (
        lambda lib, m: (
            m()
            .set_global(lib.default_qconfig)
            .set_module_name("body", None)
            .set_module_name("body.2", lib.default_qconfig)
        ),
        ["fc1", "body.2.0", "head"],
    ),
    "a regex": (
        lambda lib, m: m().set_global(lib.default_qconfig).set_module_name_regex("bo.*", None),
        ["fc1", "head"],
    ),
    "a regex in the middle": (
        lambda lib, m: m().set_global(lib.default_qconfig).set_module_name_regex("2", None),
        ALL,
    ),
    "the first regex wins": (
        lambda lib, m: (
            m()
            .set_module_name_regex("body.0", None)
            .set_module_name_regex("body.*", lib.default_qconfig)
        ),
        ["body.2.0"],
    ),
    "a name beats a regex": (
        lambda lib, m: (
            m()
            .set_module_name("head", lib.default_qconfig)
            .set_module_name_regex(".*", None)
            .set_global(lib.default_qconfig)
        ),
        ["head"],
    ),
    "a regex beats a type": (
        lambda lib, m: (
            m()
            .set_object_type(nn.Linear, lib.default_qconfig)
            .set_module_name_regex("head", None)
            .set_object_type(nn.ReLU, lib.default_qconfig)
        ),
        ALL[:3],
    ),
    "the second call": (
        lambda lib, m: (
            m()
            .set_global(lib.default_qconfig)
            .set_module_name_object_type_order("", nn.Linear, 1, None)
        ),
        ALL[:3],
    ),
    "a container and a call": (
        lambda lib, m: (
            m()
            .set_global(lib.default_qconfig)
            .set_module_name("body", None)
            .set_module_name_object_type_order("", nn.Linear, 1, None)
        ),
        ["fc1"],
    ),
    "a call beats a name": (
        lambda lib, m: (
            m()
            .set_module_name("head", None)
            .set_module_name_object_type_order("", nn.Linear, 1, lib.default_qconfig)
        ),
        ["head"],
    ),
    "a dict": (
        lambda lib, m: {
            "": lib.default_qconfig,
            "module_name": [("head", None)],
            "module_name_regex": [("fc.*", None)],
            "object_type": [(nn.Conv2d, None)],
        },
        ["body.0", "body.2.0"],
    ),
    "dynamic": (lambda lib, m: m().set_global(lib.default_dynamic_qconfig), ALL),
    "static and dynamic": (
        lambda lib, m: (
            m()
            .set_global(lib.default_dynamic_qconfig)
            .set_module_name("head", lib.default_qconfig)
            .set_module_name("body.0", None)
            .set_module_name("body.1", None)
        ),
        ["fc1", "body.2.0", "head"],
    ),
    "float16": (lambda lib, m: m().set_global(lib.float16_dynamic_qconfig), ALL),
    "fixed": (
        lambda lib, m: m().set_global(
            lib.QConfig(
                lib.FixedQParamsObserver.with_args(scale=0.05, zero_point=100),
                lib.default_weight_observer,
            )
        ),
        ALL,
    ),
    "weights of 4 bits": (
        lambda lib, m: m().set_global(
            lib.QConfig(
                lib.default_observer,
                lib.default_weight_observer.with_args(quant_min=-8, quant_max=7),
            )
        ),
        ALL,
    ),
}


@pytest.mark.parametrize("name", MAPPINGS)
def test_mappings(name):
    mapping, expected = MAPPINGS[name]
    found = {}
    for lib, fx in ((ao, afx), (tq, tfx)):
        model = made(lib)
        prepared = fx.prepare_fx(copy.deepcopy(model), mapping(lib, lib.QConfigMapping), (X,))
        prepared(X)
        q = fx.convert_fx(prepared)
        found[lib] = quantized(q, lib), quality(model, q, X)
    assert found[tq][0] == found[ao][0] == expected
    assert found[tq][1] >= min(found[ao][1], 90) - 0.5  # dB: at least as near as torch's


@pytest.mark.parametrize("qconfig", ["default_qat_qconfig", "default_qat_qconfig_v2", "dynamic"])
def test_mappings_of_training(qconfig):
    found = {}
    for lib, fx in ((ao, afx), (tq, tfx)):
        own = lib.default_dynamic_qat_qconfig if qconfig == "dynamic" else getattr(lib, qconfig)
        mapping = lib.QConfigMapping().set_global(own).set_module_name_regex("body", None)
        model = made(lib).train()
        prepared = fx.prepare_qat_fx(copy.deepcopy(model), mapping, (X,))
        prepared(X).square().mean().backward()
        q = fx.convert_fx(prepared.eval())
        found[lib] = quantized(q, lib), quality(model.eval(), q, X)
    assert found[tq][0] == found[ao][0] == ["fc1", "head"]
    assert found[tq][1] >= found[ao][1] - 0.5


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


def test_mappings_are_written_and_read():
    first = tq.QConfigMapping().set_global(tq.default_qconfig)
    first.set_object_type(nn.Linear, None).set_module_name_regex("a.*", tq.default_qconfig)
    first.set_module_name("b", None).set_module_name_object_type_order("", nn.Linear, 0, None)
    assert tq.QConfigMapping.from_dict(first.to_dict()) == first
    assert "module_name_object_type_order_qconfigs" in repr(first)
    theirs = ao.QConfigMapping.from_dict(first.to_dict())
    assert tq.QConfigMapping.of(theirs) == first
    assert theirs.to_dict() == first.to_dict()
    assert tq.get_default_qconfig_dict("x86")[""] == tq.get_default_qconfig("x86")
    kinds = {key for key, _ in ao.get_default_qconfig_dict("x86")["object_type"]}
    assert kinds == {key for key, _ in tq.get_default_qconfig_dict("x86")["object_type"]}
    with pytest.raises(ValueError, match="qconfig_dict: expected the keys .* got 'modul'"):
        tq.QConfigMapping.from_dict({"modul": []})


class NotTraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.b(self.a(x)) if x.sum() > -1e9 else self.b(x)


def test_calls_are_counted_where_they_can_be():
    mapping = tq.QConfigMapping().set_global(tq.default_qconfig)
    assert tfx.prepare_fx(NotTraceable(), mapping, (X,)) is not None
    mapping.set_module_name_object_type_order("", nn.Linear, 0, None)
    with pytest.raises(ValueError, match="calls can be counted"):
        tfx.prepare_fx(NotTraceable(), mapping, (X,))


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
