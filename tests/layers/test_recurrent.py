"""LSTM and GRU: the equations of torch's, with projections through our own operator."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from models import same
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastmnist as fm
from fastmnist.ao import default_dynamic_qconfig
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.recurrent import QuantizedRecurrent

OPTIONS = [
    {},
    {"num_layers": 2, "batch_first": True},
    {"bidirectional": True, "bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.3},
]


def make(kind, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(6, 9, **options).eval()


def close(got, expected, tolerance=0.03):
    if isinstance(expected, tuple):
        return all(close(g, e, tolerance) for g, e in zip(got, expected, strict=True))
    return got.shape == expected.shape and bool((got - expected).abs().max() < tolerance)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", OPTIONS)
def test_outputs_states_and_shapes(kind, options):
    owner = make(kind, **options)
    q = fm.quantize_dynamic(owner, {kind})
    assert isinstance(q, QuantizedRecurrent)
    x = torch.randn(4, 7, 6)
    with torch.no_grad():
        assert close(q(x), owner(x))
        _, states = owner(x)
        assert close(q(x, states), owner(x, states))
        one = x[0]
        assert close(q(one), owner(one))
        _, single = owner(one)
        assert close(q(one, single), owner(one, single))


@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}])
def test_projected_states(options):
    owner = make(nn.LSTM, proj_size=4, **options)
    q = fm.quantize_dynamic(owner, {nn.LSTM})
    x = torch.randn(7, 3, 6)
    with torch.no_grad():
        assert close(q(x), owner(x))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("ordered", [True, False])
def test_packed_sequences(kind, options, ordered):
    owner = make(kind, **options)
    q = fm.quantize_dynamic(owner, {kind})
    lengths = torch.tensor([7, 5, 5, 1] if ordered else [5, 7, 1, 5])
    x = pack_padded_sequence(
        torch.randn(4, 7, 6), lengths, batch_first=True, enforce_sorted=ordered
    )
    with torch.no_grad():
        for states in (None, owner(x)[1]):
            y, last = q(x, states)
            expected, expected_last = owner(x, states)
            assert close(last, expected_last)
            got, n = pad_packed_sequence(y)
            want, m = pad_packed_sequence(expected)
            assert torch.equal(n, m)
            assert close(got, want)


def test_a_row_never_depends_on_the_others():
    q = fm.quantize_dynamic(make(nn.LSTM), {nn.LSTM})
    x = torch.randn(7, 5, 6)
    alone = torch.cat([q(x[:, i : i + 1])[0] for i in range(5)], dim=1)
    assert same(q(x)[0], alone)


class Tagger(nn.Module):
    """As in torch's guides: embedding, LSTM, Linear."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 9, batch_first=True)
        self.head = nn.Linear(9, 5)

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])


TOKENS = torch.randint(0, 20, (3, 8), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("spec", "recurrent", "layers"),
    [
        ({nn.Linear, nn.LSTM}, True, 3),
        ({nn.LSTM}, True, 2),
        ({nn.Linear}, False, 1),
        ({"lstm"}, True, 2),
        ({nn.Linear: None, nn.LSTM: default_dynamic_qconfig}, True, 2),
        (None, True, 3),
    ],
)
def test_in_a_model(spec, recurrent, layers):
    model = Tagger().eval()
    q = fm.quantize_dynamic(model, spec)
    assert isinstance(q.lstm, QuantizedRecurrent) == recurrent
    assert sum(isinstance(m, QuantizedLinear) for m in q.modules()) == layers
    with torch.no_grad():
        assert close(q(TOKENS), model(TOKENS), 0.05)


@pytest.mark.parametrize("config", [fm.Dynamic(), fm.Half(), fm.Half(torch.float16)])
def test_it_travels(config, tmp_path):
    model = Tagger().eval()
    q = fm.quantize(model, config)
    expected = q(TOKENS)
    with torch.no_grad():
        assert close(expected, model(TOKENS), 0.05)
    for again in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q), q.float()):
        assert same(again(TOKENS), expected)
    path = tmp_path / "tagger.safetensors"
    fm.save(path, q)
    assert same(fm.load(path, into=Tagger())(TOKENS), expected)
    buffer = io.BytesIO()
    torch.save(q.state_dict(), buffer)
    buffer.seek(0)
    fresh = fm.quantize(Tagger(), config)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert same(fresh(TOKENS), expected)
    exported = torch.export.export(q, (TOKENS,)).module()
    if isinstance(config, fm.Dynamic):
        assert same(exported(TOKENS), expected)


def test_bad_files(tmp_path):
    from fastmnist.layers.recurrent import checked_shape

    good = fm.quantize_dynamic(make(nn.LSTM), {nn.LSTM}).describe()
    assert checked_shape(good)["mode"] == "LSTM"
    for change in (
        {"mode": "RNN"},
        {"hidden_size": 0},
        {"num_layers": 10**9},
        {"bias": 1},
        {"proj_size": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(change))):
            checked_shape({**good, **change})
    path = tmp_path / "lstm.safetensors"
    fm.save(path, fm.quantize_dynamic(make(nn.LSTM), {nn.LSTM}))
    assert isinstance(fm.load(path), QuantizedRecurrent)
    content = path.read_bytes()
    assert rb"hidden_size\":9" in content
    path.write_bytes(content.replace(rb"hidden_size\":9", rb"hidden_size\":8"))
    with pytest.raises(ValueError, match="expected 6 inputs and 32 outputs"):
        fm.load(path)


def test_errors():
    q = fm.quantize_dynamic(make(nn.LSTM), {nn.LSTM})
    with pytest.raises(ValueError, match="input: expected 6 features, got shape"):
        q(torch.randn(2, 3, 5))
    with pytest.raises(ValueError, match="input: expected a tensor of 2 or 3 dimensions"):
        q(torch.randn(6))
    with pytest.raises(ValueError, match=r"hx: expected shape \[1, 3, 9\], got \[1, 2, 9\]"):
        q(torch.randn(2, 3, 6), (torch.zeros(1, 2, 9), torch.zeros(1, 3, 9)))
    with pytest.raises(ValueError, match="hx: expected the pair"):
        q(torch.randn(2, 3, 6), torch.zeros(1, 3, 9))
    with pytest.raises(ValueError, match="single layer cannot change its class"):
        fm.quantize_dynamic(make(nn.GRU), {nn.GRU}, inplace=True)
    with pytest.raises(RuntimeError, match="prepare_qat"):
        q(torch.randn(2, 3, 6, requires_grad=True))
    broken = make(nn.LSTM)
    with torch.no_grad():
        broken.weight_hh_l0[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"layer 'hh_l0': expected finite numbers in its weight"):
        fm.quantize_dynamic(broken, {nn.LSTM})


def test_recurrent_layers_keep_what_code_asks_for():
    for config in (fm.Dynamic(), fm.Half()):
        q = fm.quantize(nn.LSTM(4, 6, 2, bidirectional=True), config)
        q.flatten_parameters()
        assert (q.num_layers, q.hidden_size, q.bidirectional, q.batch_first) == (2, 6, True, False)
    q = fm.quantize(nn.GRU(4, 6), fm.Dynamic())
    assert q(torch.randn(7, 0, 4))[0].shape == (7, 0, 6)
    with pytest.raises(ValueError, match="at least one step"):
        q(torch.randn(0, 3, 4))
