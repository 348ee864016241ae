"""Between prepare and convert: unseen layers, mappings, lists, dicts of configuration."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from beside_torch import QUIET, X, made, quantized
from models import same
from torch import nn

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist.ao import quantize_fx as tfx
from fastmnist.ao.fx.custom_config import (
    ConvertCustomConfig,
    FuseCustomConfig,
    PrepareCustomConfig,
)

pytestmark = QUIET


def net(_=None):
    return made(tq)


def with_norm():
    return nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def converted(make, qconfig, calibrate):
    model = make()
    model.qconfig = qconfig
    prepared = tq.prepare(model)
    if calibrate:
        prepared(X)
    return tq.convert(prepared)


@pytest.mark.parametrize("make", [net, with_norm])
@pytest.mark.parametrize("qconfig", [tq.get_default_qconfig("x86"), tq.default_qconfig])
def test_an_int8_state_dict_loads_into_what_saw_no_data(make, qconfig):
    q = converted(make, qconfig, calibrate=True)
    with pytest.warns(UserWarning, match="which never did: run the prepared model on calibration"):
        empty = converted(make, qconfig, calibrate=False)
    assert empty.state_dict().keys() == q.state_dict().keys()
    for again in (empty, copy.deepcopy(empty), pickle.loads(pickle.dumps(empty))):
        with pytest.raises(
            RuntimeError, match="expected a scale, got none, as it never saw data: load"
        ):
            again(X)
        with pytest.raises(RuntimeError, match="Missing key"):
            again.load_state_dict({})
        with pytest.raises(RuntimeError, match="never saw data"):
            again(X)
        again.load_state_dict(q.state_dict())
        assert same(again(X), q(X))
        again.load_state_dict(q.state_dict())  # once more


@pytest.mark.filterwarnings("ignore:model. expected layers that saw data")
def test_part_of_a_state_is_not_enough():
    empty, q = (converted(net, tq.default_qconfig, calibrate=c) for c in (False, True))
    state = {key: value for key, value in q.state_dict().items() if not key.startswith("head")}
    empty.load_state_dict(state, strict=False)
    with pytest.raises(RuntimeError, match="layer 'head': expected a scale"):
        empty(X)


def test_what_needs_no_data_is_converted_without():
    fixed = tq.QConfig(tq.default_fixed_qparams_range_neg1to1_observer, tq.default_weight_observer)
    q = converted(net, fixed, calibrate=False)
    assert float(q.fc1.input_scale) == 2 / 256
    assert q(X).isfinite().all()
    q = converted(net, tq.default_dynamic_qconfig, calibrate=False)
    assert q.fc1.kind == "dynamic"


@pytest.mark.parametrize("model", [nn.Sequential(nn.Conv1d(1, 2, 3)), nn.Sequential()])
def test_models_without_layers_warn_as_in_torch(model):
    model.qconfig = tq.default_qconfig
    with pytest.warns(UserWarning, match="expected a layer with a qconfig that quantizes it"):
        prepared = tq.prepare(model)
    assert str(tq.convert(prepared)) == str(model)
    with pytest.warns(UserWarning, match="expected a layer"):
        tq.convert(nn.Sequential(nn.Conv1d(1, 2, 3)))
    with pytest.warns(UserWarning, match="expected a layer"):
        tq.prepare_qat(copy.deepcopy(model).train())
    with pytest.raises(ValueError, match=r"expected at least one torch.nn.Linear"):
        fm.quantize(model, fm.Dynamic())  # not torch's name: a mistake there


def test_propagating_and_converting_is_dynamic_quantization():
    """What torch.ao's own quantize_dynamic is made of, and scripts have copied."""
    model = net()
    tq.propagate_qconfig_(model, {"body": tq.default_dynamic_qconfig})
    assert model.body[0].qconfig is tq.default_dynamic_qconfig
    tq.convert(model, tq.get_default_dynamic_quant_module_mappings(), inplace=True)
    assert quantized(model, tq) == ["body.0", "body.2.0"]
    assert not any(hasattr(m, "qconfig") for m in model.modules())


def test_lists_and_mappings_leave_types():
    model = net()
    model.qconfig = tq.default_qconfig
    with pytest.warns(UserWarning, match="expected a layer"):
        assert type(tq.prepare(model, allow_list={nn.Conv2d}).fc1) is nn.Linear
    kept = tq.prepare(model, allow_list=tq.get_default_qconfig_propagation_list())
    expected = kept(X)
    static = tq.get_default_static_quant_module_mappings()
    assert len(quantized(tq.convert(kept, static), tq)) == 4
    del static[nn.Linear]
    left = tq.convert(kept, static)
    assert quantized(left, tq) == []
    assert same(left(X).detach(), expected.detach())
    with pytest.warns(UserWarning, match="expected a layer"):
        tq.prepare_qat(model.train(), mapping={nn.Conv2d: torch.ao.nn.qat.Conv2d})
    assert (
        len(
            quantized(
                tq.quantize_dynamic(
                    net(), mapping={nn.Linear: torch.ao.nn.quantized.dynamic.Linear}
                ),
                tq,
            )
        )
        == 4
    )


