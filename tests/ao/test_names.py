"""Every name of torch.ao.quantization is there, or says what to do: see docs/torch-ao.md."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from beside_torch import QUIET
from torch import nn

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist.ao.left_out import LEFT_OUT, LeftOut

ao = pytest.importorskip("torch.ao.quantization")
pytestmark = QUIET
DOCS = Path(__file__).resolve().parents[2] / "docs" / "torch-ao.md"
# Modules that scripts import; fx.custom_config is one of another package.
MODULES = (
    "fake_quantize", "fuse_modules", "fuser_method_mappings", "fx.custom_config", "observer",
    "qconfig", "qconfig_mapping", "quant_type", "quantization_mappings", "quantize", "quantize_fx",
    "stubs",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted({*ao.__all__, *LEFT_OUT}))
def test_every_name(name):
    value = getattr(tq, name)
    assert isinstance(value, LeftOut) == (name in LEFT_OUT)
    if name in LEFT_OUT:
        for use in (value, lambda: value.with_args):
            with pytest.raises(NotImplementedError, match=f"^fastmnist.ao.{name}: .{{20}}"):
                use()
    elif inspect.isfunction(value) and hasattr(ao, name):
        # Arguments of the same names, in the same order.
        theirs = [*inspect.signature(getattr(ao, name)).parameters]
        assert [*inspect.signature(value).parameters][: len(theirs)] == theirs


def test_nothing_else():
    with pytest.raises(AttributeError, match=r"module 'fastmnist.ao' has no attribute 'observe'"):
        _ = tq.observe
    with pytest.raises(ImportError):
        from fastmnist.ao import observe  # noqa: F401
    assert not {*tq.__all__} & {*LEFT_OUT}
    assert all(hasattr(tq, name) for name in tq.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_modules(module):
    """What torch's module of the name defines in public is in ours."""
    theirs = importlib.import_module(f"torch.ao.quantization.{module}")
    ours = importlib.import_module(f"fastmnist.ao.{module}")
    names = getattr(theirs, "__all__", None) or [
        name
        for name, value in vars(theirs).items()
        if not name.startswith(("_", "DEFAULT", "attach"))  # constants, and what is inside
        and getattr(value, "__module__", "") == theirs.__name__
    ]
    missing = {name for name in names if not hasattr(ours, name)} - {*LEFT_OUT}
    # Where another of our modules has it, the package has it too.
    assert all(hasattr(tq, name) for name in missing), missing


def test_the_page_lists_what_is_left_out():
    page = DOCS.read_text().partition("## What is left out")[2]
    told = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE))
    assert told == LEFT_OUT


def test_mappings_of_types():
    static, dynamic, training = (
        tq.get_default_static_quant_module_mappings(),
        tq.get_default_dynamic_quant_module_mappings(),
        tq.get_default_qat_module_mappings(),
    )
    for ours, theirs in (
        (dynamic, ao.get_default_dynamic_quant_module_mappings()),
        (static, ao.get_default_static_quant_module_mappings()),
        (training, ao.get_default_qat_module_mappings()),
    ):
        kinds = {kind for kind in ours if kind.__module__.startswith("torch.nn")}
        assert kinds - {nn.RNN} <= {*theirs}  # torch has no dynamic RNN
    assert tq.get_dynamic_quant_module_class(nn.LSTM) is dynamic[nn.LSTM]
    assert tq.get_static_quant_module_class(nn.Conv2d, {nn.Conv2d: 3}) == 3
    dynamic.clear()
    assert tq.get_default_dynamic_quant_module_mappings()  # a copy
    assert nn.Linear in tq.get_default_qconfig_propagation_list()
    assert static[nn.Linear] in tq.get_default_compare_output_module_list()
    with pytest.raises(ValueError, match="float_module_class: expected one of"):
        tq.get_static_quant_module_class(nn.Conv2d)
    with pytest.raises(ValueError, match="no reference modules"):
        tq.get_static_quant_module_class(nn.Linear, is_reference=True)
    with pytest.raises(ValueError, match="float_op: expected a function with a quantized form"):
        tq.get_quantized_operator("elu")


@pytest.mark.parametrize("fuse", ["fuse_conv_bn", "fuse_linear_bn", "fuse_convtranspose_bn"])
def test_fusing_one_at_a_time(fuse):
    import torch

    layer, x = {
        "fuse_conv_bn": (nn.Conv2d(2, 3, 1), torch.randn(4, 2, 5, 5)),
        "fuse_convtranspose_bn": (nn.ConvTranspose2d(2, 3, 1), torch.randn(4, 2, 5, 5)),
        "fuse_linear_bn": (nn.Linear(2, 3), torch.randn(4, 2)),
    }[fuse]
    norm = nn.BatchNorm1d(3) if "linear" in fuse else nn.BatchNorm2d(3)
    pair = nn.Sequential(layer, norm).train()
    pair(x)
    pair.eval()
    with torch.no_grad():
        assert torch.allclose(getattr(tq, fuse)(False, layer, norm)(x), pair(x), atol=1e-5)
    with pytest.raises(ValueError, match="is_qat: expected False"):
        getattr(tq, fuse)(True, layer, norm)
    if fuse == "fuse_conv_bn":
        with torch.no_grad():
            both = tq.fuse_conv_bn_relu(False, layer, norm, nn.ReLU())
            assert torch.allclose(both(x), pair(x).relu(), atol=1e-5)


def test_one_function():
    assert fm.quantize_dynamic is tq.quantize_dynamic
    assert fm.fuse_modules is tq.fuse_modules is tq.fuse_modules_qat
    fused = tq.fuse_modules(
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval(),
        ["0", "1"],
        fuser_func=importlib.import_module("fastmnist.ao.fuse_modules").fuse_known_modules,
    )
    assert fused[0].clamp[0] == 0
    with pytest.raises(NotImplementedError, match="to be handed on as fuser_func="):
        importlib.import_module("fastmnist.ao.fuse_modules").fuse_known_modules([])
    assert [kind.name for kind in tq.QuantType] == [kind.name for kind in ao.QuantType]
