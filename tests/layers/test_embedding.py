"""Embedding and EmbeddingBag of codes: torch.ao's numbers, every mode, every way to hold them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from beside_torch import QUIET
from models import same
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
import fastmnist.ao as tq
from fastmnist.ao.quantize_fx import convert_fx, prepare_fx, prepare_qat_fx
from fastmnist.layers.embedding import QuantizedEmbedding, QuantizedEmbeddingBag
from fastmnist.measuring.sqnr import sqnr

pytestmark = QUIET
WORDS = torch.randint(0, 30, (9, 5), generator=torch.Generator().manual_seed(0))
LONG = WORDS.flatten()
OFFSETS = torch.tensor([0, 4, 4, 11, 40])


class Model(nn.Module):
    """A lookup, a bag, and a Linear behind both."""

    def __init__(self, padding=None, **options):
        super().__init__()
        self.words = nn.Embedding(30, 12, padding_idx=padding)
        self.bag = nn.EmbeddingBag(30, 12, padding_idx=padding, **options)
        self.head = nn.Linear(24, 3)

    def forward(self, words):
        return self.head(torch.cat((self.words(words).mean(1), self.bag(words)), 1))


def made(padding=None, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(padding, **options).eval()


@pytest.mark.parametrize("dtype", [torch.quint8, torch.quint4x2])
def test_the_numbers_of_torch(dtype):
    ao = pytest.importorskip("torch.ao.quantization")
    eight = dtype == torch.quint8
    name = "float_qparams_weight_only_qconfig" + "_4bit" * (not eight)
    found = []
    for lib in (ao, tq):
        model = made(mode="sum")
        model.words.qconfig = model.bag.qconfig = getattr(lib, name)
        q = lib.convert(lib.prepare(model))
        assert type(q.head) is nn.Linear
        found.append((q.bag(LONG, OFFSETS), q.words(LONG)))
    # torch keeps scales of 4-bit rows in float16, and its 4-bit lookup gives other shapes.
    for theirs, ours in [*zip(*found, strict=True)][: 1 + eight]:
        assert torch.allclose(theirs, ours, atol=1e-5 if eight else 0.03)
    assert sqnr(made().words(LONG).detach(), found[1][1]) > (45 if eight else 22)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 3, 29])
@pytest.mark.parametrize("bits", [8, 4])
@torch.no_grad()
def test_bags(mode, padding, bits):
    for last in (False, True):
        layer = made(padding, mode=mode, include_last_offset=last).bag
        q = QuantizedEmbeddingBag.of(layer, "bag", bits)
        exact = copy.deepcopy(layer)
        exact.weight.copy_(q.weight)
        assert torch.allclose(q(LONG, OFFSETS), exact(LONG, OFFSETS), atol=1e-5)
        assert torch.allclose(q(WORDS), exact(WORDS), atol=1e-5)
        assert torch.allclose(q(LONG.int(), OFFSETS.int()), exact(LONG, OFFSETS), atol=1e-5)
        if mode == "sum":
            weights = torch.rand(len(LONG))
            expected = exact(LONG, OFFSETS, per_sample_weights=weights)
            assert torch.allclose(q(LONG, OFFSETS, weights), expected, atol=1e-5)
    empty = torch.zeros(0, dtype=torch.int64)
    assert same(q(empty, torch.tensor([0, 0])), exact(empty, torch.tensor([0, 0])))


@pytest.mark.parametrize("width", [1, 2, 7, 12])
@pytest.mark.parametrize("bits", [8, 4])
@torch.no_grad()
def test_rows(width, bits):
    torch.manual_seed(0)
    layer = nn.Embedding(6, width)
    layer.weight[1] = 0.0
    layer.weight[2] = -3.5  # one value: exact
    layer.weight[3] *= 1e-30
    layer.weight[4] = 1e30 * torch.linspace(-1, 1, width)
    q = QuantizedEmbedding.of(layer, "words", bits)
    weight = layer.weight
    assert same(q.weight[1:3], weight[1:3])
    steps = (weight.amax(1) - weight.amin(1)) / (2**bits - 1)
    off = (q.weight - weight).abs().amax(1)
    assert (off <= 0.51 * steps + 1e-6 * weight.abs().amax(1) + 1e-7).all()
    indices = torch.tensor([[5, 0], [2, 2]])
    assert same(q(indices), F.embedding(indices, q.weight))
    assert q(torch.tensor(4)).shape == (width,)
    bytes_of_codes = q.weight_codes.numel()
    assert bytes_of_codes == 6 * (width if bits == 8 else (width + 1) // 2)


@pytest.mark.parametrize("dtype", [torch.quint8, torch.quint4x2])
@torch.no_grad()
def test_it_travels(dtype, tmp_path):
    model = made(2)
    spec = {nn.Embedding, nn.EmbeddingBag}
    q = fm.quantize_dynamic(model, spec, dtype=dtype)
    expected = q(WORDS)
    for again in (pickle.loads(pickle.dumps(q)), copy.deepcopy(q), copy.deepcopy(q).half().float()):
        assert same(again.words(WORDS), q.words(WORDS))
    path = tmp_path / "words.safetensors"
    fm.save(path, q)
    assert same(fm.load(path, into=made(2))(WORDS), expected)
    fresh = fm.quantize_dynamic(Model(2), spec, dtype=dtype)
    fresh.load_state_dict(q.state_dict())
    assert same(fresh(WORDS), expected)
    assert same(torch.export.export(q, (WORDS,)).module()(WORDS), expected)
    smaller = sum(t.nbytes for t in q.words.state_dict().values())
    assert smaller < model.words.weight.nbytes / 2
    assert any("int" in str(change) for change in fm.changes(q) if change.layer == "words")


def test_ways_to_ask():
    both = ["words", "bag"]
    mapping = tq.QConfigMapping().set_object_type(
        nn.Embedding, tq.float_qparams_weight_only_qconfig
    )
    for q, changed in (
        (fm.quantize_dynamic(made(), dtype=torch.quint8), both),
        (fm.quantize_dynamic(made(), dtype=torch.quint4x2), ["bag"]),
        (fm.quantize_dynamic(made(), {"words"}, dtype=torch.quint4x2), ["words"]),
        (convert_fx(prepare_fx(made(), mapping, (WORDS,))), ["words"]),
        (fm.quantize_dynamic(made()), []),
        (fm.quantize(made(), fm.Dynamic()), []),
    ):
        kinds = (QuantizedEmbedding, QuantizedEmbeddingBag)
        assert [n for n, m in q.named_modules() if isinstance(m, kinds)] == changed
    model = made()
    model.qconfig = tq.default_qconfig  # of Linear layers: embeddings stay
    prepared = tq.prepare(model)
    prepared(WORDS)
    assert type(tq.convert(prepared).words) is nn.Embedding


class Tied(nn.Module):
    """The decoder reads the embedding's weight."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(30, 12)

    def forward(self, words):
        return F.linear(self.words(words), self.words.weight)