def test_convert_fx_leaves_what_its_mapping_leaves():
    mapping = tq.QConfigMapping().set_global(tq.default_qconfig)
    prepared = tfx.prepare_fx(net(), mapping, (X,))
    prepared(X)
    q = tfx.convert_fx(prepared, qconfig_mapping=mapping.set_module_name("body", None))
    assert quantized(q, tq) == ["fc1", "head"]
    again = tfx.prepare_fx(net(), {"": tq.default_dynamic_qconfig}, (X,))
    q = tfx.convert_fx(again, qconfig_mapping={"": None, "module_name": [("head", 1)]})
    assert quantized(q, tq) == ["head"]


@pytest.mark.parametrize(
    "config",
    [
        PrepareCustomConfig().set_non_traceable_module_names(["body"]),
        PrepareCustomConfig().set_non_traceable_module_classes([nn.Sequential]),
        {"non_traceable_module_name": ["body"], "preserved_attributes": ["quant"]},
        {"non_traceable_module_class": [nn.Sequential], "input_quantized_idxs": []},
    ],
)
def test_modules_to_leave_alone(config):
    mapping = tq.QConfigMapping().set_global(tq.default_qconfig)
    prepared = tfx.prepare_fx(net(), mapping, (X,), prepare_custom_config=config)
    prepared(X)
    assert quantized(tfx.convert_fx(prepared), tq) == ["fc1", "head"]


@pytest.mark.parametrize("empty", [None, {}, PrepareCustomConfig()])
def test_empty_configurations(empty):
    prepared = tfx.prepare_fx(net(), {"": tq.default_qconfig}, (X,), prepare_custom_config=empty)
    prepared(X)
    assert len(quantized(tfx.convert_fx(prepared, convert_custom_config={}), tq)) == 4
    assert FuseCustomConfig.from_dict({}).to_dict() == {}
    assert type(tfx.fuse_fx(net(), fuse_custom_config={}).relu).__name__ == "Identity"
    model = net()
    model.qconfig = tq.default_qconfig
    prepared = tq.prepare(model, prepare_custom_config_dict={})
    default = tq.get_default_custom_config_dict()
    prepared(X)
    assert len(quantized(tq.convert(prepared, convert_custom_config_dict=default), tq)) == 4


def observed(config):
    return config.set_float_to_observed_mapping(nn.Linear, nn.Linear)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: tfx.prepare_fx(m, {}, prepare_custom_config=observed(PrepareCustomConfig())),
            ValueError,
            "prepare_custom_config: expected no 'float_to_observed_custom_module_class'",
        ),
        (
            lambda m: tfx.prepare_fx(
                m, {}, prepare_custom_config=PrepareCustomConfig().set_input_quantized_indexes([0])
            ),
            ValueError,
            "expected no 'input_quantized_idxs', which there is not here, got .0.",
        ),
        (
            lambda m: tfx.prepare_fx(
                m,
                {},
                prepare_custom_config=PrepareCustomConfig().set_standalone_module_name("body"),
            ),
            ValueError,
            "expected no 'standalone_module_name'",
        ),
        (
            lambda m: tfx.prepare_fx(m, {}, prepare_custom_config={"modul": 1}),
            ValueError,
            "prepare_custom_config: expected one of the keys preserved_attributes",
        ),
        (lambda m: tfx.prepare_fx(m, {}, backend_config=object()), ValueError, "backend_config"),
        (lambda m: tfx.prepare_fx(m, {}, _equalization_config={1: 2}), ValueError, "_equalization"),
        (
            lambda m: tfx.convert_fx(
                m, ConvertCustomConfig().set_observed_to_quantized_mapping(nn.Linear, nn.Linear)
            ),
            ValueError,
            "convert_custom_config: expected no 'observed_to_quantized_custom_module_class'",
        ),
        (
            lambda m: tfx.fuse_fx(m, {"additional_fuser_method_mapping": {1: 2}}),
            ValueError,
            "fuse_custom_config: expected no 'additional_fuser_method_mapping'",
        ),
        (lambda m: tfx.convert_to_reference_fx(m), NotImplementedError, "no reference modules"),
        (lambda m: tq.convert(m, is_reference=True), ValueError, "is_reference"),
        (lambda m: tq.convert(m, use_precomputed_fake_quant=True), ValueError, "use_precomputed"),
        (
            lambda m: tq.prepare(m, observer_non_leaf_module_list=[nn.Sequential]),
            ValueError,
            "observer_non_leaf_module_list",
        ),
        (
            lambda m: tq.convert(m, mapping={nn.Linear: nn.Linear}),
            ValueError,
            "mapping: expected modules of fastmnist or torch.ao, got .*Linear",
        ),
        (
            lambda m: tq.quantize_dynamic(m, mapping={nn.Linear: int}),
            ValueError,
            "put modules of your own into the model yourself",
        ),
        (lambda m: tq.quantize_dynamic(m, mapping=3), TypeError, "mapping: expected a dict"),
    ],
)
def test_what_cannot_be_heeded_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(net())


