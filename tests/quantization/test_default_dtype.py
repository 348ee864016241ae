"""With another default dtype a float32 model is what it is: nothing is made of that default."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import fastmnist as fm
import fastmnist.ao as tq

X = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
MODEL = nn.Sequential(nn.Linear(12, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 4)).eval()
LSTM = nn.LSTM(12, 8, bias=False).eval()
TABLE = nn.Sequential(nn.Embedding(9, 8))


def trained() -> nn.Module:
    prepared = fm.prepare_qat(MODEL, fm.QAT()).train()
    for _ in range(3):
        prepared(X).sum().backward()
    again = fm.prepare_qat(fm.convert(prepared), fm.QAT()).train()
    again(X)
    return fm.convert(again)


def by_ao(name: str) -> nn.Module:
    model = copy.deepcopy(MODEL)
    model.qconfig = getattr(tq, name)("fbgemm")
    prepared = (tq.prepare_qat if "qat" in name else tq.prepare)(model.train("qat" in name))
    for scale in (1, 2):
        prepared(X * scale)
    return tq.convert(prepared.eval())


WAYS = {
    "fused": lambda: fm.fuse(MODEL),
    "static": lambda: fm.quantize(MODEL, fm.Static(X, observer="histogram")),
    "dynamic": lambda: fm.quantize(MODEL, fm.Dynamic()),
    "half": lambda: fm.quantize(MODEL, fm.Half()),
    "structured": lambda: fm.prune(MODEL, fm.Structured(0.5)),
    "trained": trained,
    "ao": lambda: by_ao("get_default_qconfig"),
    "ao, trained": lambda: by_ao("get_default_qat_qconfig"),
    "lstm": lambda: fm.quantize(LSTM, fm.Dynamic()),
    "table": lambda: fm.quantize_dynamic(TABLE, {nn.Embedding}, dtype=torch.quint8),
}


@pytest.fixture
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_made_is_the_same(way, request):
    expected = WAYS[way]().state_dict()
    request.getfixturevalue("in_float64")
    found = WAYS[way]().state_dict()
    assert [*found] == [*expected]
    for key, tensor in found.items():
        assert tensor.dtype == expected[key].dtype
        assert torch.allclose(tensor.double(), expected[key].double(), rtol=1e-4, atol=1e-6), key


def test_what_is_loaded_is_float32(tmp_path, in_float64):
    fm.save(tmp_path / "m.safetensors", {"float": MODEL, "fused": fm.fuse(MODEL)})
    loaded = fm.load(tmp_path / "m.safetensors")
    for name in ("float", "fused"):
        with torch.no_grad():
            assert torch.allclose(loaded[name](X), MODEL(X), atol=1e-5)
