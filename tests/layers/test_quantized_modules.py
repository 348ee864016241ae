"""Quantized modules are modules: they save, copy, move, compile, export and fork like others."""

from __future__ import annotations

import copy
import io
import math
import multiprocessing
import pickle

import pytest
import torch
from models import mlp, same
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr

X = torch.randn(70, 12, generator=torch.Generator().manual_seed(3))
CONFIGS = {"static": fm.Static(X), "dynamic": fm.Dynamic()}


@pytest.fixture(params=CONFIGS)
def q(request) -> nn.Module:
    return fm.quantize(mlp(), CONFIGS[request.param])


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
    assert "5.weight_scale" in state
    assert state["0.weight_int8"].dtype == torch.int8
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
    missing = {k: v for k, v in state.items() if k != "3.bias"}
    with pytest.raises(RuntimeError, match=r"Missing key.*3.bias"):
        q.load_state_dict(missing)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*other"):
        q.load_state_dict(state | {"other": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="size mismatch"):
        q.load_state_dict(state | {"3.bias": torch.zeros(3)})
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"'0.weight': a float weight .*quantize that"):
            q.load_state_dict(mlp().state_dict(), strict=strict)
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
    state[f"3.{key}"] = torch.tensor(value, dtype=state[f"3.{key}"].dtype)
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
        lambda m: m.share_memory(), lambda m: m.type(torch.float64),
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
    with pytest.raises(RuntimeError, match=r"input: .* that requires grad.*no_grad\(\)"):
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert names == ["", "0", "1", "2", "3", "4", "5"]
    text = repr(q)
    assert "12, 33, int8" in text
    assert "activation=ReLU6" in text
    fm.summary(q, (12,))
    assert "QuantizedLinear-1" in capsys.readouterr().out
    assert sum(p.numel() for p in q.parameters()) == 2 * (33 + 17 + 5)  # scales and biases, frozen
    assert not any(p.requires_grad for p in q.parameters())
    assert {b.dtype for b in q.buffers()} <= {torch.int8, torch.uint8, torch.float32, torch.int32}


PIXELS = torch.randint(0, 256, (96, 12), generator=torch.Generator().manual_seed(4)).to(torch.uint8)


def test_pixels_are_not_stale_after_loading():
    q = fm.quantize(mlp(), fm.Static(PIXELS))
    q.load_state_dict(fm.quantize(mlp(), fm.Static(X * 3)).state_dict())
    with pytest.raises(ValueError, match="got uint8"):
        q(PIXELS)
    again = fm.quantize(mlp(), fm.Static(PIXELS))
    again.load_state_dict(fm.quantize(mlp(), fm.Static(PIXELS.flip(0))).state_dict())
    assert same(again(PIXELS), again(PIXELS / 255))


def test_traced_models_save_and_load():
    for q in (
        fm.quantize(mlp(), fm.Static(X)),
        fm.quantize(mlp(), fm.Dynamic()),
        fm.quantize(nn.Sequential(nn.Linear(12, 4)), fm.Half()),
    ):
        traced = torch.jit.trace(q, X)
        buffer = io.BytesIO()
        torch.jit.save(traced, buffer)
        buffer.seek(0)
        again = torch.jit.load(buffer)
        # 16 bits: what is traced is so for any number of rows, of the type itself if the CPU can.
        assert same(again(X[:7]), q(X[:7])) or sqnr(q(X[:7]), again(X[:7])) > 40


class ReadsWeightUntraced(nn.Module):
    """Reads a layer's weight where tracing cannot see it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return F.linear(x, self.fc.weight) if float(x.sum()) > -1e9 else x


def test_reading_a_weight_in_secret():
    """Right (the weight is dequantized), said not to have been run, refused where rows tell."""
    model = ReadsWeightUntraced()
    q = fm.quantize(model, fm.Dynamic())
    assert "not run" in str(fm.changes(q)[0])
    assert (q(X) - model(X)).abs().max() < 0.02
    assert not hasattr(q.fc, "anything")
    with pytest.raises(ValueError, match=r"'fc' was never called.*exclude=\['fc'\]"):
        fm.quantize(model, fm.Dynamic(), example=X)
    with pytest.raises(ValueError, match=r"layer 'fc' never saw data"):
        fm.quantize(model, fm.Static(X))
