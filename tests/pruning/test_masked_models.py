"""prune: models that are not plain, and what the other transforms make of masks."""

from __future__ import annotations

import math

import pytest
import torch
from models import Attention, Encoder, ReadsWeights, Tied, assert_unchanged, mlp, snapshot
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

import fastmnist as fm

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)
LAYERS = ("0", "3", "5")


# --- what torch pruned


def test_models_that_torch_pruned():
    model = mlp()
    torch_prune.random_unstructured(model[0], "weight", 0.5)
    torch_prune.l1_unstructured(model[0], "weight", 0.5)  # a container of two
    torch_prune.l1_unstructured(model[0], "bias", 0.3)
    torch_prune.ln_structured(model[3], "weight", 0.5, n=2, dim=0)
    model(X)
    before = snapshot(model)
    pruned = fm.prune(model, fm.L1Unstructured(0.5))
    assert_unchanged(model, before)
    for i in (0, 3):
        masked = model[i].weight_mask == 0
        assert (pruned[i].weight[masked] == 0).all()
        left = int((~masked).sum())
        assert int(pruned[i].weight_mask.sum()) == left - round(0.5 * left)
    assert torch.equal(pruned[0].bias_mask, model[0].bias_mask)
    # torch goes on from there.
    torch_prune.l1_unstructured(pruned[0], "weight", 0.5)
    assert fm.sparsity(pruned).layers["0"] > 0.85


def test_zeros_without_masks_go_first():
    model = mlp()
    for layer in (model[0], model[3], model[5]):
        torch_prune.l1_unstructured(layer, "weight", 0.5)
        torch_prune.remove(layer, "weight")
    pruned = fm.prune(model, fm.L1Unstructured(0.8))
    assert fm.sparsity(pruned).layers == pytest.approx(dict.fromkeys(LAYERS, 0.8), abs=0.01)
    # The same share again gives the zeros a mask, so that training keeps them.
    masked = fm.prune(model, fm.L1Unstructured(0.5))
    assert torch.equal(masked[0].weight_mask != 0, model[0].weight != 0)
    assert torch.equal(masked(X), model.eval()(X))


@pytest.mark.parametrize(
    "method",
    [
        fm.L1Unstructured(0.8, "global"),
        fm.RandomUnstructured(0.6),
        {"0": torch.zeros(33, 12), "3": torch.ones(17, 33)},
        fm.Structured(0.5, multiple_of=1),
    ],
)
def test_the_other_transforms_keep_the_zeros(method, tmp_path):
    pruned = fm.prune(mlp(), method)
    wanted = fm.sparsity(pruned)
    for result in (
        fm.fuse(pruned),
        fm.quantize(pruned, fm.Dynamic()),
        fm.quantize(pruned, fm.Static(X)),
        fm.compile(pruned, X),
        fm.compile(pruned, dynamic=True),
    ):
        got = fm.sparsity(result)
        assert got.weights == wanted.weights
        assert all(share >= wanted.layers[name] for name, share in got.layers.items())
        torch.testing.assert_close(result(X), pruned(X), rtol=0, atol=0.15)
    static = fm.quantize(pruned, fm.Static(X))
    assert torch.equal(fm.compile(pruned, X)(X), static(X))
    fm.save(tmp_path / "models.safetensors", {"pruned": pruned, "int8": static})
    loaded = fm.load(tmp_path / "models.safetensors")
    assert torch.equal(loaded["pruned"](X), pruned(X))
    assert torch.equal(loaded["int8"](X), static(X))
    assert torch_prune.is_pruned(loaded["pruned"]) == torch_prune.is_pruned(pruned)


@pytest.mark.slow
def test_compare_takes_them(digits):
    model = fm.NeuralNetwork()
    variants = {"original": model, "masked": fm.prune(model, fm.L1Unstructured(0.5))}
    variants["smaller"] = fm.prune(model, fm.Structured(0.5))
    report = fm.compare(variants, digits.test.subset(20))
    assert report["smaller"].disk < report["original"].disk
    assert report["masked"].layers_changed == 3


# --- models that are not plain


