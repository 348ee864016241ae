"""Mappings of FX mode: the same layers as torch.ao quantizes, as near the float model."""

from __future__ import annotations

import copy

import pytest
from beside_torch import ALL, QUIET, X, made, quantized
from models import quality
from torch import nn

import fastmnist.ao as tq
from fastmnist.ao import quantize_fx as tfx

ao = pytest.importorskip("torch.ao.quantization")
afx = pytest.importorskip("torch.ao.quantization.quantize_fx")
pytestmark = QUIET

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
    with pytest.raises(ValueError, match=r"qconfig_dict: expected the keys .* got 'modul'"):
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
