"""quantize: the same bits on every path, and an error that says what was expected."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from models import (
    MyModel,
    assert_unchanged,
    mlp,
    randomize,
    same,
    snapshot,
)
from torch import nn

import fastmnist as fm
from fastmnist.layers.native import torch_class
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.measuring.sqnr import sqnr

GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(70, 12, generator=GENERATOR)
CONFIGS = {"static": fm.Static(X), "dynamic": fm.Dynamic()}


@pytest.fixture(params=CONFIGS)
def q(request) -> nn.Module:
    return fm.quantize(mlp(), CONFIGS[request.param])


@pytest.mark.parametrize("mode", [True, False])
def test_the_input_model_is_left_alone(mode):
    model = mlp().train(mode)
    model[2].train(not mode)
    before = snapshot(model)
    for config in CONFIGS.values():
        q = fm.quantize(model, config)
        assert not any(m.training for m in q.modules())
        assert_unchanged(model, before)
    assert not fm.changes(model)


def test_close_to_float_and_says_what_it_did(q):
    with torch.no_grad():
        assert (q(X) - mlp().eval()(X)).abs().max() < 0.05
    whats = [c for c in fm.changes(q) if "int8" in c.what]
    assert [c.layer for c in whats] == ["0", "3", "5"]
    assert all(isinstance(q[i], QuantizedLinear) for i in (0, 3, 5))
    assert all(isinstance(q[i], nn.Identity) for i in (1, 2, 4))


def watched(model, config):
    """The same layers, with a hook on each."""
    fused = fm.fuse(model)
    for module in fused.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *_: None)
    result = fm.quantize(fused, config)
    assert sum(isinstance(m, QuantizedLinear) for m in result.modules()) == 3
    return result


@pytest.mark.parametrize("name", CONFIGS)
def test_module_compile_and_layer_by_layer_agree_bit_for_bit(name, isa):
    model = mlp()
    q = fm.quantize(model, CONFIGS[name])
    net = fm.compile(q)
    alone = watched(model, CONFIGS[name])
    x = torch.randn(130, 12, generator=torch.Generator().manual_seed(9)) * 3
    x[3, 4] = math.nan
    x[7, 1] = math.inf
    x[9, 2] = -math.inf
    x[11] = 0
    x[13] *= 1e30
    x[15] *= 1e-38
    expected = q(x)
    assert expected[3].isnan().all()
    nans = expected.isnan().any(1).nonzero().flatten().tolist()
    assert nans == ([3] if name == "static" else [3, 7, 9])
    assert same(alone(x), expected)
    assert same(net(x), expected)
    for size in (1, 2, 3, 16, 17, 64):
        assert same(torch.cat([q(part) for part in x.split(size)]), expected)
        assert same(torch.cat([net(part) for part in x.split(size)]), expected)
    assert same(q(x[5]), expected[5])
    assert same(q(x.view(2, 65, 12)), expected.view(2, 65, 5))


def test_all_instruction_sets_agree_on_real_digits(trained, digits):
    from fastmnist import _core

    for config in (fm.Static(digits), fm.Dynamic()):
        q = fm.quantize(trained, config)
        expected = q(digits.test.images / 255)
        for rung in _core.cpu_info()["ladder"]:
            if rung["why_not"]:
                continue
            before = _core.set_isa(rung["isa"])
            try:
                again = fm.quantize(trained, config)
                assert same(again(digits.test.images / 255), expected)
                assert same(fm.compile(again)(digits.test.images / 255), expected)
            finally:
                _core.set_isa(before)
        assert fm.evaluate(q, digits) == pytest.approx(fm.evaluate(trained, digits), abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floats_become_float32(q, dtype):
    x = X.to(dtype)
    assert same(q(x), q(x.float()))
    assert same(fm.compile(q)(x), q(x.float()))


def test_non_contiguous_rows(q):
    wide = torch.randn(40, 24)
    for x in (wide[:, ::2], wide[::3, :12], torch.randn(12, 40).t(), X[:1].expand(8, 12)):
        assert not x.is_contiguous()
        assert same(q(x), q(x.clone(memory_format=torch.contiguous_format)))
        assert same(fm.compile(q)(x), q(x))
    flipped = X.numpy()[::-1, ::-1]
    assert np.array_equal(fm.compile(q)(flipped), q(torch.from_numpy(flipped.copy())).numpy())


def test_empty_batches(q):
    assert q(torch.empty(0, 12)).shape == (0, 5)
    assert fm.compile(q)(torch.empty(0, 12)).shape == (0, 5)
    assert fm.compile(q)(np.empty((0, 12), np.float32)).shape == (0, 5)
    assert fm.compile(q).predict(torch.empty(0, 12)).shape == (0,)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (
            torch.zeros(3, 12, dtype=torch.int64),
            TypeError,
            r"input: expected floats or uint8.*int64",
        ),
        (torch.zeros(3, 12, dtype=torch.bool), TypeError, "bool"),
        (torch.zeros(3, 12, dtype=torch.complex64), TypeError, "complex64"),
        (torch.zeros(3, 12, dtype=torch.uint8), ValueError, "calibration saw no pixels"),
        (torch.zeros(3, 11), ValueError, r"input: expected shape \[\.\.\., 12\], got \[3, 11\]"),
        (torch.zeros(12, 3), ValueError, r"got \[12, 3\]"),
        (torch.zeros(()), ValueError, r"got \[\]"),
        (torch.zeros(3, 12, device="meta"), ValueError, r"'meta': use input.cpu"),
        (np.zeros((3, 12), np.float32), TypeError, "expected a torch.Tensor, got ndarray"),
        ([[0.0] * 12], TypeError, "expected a torch.Tensor, got list"),
        (None, TypeError, "expected a torch.Tensor, got NoneType"),
    ],
)
def test_bad_rows(q, x, error, message):
    with pytest.raises(error, match=message):
        q(x)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (fm.Static, r"got the class Static"),
        (fm.Dynamic, r"fm.quantize\(model, fm.Dynamic\(\)\)"),
        (None, "got NoneType"),
        ("dynamic", "got str"),
        (X, "got Tensor"),
    ],
)
def test_no_configuration(config, message):
    with pytest.raises(TypeError, match=rf"config: expected.*{message}"):
        fm.quantize(mlp(), config)


@pytest.mark.parametrize(
    ("calibration", "error", "message"),
    [
        (None, ValueError, "calibration: expected data"),
        (torch.empty(0, 12), ValueError, "calibration: expected samples, got none"),
        ([], ValueError, "calibration"),
        (iter([]), ValueError, "calibration: expected samples, got none"),
        (3, TypeError, "calibration: expected a bundle"),
        ("mnist", TypeError, "calibration: expected a bundle"),
        (torch.full((4, 12), math.nan), ValueError, "finite inputs to layer '0', got NaN or inf"),
        (torch.full((4, 12), math.inf), ValueError, "finite inputs to layer '0'"),
    ],
)
def test_bad_calibration(calibration, error, message):
    with pytest.raises(error, match=message):
        fm.quantize(mlp(), fm.Static(calibration))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_samples": 0}, ValueError, "max_samples: expected at least 1, got 0"),
        ({"max_samples": 1.5}, TypeError, "max_samples: expected an int, got float"),
        ({"max_samples": True}, TypeError, "max_samples: expected an int, got bool"),
        ({"mean": "0.5"}, TypeError, "mean: expected a number"),
        ({"std": 0}, ValueError, "std: expected finite numbers above 0"),
        ({"std": math.nan}, ValueError, "std: expected finite"),
        ({"mean": (1, 2), "std": (1, 2, 3)}, ValueError, "same length"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        fm.quantize(mlp(), fm.Static(X, **options))


def test_a_layer_where_numbers_overflow_is_named():
    model = mlp()
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    with pytest.raises(ValueError, match="layer '3', got NaN or inf"):
        fm.quantize(model, fm.Static(X.abs() + 10))


def test_weights_that_are_not_finite_are_named():
    model = mlp()
    with torch.no_grad():
        model[3].weight[1, 1] = math.nan
    with pytest.raises(ValueError, match="layer '3': expected finite numbers in its weight"):
        fm.quantize(model, fm.Dynamic())


class _Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(12, 4)
        self.unused = nn.Linear(12, 4)

    def forward(self, x):
        return self.used(x)


def test_a_layer_that_calibration_never_reaches_is_named():
    with pytest.raises(ValueError, match=r"layer 'unused' never saw data.*or use Dynamic\(\)"):
        fm.quantize(_Branches(), fm.Static(X))
    assert fm.quantize(_Branches(), fm.Dynamic())(X).shape == (70, 4)


def test_calibration_data_that_does_not_fit_says_so():
    with pytest.raises(ValueError, match=r"calibration: .* got torch.float32 \[5, 13\]: .*shapes"):
        fm.quantize(mlp(), fm.Static(torch.zeros(5, 13)))
    with pytest.raises(ValueError, match=r"calibration: .* got torch.int64 \[5, 12\]: .*dtype"):
        fm.quantize(mlp(), fm.Static(torch.zeros(5, 12, dtype=torch.int64)))


def test_nothing_to_quantize(q):
    with pytest.raises(
        ValueError, match=r"at least one torch.nn.Linear to quantize, got none.*ReLU"
    ):
        fm.quantize(nn.Sequential(nn.ReLU()), fm.Dynamic())
    with pytest.raises(ValueError, match="quantized already"):
        fm.quantize(q, fm.Dynamic())
    with pytest.raises(TypeError, match=r"did you mean MyModel\(\)"):
        fm.quantize(MyModel, fm.Dynamic())
    with pytest.raises(ValueError, match="lazy layer that never ran"):
        fm.quantize(nn.Sequential(nn.LazyLinear(4)), fm.Dynamic())
    with pytest.raises(ValueError, match="device 'meta'"):
        fm.quantize(nn.Linear(4, 4, device="meta"), fm.Dynamic())


def test_too_many_inputs():
    wide = nn.Linear(65_537, 1)
    with pytest.raises(ValueError, match="expected at most 65536 inputs, got 65537"):
        fm.quantize(wide, fm.Dynamic())
    assert fm.quantize(nn.Linear(65_536, 1), fm.Dynamic())(torch.ones(1, 65_536)).shape == (1, 1)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize(("shape", "what"), [((0, 4), "inputs"), ((4, 0), "outputs")])
def test_empty_layers_are_refused(shape, what):
    with pytest.raises(ValueError, match=rf"expected 1 to \d+ {what}, got 0"):
        fm.quantize(nn.Linear(*shape), fm.Dynamic())


def test_ops_refuse_nonsense():
    from fastmnist import _ops  # noqa: F401 - registers them

    x = torch.zeros(2, 3)
    for scale in (math.nan, math.inf, 0.0, -1.0, 1e-42):
        with pytest.raises((ValueError, RuntimeError), match="scale"):
            torch.ops.fastmnist.quantize(x, scale, 0)
    for zero_point in (-1, 256, 2**40):
        with pytest.raises((ValueError, RuntimeError), match=r"zero_point|zero point"):
            torch.ops.fastmnist.quantize(x, 1.0, zero_point)
    with pytest.raises((ValueError, RuntimeError), match="x"):
        torch.ops.fastmnist.quantize(torch.zeros(2, 3, dtype=torch.int32), 1.0, 0)
    for packed in (torch.zeros(0), torch.zeros(64, dtype=torch.uint8), torch.zeros(64)):
        with pytest.raises((ValueError, RuntimeError), match="packed"):
            torch.ops.fastmnist.mlp(x, packed, 2)


def test_a_norm_over_positions_stays_apart_where_rows_show_it():
    model = randomize(nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(16, 8))).eval()
    model[2] = nn.Linear(8, 4)
    x = torch.randn(20, 8, 16)
    want = model(x).detach()
    for q in (
        fm.quantize(model, fm.Static(x)),
        fm.quantize(model, fm.Dynamic(), example=x),
        fm.quantize(copy.deepcopy(model), fm.Dynamic(), example=x, inplace=True),
        fm.quantize(model, fm.Half(), example=x),
        fm.fuse(model, example=x),
    ):
        assert torch_class(q[1]) is nn.BatchNorm1d
        assert sqnr(want, q(x).detach()) > 25
    for prepare, config in ((fm.prepare, fm.Static()), (fm.prepare_qat, fm.QAT())):
        prepared = prepare(model, config, example=x)
        prepared[1].eval()
        prepared[0].train()
        prepared(x)
        prepared[2].train()
        prepared(x)
        assert torch_class(prepared[1]) is nn.BatchNorm1d


def test_a_folded_norm_refuses_other_shapes_than_rows():
    model = randomize(nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8)))
    x = torch.randn(20, 8, 16)
    for q in (fm.quantize(model, fm.Dynamic()), fm.fuse(model), fm.prepare_qat(model).train()):
        assert q(x[:, 0]).shape == (20, 8)
        with pytest.raises(ValueError, match=r"layer '0': expected rows .* give example="):
            q(x)