def test_tied_layers_get_one_mask():
    tied = Tied()
    pruned = fm.prune(tied, fm.L1Unstructured(0.5), include="b")
    assert pruned.a is pruned.b
    assert fm.sparsity(pruned).layers == {"a": 0.5, "head": 0}
    back = fm.unprune(pruned)
    assert back.a is back.b
    assert torch.equal(back.a.weight, tied.a.weight)

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    for method in (fm.L1Unstructured(0.5, "global"), fm.RandomUnstructured(0.5)):
        pruned = fm.prune(model, method)
        assert pruned[2].weight_orig is pruned[0].weight_orig
        assert torch.equal(pruned[2].weight, pruned[0].weight)
        back = fm.unprune(pruned)
        assert back[2].weight is back[0].weight
        assert torch.equal(back[0].weight, model[0].weight)
    with pytest.raises(ValueError, match=r"expected the same for '0' and '2', which share one"):
        fm.prune(model, fm.L1Unstructured(0.5), amounts={"2": 0.25})


def test_weights_that_others_read():
    x = torch.rand(3, 5, 12)
    for model in (Encoder(), Attention()):
        pruned = fm.prune(model, fm.L1Unstructured(0.5))
        assert fm.sparsity(pruned).overall == pytest.approx(0.5, abs=0.01)
        assert pruned(x).shape == model.eval()(x).shape
    pruned = fm.prune(ReadsWeights(), fm.L1Unstructured(0.5))
    assert pruned(X).shape == (20, 12)


@pytest.mark.parametrize(
    "change",
    [parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.spectral_norm],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_computed_weights_are_an_error(change):
    model = mlp()
    change(model[3])
    for method in (fm.L1Unstructured(0.5), fm.Structured(0.5, multiple_of=1)):
        with pytest.raises(ValueError, match="expected plain weights, got '3'"):
            fm.prune(model, method)
    assert fm.prune(model, fm.L1Unstructured(0.5), exclude="3")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(value):
    model = mlp()
    with torch.no_grad():
        model[3].weight[0, 0] = value
    for method in (fm.L1Unstructured(0.5), fm.Structured(0.5, multiple_of=1)):
        with pytest.raises(ValueError, match="expected finite weights, got NaN or infinity in '3'"):
            fm.prune(model, method)


def test_types_modes_and_hooks():
    model = mlp().to(torch.bfloat16).train()
    seen = []
    model[0].register_forward_hook(lambda *args: seen.append(1))
    model[3].weight.requires_grad_(False)
    before = snapshot(model)
    pruned = fm.prune(model, fm.L1Unstructured(0.5))
    assert_unchanged(model, before)
    assert pruned(X).dtype == torch.float32
    assert seen == [1]
    assert pruned[0].weight_mask.dtype == torch.float32
    assert not pruned[3].weight_orig.requires_grad
    single = fm.prune(nn.Linear(4, 3), fm.L1Unstructured(0.5))
    assert fm.sparsity(single).layers == {"": 0.5}
    assert [str(c) for c in fm.changes(single)] == [": pruned: 50.0% of 12 weights are 0"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda():
    assert fm.prune(mlp().cuda(), fm.L1Unstructured(0.5))[0].weight.device.type == "cpu"


def test_all_masked_already():
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.5), amounts={"0": 1.0})
    assert fm.prune(pruned, fm.L1Unstructured(0.5))
    for what in ({"include": "0"}, {"amounts": {"0": 0.1}}):
        with pytest.raises(ValueError, match="expected layers with weights left, got '0'"):
            fm.prune(pruned, fm.L1Unstructured(0.5), **what)


def test_attentions_out_proj_cannot_be_trained_under_a_mask():
    encoder = nn.TransformerEncoderLayer(16, 2, 32)
    method = fm.L1Unstructured(0.5)
    with pytest.raises(ValueError, match=r"exclude=\['self_attn.out_proj'\]"):
        fm.prune(encoder, method, finetune=lambda m: None)
    pruned = fm.prune(encoder, method, finetune=lambda m: None, exclude="*out_proj")
    assert [c.layer for c in fm.changes(pruned)] == ["linear1", "linear2"]


def test_layers_that_share_a_weight_need_one_mask():
    tied = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="masks: expected the same mask for '0' and '1'"):
        fm.prune(tied, {"0": torch.eye(8), "1": 1 - torch.eye(8)})
    pruned = fm.prune(tied, {"0": torch.eye(8), "1": torch.eye(8)})
    assert pruned[0].weight_orig is pruned[1].weight_orig
