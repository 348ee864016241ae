"""quantize: int8 modules that behave like modules, whatever happens to them."""

from __future__ import annotations

import copy
import io
import math
import multiprocessing
import pickle

import fastmnist as fm
import numpy as np
import pytest
import torch
from fastmnist.modules import QuantizedChain
from models import MyModel, assert_unchanged, snapshot
from torch import nn
from torch.utils.data import DataLoader, Dataset

GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(70, 12, generator=GENERATOR)
CONFIGS = {"static": fm.Static(X), "dynamic": fm.Dynamic()}


def mlp() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Linear(12, 33), nn.ReLU(), nn.Dropout(), nn.Linear(33, 17), nn.ReLU6(),
            nn.Linear(17, 5),
        )  # fmt: skip


def same(a, b):
    """The same bits, NaN included."""
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


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
    assert "one operator for 0, 3, 5" in whats[0].what
    assert isinstance(q[0], QuantizedChain)
    assert all(isinstance(m, nn.Identity) for m in q[1:])


def unchained(model, config):
    """The same layers, but one operator each: hooks keep them apart."""
    apart = fm.fuse(model)
    for module in apart.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda *_: None)
    result = fm.quantize(apart, config)
    assert sum(isinstance(m, QuantizedChain) for m in result.modules()) == 3
    return result


@pytest.mark.parametrize("name", CONFIGS)
def test_module_compile_and_layer_by_layer_agree_bit_for_bit(name, isa):
    model = mlp()
    q = fm.quantize(model, CONFIGS[name])
    net = fm.compile(q)
    alone = unchained(model, CONFIGS[name])
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


# What becomes of a module.


def other(q):
    """A quantized model of the same shape with other numbers in it."""
    model = mlp()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3)
    return fm.quantize(model, CONFIGS["static" if q[0].kind == "static" else "dynamic"])


def test_state_dict_goes_into_another_model_and_nothing_is_stale(q, tmp_path):
    into = other(q)
    before = into(X)
    torch.save(q.state_dict(), tmp_path / "q.pt")
    state = torch.load(tmp_path / "q.pt", weights_only=True)
    assert not any("packed" in key for key in state)
    assert "0.layers.2.weight_scale" in state
    assert state["0.layers.0.weight"].dtype == torch.int8
    assert str(into.load_state_dict(state)) == "<All keys matched successfully>"
    assert same(into(X), q(X))
    assert not same(into(X), before)
    for assign in (True, False):
        fresh = other(q)
        fresh.load_state_dict(q.state_dict(), assign=assign)
        assert same(fresh(X), q(X))
        assert same(fm.compile(fresh)(X), q(X))


def test_state_dict_mismatches_are_errors(q):
    state = q.state_dict()
    missing = {k: v for k, v in state.items() if k != "0.layers.1.bias"}
    with pytest.raises(RuntimeError, match=r"Missing key.*0.layers.1.bias"):
        q.load_state_dict(missing)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*other"):
        q.load_state_dict(state | {"other": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="size mismatch"):
        q.load_state_dict(state | {"0.layers.1.bias": torch.zeros(3)})
    with pytest.raises(RuntimeError, match="Missing key"):
        q.load_state_dict(mlp().state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        mlp().load_state_dict(state)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("input_scale", math.nan), ("input_scale", math.inf), ("input_scale", 0.0),
        ("input_scale", -1.0), ("input_scale", 1e-42), ("input_zero_point", 256),
        ("input_zero_point", -1),
    ],
)  # fmt: skip
def test_a_state_dict_of_nonsense_is_an_error(key, value):
    q = fm.quantize(mlp(), CONFIGS["static"])
    state = q.state_dict()
    state[f"0.layers.1.{key}"] = torch.tensor(value, dtype=state[f"0.layers.1.{key}"].dtype)
    with pytest.raises(ValueError, match=key.removeprefix("input_").split("_")[0]):
        q.load_state_dict(state)


def test_pickle_torch_save_and_deepcopy(q, tmp_path):
    torch.save(q, tmp_path / "model.pt")
    copies = [
        pickle.loads(pickle.dumps(q)),
        torch.load(tmp_path / "model.pt", weights_only=False),
        copy.deepcopy(q),
    ]
    for again in copies:
        assert same(again(X), q(X))
        assert str(again) == str(q)
        assert fm.changes(again) == fm.changes(q)
        again.load_state_dict(other(q).state_dict())
        assert not same(again(X), q(X))


@pytest.mark.parametrize(
    "move",
    [
        lambda m: m.half(), lambda m: m.to(torch.bfloat16), lambda m: m.double(),
        lambda m: m.float(), lambda m: m.cpu(), lambda m: m.to("cpu", torch.float16),
        lambda m: m.share_memory(), lambda m: m.type(torch.float64), lambda m: m.requires_grad_(),
    ],
)  # fmt: skip
def test_moves_never_round_scales(q, move):
    expected, state = q(X), {k: v.clone() for k, v in q.state_dict().items()}
    move(q)
    assert same(q(X), expected)
    for key, value in q.state_dict().items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, state[key])


