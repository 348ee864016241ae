"""One tensor, several uses: a mask belongs to the use that was pruned."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from models import make
from torch import Tensor, nn

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr


class TiedHead(nn.Module):
    """A language model whose output layer reads the embedding's table."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.Embedding(50, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 50, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.embedding(tokens)
        return self.head(self.fc(h).relu() + h)


class Siamese(nn.Module):
    """Two Linear layers that share a weight, and differ in their biases."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(16, 16), nn.Linear(16, 16)
        self.right.weight = self.left.weight
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.left(x).relu() - self.right(x).relu())


TOKENS = torch.arange(50).reshape(10, 5)
ROWS = torch.linspace(-2, 2, 8 * 16).reshape(8, 16)

AFTER_PRUNING = {
    "Dynamic": lambda model: fm.quantize(model, fm.Dynamic()),
    "Static": lambda model: fm.quantize(model, fm.Static(TOKENS)),
    "fuse": fm.fuse,
    "Half": lambda model: fm.quantize(model, fm.Half()),
    "in place": lambda model: fm.quantize(copy.deepcopy(model), fm.Dynamic(), inplace=True),
}


@pytest.mark.parametrize("transform", AFTER_PRUNING.values(), ids=AFTER_PRUNING)
def test_the_mask_of_a_head_leaves_the_embedding_alone(transform) -> None:
    model = make(TiedHead).eval()
    pruned = fm.prune(model, fm.L1Unstructured(0.6))
    with torch.no_grad():
        want = pruned(TOKENS)
    result = transform(pruned)
    assert torch.equal(result.embedding.weight, model.embedding.weight)
    assert torch.equal(pruned.embedding.weight, model.embedding.weight)
    assert sqnr(want, result(TOKENS).detach()) > 25


@pytest.mark.parametrize("method", [fm.L1Unstructured(0.9), fm.RandomUnstructured(0.5)])
def test_a_pruned_head_comes_back_from_a_file_apart_from_the_embedding(
    method, tmp_path: Path
) -> None:
    model = make(TiedHead).eval()
    pruned = fm.prune(model, method, example=TOKENS)
    fm.save(tmp_path / "a.safetensors", pruned)
    loaded = fm.load(tmp_path / "a.safetensors", into=make(TiedHead, seed=1))
    assert torch.equal(loaded.embedding.weight, model.embedding.weight)
    assert torch.equal(loaded(TOKENS), pruned(TOKENS))
    # And once more, from what was loaded.
    fm.save(tmp_path / "b.safetensors", loaded)
    again = fm.load(tmp_path / "b.safetensors", into=make(TiedHead, seed=2))
    assert torch.equal(again(TOKENS), pruned(TOKENS))


def test_an_unpruned_tied_model_comes_back_tied(tmp_path: Path) -> None:
    model = make(TiedHead).eval()
    fm.save(tmp_path / "a.safetensors", model)
    loaded = fm.load(tmp_path / "a.safetensors", into=make(TiedHead, seed=1))
    assert loaded.head.weight is loaded.embedding.weight
    assert torch.equal(loaded(TOKENS), model(TOKENS))


@pytest.mark.parametrize("pruned", [{"include": "left"}, {}], ids=["one of two", "both"])
def test_two_layers_with_one_weight(pruned: dict[str, str], tmp_path: Path) -> None:
    model = make(Siamese).eval()
    result = fm.prune(model, fm.L1Unstructured(0.8), example=ROWS, **pruned)
    zeros = {n: float((getattr(result, n).weight == 0).float().mean()) for n in ("left", "right")}
    assert zeros["left"] == pytest.approx(0.8, abs=0.01)
    assert zeros["right"] == pytest.approx(0.0 if pruned else 0.8, abs=0.01)
    fm.save(tmp_path / "a.safetensors", result)
    loaded = fm.load(tmp_path / "a.safetensors", into=make(Siamese, seed=1))
    assert torch.equal(loaded(ROWS), result(ROWS))
    quantized = fm.quantize(result, fm.Static(ROWS))
    assert sqnr(result(ROWS).detach(), quantized(ROWS)) > 25


def test_torchs_own_mask_of_a_tied_head_is_not_baked_into_the_embedding() -> None:
    model = make(TiedHead).eval()
    before = model.embedding.weight.detach().clone()
    torch.nn.utils.prune.l1_unstructured(model.head, "weight", amount=0.7)
    want = model(TOKENS).detach()
    quantized = fm.quantize(model, fm.Dynamic())
    assert torch.equal(quantized.embedding.weight, before)
    assert torch.equal(model.embedding.weight, before)
    assert sqnr(want, quantized(TOKENS)) > 25