def test_what_stays():
    for model, why in (
        (Tied(), "forward reads its weight itself"),
        (nn.Sequential(nn.Embedding(30, 12, max_norm=1.0)), "max_norm"),
    ):
        q = fm.quantize_dynamic(model, dtype=torch.quint8)
        assert any(type(m) is nn.Embedding for m in q.modules())
        assert why in str(fm.changes(q)[0])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("fx", [False, True])
def test_training_simulates_the_very_bits(bits, fx):
    rows = tq.default_embedding_qat_qconfig if bits == 8 else tq.default_embedding_qat_qconfig_4bit
    model = made(3, mode="sum").train()
    expected = copy.deepcopy(model)
    if fx:
        mapping = tq.QConfigMapping().set_global(tq.default_qat_qconfig)
        for kind in (nn.Embedding, nn.EmbeddingBag):
            mapping.set_object_type(kind, rows)
        prepared = prepare_qat_fx(model, mapping, (WORDS,))
    else:
        model.qconfig, model.words.qconfig, model.bag.qconfig = tq.default_qat_qconfig, rows, rows
        prepared = tq.prepare_qat(model, mapping=tq.get_embedding_qat_module_mappings())
    assert prepared.state_dict().keys() >= expected.state_dict().keys()
    optimizer = torch.optim.SGD(prepared.parameters(), 0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (prepared(WORDS) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert not prepared.words.weight.grad[3].any()  # the padding
    prepared.eval()
    simulated = prepared(WORDS).detach()
    for other in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))):
        assert same(other(WORDS).detach(), simulated)
    q = tq.convert(prepared)
    assert (type(q.words), type(q.bag)) == (QuantizedEmbedding, QuantizedEmbeddingBag)
    assert q.words.bits == q.bag.bits == bits
    assert same(q.words(WORDS), prepared.words(WORDS).detach())
    assert torch.allclose(q.bag(WORDS), prepared.bag(WORDS).detach(), atol=1e-6)
    assert sqnr(simulated, q(WORDS)) > 40
    plain = prepared.apply(tq.disable_fake_quant).words(WORDS)
    assert same(plain.detach(), F.embedding(WORDS, prepared.words.weight).detach())


def test_training_without_embeddings_in_the_mapping():
    model = made().train()
    model.qconfig = tq.default_qat_qconfig
    model.words.qconfig = tq.default_embedding_qat_qconfig
    prepared = tq.prepare_qat(model)
    assert type(prepared.words) is nn.Embedding
    prepared(WORDS)
    q = tq.convert(prepared)
    assert type(q.words) is QuantizedEmbedding
    assert type(q.bag) is nn.EmbeddingBag


def test_errors():
    q = fm.quantize_dynamic(made(), dtype=torch.quint8)
    with pytest.raises(TypeError, match=r"expected a tensor of int64 or int32, got torch\.fl"):
        q.words(torch.ones(3))
    for bad in (30, -1):
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            q.words(torch.tensor([bad]))
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            q.bag(torch.tensor([[bad]]))
    broken = made()
    with torch.no_grad():
        broken.words.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="layer 'words': expected finite numbers in its weight"):
        fm.quantize_dynamic(broken, dtype=torch.quint8)
    told = q.bag.describe()
    arrays = {key: value.numpy() for key, value in q.bag.state_dict().items()}
    assert QuantizedEmbeddingBag.rebuild(told, "", arrays).mode == "mean"
    for change, message in (
        ({"bits": 3}, "shape, bits: expected"),
        ({"shape": [10**12, 12]}, "weight_codes': expected shape"),
        ({"padding_idx": 30}, "padding_idx: expected one of 30 rows"),
        ({"mode": "median"}, "mode: expected one of sum"),
        ({"include_last_offset": 1}, "include_last_offset"),
    ):
        with pytest.raises(ValueError, match=message):
            QuantizedEmbeddingBag.rebuild({**told, **change}, "", arrays)