def test_what_layers_saw_is_handed_on():
    prepared = [None, None]
    for i in range(2):
        model = net()
        model.qconfig = tq.get_default_qconfig("x86")
        prepared[i] = tq.prepare(model)
    prepared[0](X)
    seen = tq.get_observer_state_dict(prepared[0])
    assert seen
    assert all("weight" not in key and "bias" not in key for key in seen)
    tq.load_observer_state_dict(prepared[1], seen)
    assert same(tq.convert(prepared[0])(X), tq.convert(prepared[1])(X))
    key = next(iter(seen))
    with pytest.raises(KeyError, match="obs_dict: expected a state with"):
        tq.load_observer_state_dict(prepared[1], {k: v for k, v in seen.items() if k != key})
    with pytest.raises(KeyError, match="obs_dict: expected no"):
        tq.load_observer_state_dict(prepared[1], {**seen, "a.observer.b": seen[key]})


def test_hooks_stay_on_layers():
    model, seen = net(), []
    model.head.register_forward_pre_hook(lambda *_: seen.append("before"))
    model.head.register_forward_hook(lambda *_: seen.append("after"))
    model.qconfig = tq.default_qconfig
    prepared = tq.prepare(model)
    prepared(X)
    seen.clear()
    q = tq.convert(prepared)
    seen.clear()
    q(X)
    assert seen == ["before", "after"]


def test_wrapping_what_has_a_qconfig():
    model = net()
    tq.propagate_qconfig_(model, {"body": tq.default_qconfig})
    wrapped = tq.add_quant_dequant(model)
    assert wrapped is model
    assert type(wrapped.body[0]) is tq.QuantWrapper
    assert type(wrapped.fc1) is nn.Linear
    prepared = tq.prepare(wrapped)
    prepared(X)
    assert quantized(tq.convert(prepared), tq) == ["body.0.module", "body.2.0.module"]
    alone = nn.Linear(3, 2)
    alone.qconfig = tq.default_qconfig
    assert type(tq.add_quant_dequant(alone)) is tq.QuantWrapper


def test_torchs_own_objects_are_read():
    """Mappings, qconfigs, custom configurations and observers that torch.ao itself made."""
    ao = pytest.importorskip("torch.ao.quantization")
    theirs = pytest.importorskip("torch.ao.quantization.fx.custom_config")
    kept = theirs.PrepareCustomConfig().set_non_traceable_module_names(["body"])
    mapping = ao.get_default_qconfig_mapping("x86")
    prepared = tfx.prepare_fx(net(), mapping, (X,), prepare_custom_config=kept)
    prepared(X)
    q = tfx.convert_fx(prepared, convert_custom_config=theirs.ConvertCustomConfig())
    assert quantized(q, tq) == ["fc1", "head"]
    refused = theirs.PrepareCustomConfig().set_input_quantized_indexes([0])
    with pytest.raises(ValueError, match="expected no 'input_quantized_idxs'"):
        tfx.prepare_fx(net(), mapping, (X,), prepare_custom_config=refused)

    class Threefold(ao.MinMaxObserver):
        def calculate_qparams(self):
            scale, zero_point = super().calculate_qparams()
            return 3 * scale, zero_point

    model = net()
    model.qconfig = ao.QConfig(
        Threefold.with_args(quant_min=0, quant_max=127), ao.default_weight_observer
    )
    prepared = tq.prepare(model)
    prepared(X)
    scale = tq.convert(prepared).fc1.input_scale
    assert float(scale) == pytest.approx(float(3 * (X.max() - X.min()) / 127), rel=1e-6)
    training = net().train()
    training.qconfig = ao.default_dynamic_qat_qconfig
    prepared = tq.prepare_qat(training)
    prepared(X)
    assert tq.convert(prepared.eval()).fc1.kind == "dynamic"
    dynamic = dict(ao.get_default_dynamic_quant_module_mappings())  # torch gives its own
    del dynamic[nn.Linear]
    spec = {nn.Linear: ao.float16_dynamic_qconfig, nn.LSTM: ao.default_dynamic_qconfig}
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "head": nn.Linear(4, 2)})
    assert quantized(tq.quantize_dynamic(model, spec, mapping=dynamic), tq) == ["lstm"]


@pytest.mark.parametrize("step", ["prepare", "prepare_qat"])
def test_prepared_models_are_pickled_with_their_observers(step):
    model = net().train()
    x86 = tq.get_default_qconfig("x86"), tq.get_default_qat_qconfig("x86")
    model.qconfig = x86[step == "prepare_qat"]
    prepared = getattr(tq, step)(model)
    prepared(X)
    for again in (pickle.loads(pickle.dumps(prepared)), copy.deepcopy(prepared)):
        assert same(tq.convert(again.eval())(X), tq.convert(copy.deepcopy(prepared.eval()))(X))
        assert all(isinstance(value, torch.Tensor) for value in again.state_dict().values())