def test_grad_and_inference_modes(q):
    x = X.clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"input requires grad.*no_grad\(\)"):
        q(x)
    with torch.no_grad():
        expected = q(x)
    with torch.inference_mode():
        assert same(q(x), expected)
        assert same(q(X.clone()), expected)
    assert not expected.requires_grad
    assert same(fm.compile(q)(x), expected)


def test_training_mode_is_never_an_error(q):
    expected = q(X)
    assert same(q.train()(X), expected)
    assert same(q.eval()(X), expected)


def test_under_torch_compile_without_a_graph_break(q):
    compiled = torch.compile(q, fullgraph=True, backend="eager")
    assert same(compiled(X), q(X))
    assert same(compiled(X[:9]), q(X[:9]))
    torch._dynamo.reset()


def test_exported_programs_save_and_load(q):
    batch = torch.export.Dim("batch")
    program = torch.export.export(q, (X,), dynamic_shapes=({0: batch},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    again = torch.export.load(buffer).module()
    assert same(again(X), q(X))
    assert same(again(X[:7]), q(X[:7]))


class Rows(Dataset):
    """Runs a quantized model in a worker."""

    def __init__(self, model):
        self.model = model

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return self.model(X[i : i + 1])[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_dataloader_workers(method):
    q = fm.quantize(mlp(), CONFIGS["static"])
    q(X)  # the pool has run before the fork
    context = multiprocessing.get_context(method)
    for model in (q, fm.compile(q)) if method == "fork" else (q,):
        loader = DataLoader(
            Rows(model), batch_size=10, num_workers=1, multiprocessing_context=context
        )
        assert same(torch.cat([*loader]), q(X[:20]))


def test_it_reads_well(q, capsys):
    names = [name for name, _ in q.named_modules()]
    assert "0.layers.1" in names
    text = repr(q)
    assert "12, 5, int8" in text
    assert "activation=ReLU6" in text
    fm.summary(q, (12,))
    assert "QuantizedChain-1" in capsys.readouterr().out
    assert sum(p.numel() for p in q.parameters()) == 0
    assert {b.dtype for b in q.buffers()} <= {torch.int8, torch.uint8, torch.float32, torch.int32}


# Bad input.


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
        (torch.zeros(3, 12, device="meta"), ValueError, "'meta': use x.cpu"),
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
    with pytest.raises(TypeError, match=f"config: expected.*{message}"):
        fm.quantize(mlp(), config)


@pytest.mark.parametrize(
    ("calibration", "error", "message"),
    [
        (None, ValueError, "calibration: expected data"),
        (torch.empty(0, 12), ValueError, "calibration is empty"),
        ([], ValueError, "calibration"),
        (iter([]), ValueError, "calibration is empty"),
        (3, TypeError, "calibration must be"),
        ("mnist", TypeError, "calibration must be"),
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
        ({"mean": "0.5"}, TypeError, "mean must be a number"),
        ({"std": 0}, ValueError, "std must be finite and above 0"),
        ({"std": math.nan}, ValueError, "std must be finite"),
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


def test_calibration_data_of_the_wrong_shape_says_so():
    with pytest.raises((RuntimeError, ValueError), match="shapes"):
        fm.quantize(mlp(), fm.Static(torch.zeros(5, 13)))


def test_nothing_to_quantize(q):
    with pytest.raises(
        ValueError, match="at least one torch.nn.Linear to quantize, got none.*ReLU"
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
@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_empty_layers_never_crash(shape):
    try:
        q = fm.quantize(nn.Linear(*shape), fm.Dynamic())
        q(torch.zeros(3, shape[0]))
    except ValueError as error:
        assert "layer" in str(error)


def test_ops_refuse_nonsense():
    from fastmnist import _ops  # noqa: F401 - registers them

    x = torch.zeros(2, 3)
    for scale in (math.nan, math.inf, 0.0, -1.0, 1e-42):
        with pytest.raises((ValueError, RuntimeError), match="scale"):
            torch.ops.fastmnist.quantize(x, scale, 0)
    for zero_point in (-1, 256, 2**40):
        with pytest.raises((ValueError, RuntimeError), match="zero_point|zero point"):
            torch.ops.fastmnist.quantize(x, 1.0, zero_point)
    with pytest.raises((ValueError, RuntimeError), match="x"):
        torch.ops.fastmnist.quantize(torch.zeros(2, 3, dtype=torch.int32), 1.0, 0)
    for packed in (torch.zeros(0), torch.zeros(64, dtype=torch.uint8), torch.zeros(64)):
        with pytest.raises((ValueError, RuntimeError), match="packed"):
            torch.ops.fastmnist.mlp(x, packed, 2)
