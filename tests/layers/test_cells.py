"""LSTMCell, GRUCell, RNNCell, RNN: torch's equations over int8 projections, or halved weights."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import same
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import fastmnist as fm
from fastmnist.layers.cells import QuantizedCell
from fastmnist.layers.half_weights import HalfWeightRecurrent
from fastmnist.layers.recurrent import QuantizedRecurrent
from fastmnist.measuring.sqnr import sqnr

X = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
CELLS = [
    (nn.LSTMCell, {}),
    (nn.LSTMCell, {"bias": False}),
    (nn.GRUCell, {}),
    (nn.RNNCell, {}),
    (nn.RNNCell, {"nonlinearity": "relu"}),
]


class Steps(nn.Module):
    """Runs the steps itself, as code with cells does."""

    def __init__(self, kind, options):
        super().__init__()
        self.cell, self.head = kind(6, 9, **options), nn.Linear(9, 4)

    def forward(self, x, hx=None):
        for _ in range(3):
            hx = self.cell(x, hx)
        return self.head(hx[0] if isinstance(hx, tuple) else hx)


def steps(kind, options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Steps(kind, options).eval()


def states(value):
    return [*value] if isinstance(value, tuple) else [value]


@pytest.mark.parametrize(("kind", "options"), CELLS)
@pytest.mark.parametrize(("dtype", "least"), [(torch.qint8, 38), (torch.float16, 65)])
@torch.no_grad()
def test_cells(kind, options, dtype, least, tmp_path):
    model = steps(kind, options)
    q = fm.quantize_dynamic(model, {kind}, dtype=dtype)
    assert isinstance(q.cell, QuantizedCell if dtype == torch.qint8 else HalfWeightRecurrent)
    assert type(q.head) is nn.Linear
    hx = model.cell(X)
    for mine, theirs in (
        (q.cell(X), hx),
        (q.cell(X, hx), model.cell(X, hx)),
        (q.cell(X[0]), model.cell(X[0])),
        (q(X), model(X)),
    ):
        for a, b in zip(states(mine), states(theirs), strict=True):
            assert a.shape == b.shape
            assert sqnr(b, a) > least
    assert same(q(X[:3]), q(X)[:3]) or dtype == torch.float16  # no row depends on others
    expected = q(X)
    for again in (copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        assert same(again(X), expected)
    assert same(states(copy.deepcopy(q.cell).double()(X))[0], states(q.cell(X))[0])
    fm.save(tmp_path / "cell.safetensors", q)
    assert same(fm.load(tmp_path / "cell.safetensors", into=steps(kind, options))(X), expected)
    fresh = fm.quantize_dynamic(Steps(kind, options), {kind}, dtype=dtype)
    fresh.load_state_dict(q.state_dict())
    assert same(fresh(X), expected)
    told = [str(change) for change in fm.changes(q)]
    assert any(told_of.startswith("cell: ") for told_of in told)


@pytest.mark.parametrize("which", [0, 2, 3])
def test_without_a_spec_and_by_dynamic(which):
    model = steps(*CELLS[which])
    for q in (fm.quantize_dynamic(model), fm.quantize(model, fm.Dynamic())):
        assert isinstance(q.cell, QuantizedCell)
        assert q.head.kind == "dynamic"
    left = fm.quantize(model, fm.Static(X))
    assert type(left.cell) is CELLS[which][0]
    assert any(change.layer == "cell" for change in fm.changes(left))


RNNS = [
    {},
    {"nonlinearity": "relu"},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False},
]


@pytest.mark.parametrize("options", RNNS)
@pytest.mark.parametrize(
    ("config", "least"), [(torch.qint8, 38), (torch.float16, 65), (fm.Half(), 38)]
)
@torch.no_grad()
def test_rnn(options, config, least, tmp_path):
    torch.manual_seed(0)
    owner = nn.RNN(6, 9, **options).eval()
    if isinstance(config, fm.Half):
        q = fm.quantize(owner, config)
    else:
        q = fm.quantize_dynamic(owner, {nn.RNN}, dtype=config)
        kind = QuantizedRecurrent if config == torch.qint8 else HalfWeightRecurrent
        assert isinstance(q, kind)
    x = torch.randn(4, 5, 6)
    for hx in (None, owner(x)[1]):
        for mine, theirs in zip(q(x, hx), owner(x, hx), strict=True):
            assert mine.shape == theirs.shape
            assert sqnr(theirs, mine) > least
    first = options.get("batch_first", False)
    lengths = torch.tensor([3, 1, 2, 2] if first else [3, 1, 2, 2, 3])
    packed = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
    assert sqnr(owner(packed)[0].data, q(packed)[0].data) > least
    fm.save(tmp_path / "rnn.safetensors", q)
    assert same(fm.load(tmp_path / "rnn.safetensors")(x)[0], q(x)[0])


def test_rnn_is_taken_where_it_is_named_as_torch_has_none():
    model = nn.ModuleDict({"rnn": nn.RNN(3, 4), "head": nn.Linear(4, 2)})
    assert type(fm.quantize_dynamic(model)["rnn"]) is nn.RNN
    assert isinstance(fm.quantize_dynamic(model, {"rnn"})["rnn"], QuantizedRecurrent)
    assert isinstance(fm.quantize(model, fm.Dynamic())["rnn"], QuantizedRecurrent)


def test_errors():
    q = fm.quantize_dynamic(steps(nn.LSTMCell, {}), {nn.LSTMCell}).cell
    for arguments, message in (
        ((torch.randn(2, 5),), r"input: expected 6 features, got shape \[2, 5\]"),
        ((torch.randn(1, 2, 6),), "input: expected a tensor of 1 or 2 dimensions"),
        ((X, torch.zeros(7, 9)), "hx: expected the pair"),
        ((X, (torch.zeros(7, 9), torch.zeros(6, 9))), r"hx: expected shape \[7, 9\], got \[6, 9\]"),
    ):
        with pytest.raises(ValueError, match=message):
            q(*arguments)
    told = q.describe()
    arrays = {key: value.numpy() for key, value in q.state_dict().items()}
    assert same(QuantizedCell.rebuild(told, "", arrays)(X)[0], q(X)[0])
    for change, message in (
        ({"mode": "RNN"}, "mode: expected one of LSTM"),
        ({"mode": "GRU"}, "expected 27 outputs, dynamic, got 36"),
        ({"layers": {}}, "input"),
    ):
        with pytest.raises(ValueError, match=message):
            QuantizedCell.rebuild({**told, **change}, "", arrays)
    half = fm.quantize_dynamic(steps(nn.RNNCell, {}), {nn.RNNCell}, dtype=torch.float16).cell
    arrays = {key: value.numpy() for key, value in half.state_dict().items()}
    for change, message in (
        ({"cell": "Cell"}, "cell: expected one of LSTMCell"),
        ({"hidden_size": 10**9}, "inner.weight_ih': expected shape"),
        ({"bias": 1}, "bias"),
    ):
        with pytest.raises(ValueError, match=message):
            HalfWeightRecurrent.rebuild({**half.describe(), **change}, "", arrays)
