"""prune: which weights each method masks, next to torch's own functions; unprune; sharing."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import Attention, Encoder, ReadsWeights, Tied, assert_unchanged, mlp, snapshot
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

import fastmnist as fm

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)
LAYERS = ("0", "3", "5")


def by_torch(model, method, amount, scope):
    """What torch.nn.utils.prune itself makes of a copy."""
    with torch.no_grad():
        return _by_torch(copy.deepcopy(model), method, amount, scope)


def _by_torch(model, method, amount, scope):
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    if scope == "global":
        torch_prune.global_unstructured(
            [(layer, "weight") for layer in layers], pruning_method=method, amount=amount
        )
    else:
        for layer in layers:
            method.apply(layer, "weight", amount)
    return model


def assert_same_masks(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


# --- the same choice as torch


@pytest.mark.parametrize("scope", ["layer", "global"])
@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.floats(0.05, 1), st.integers(0, 9))
def test_magnitude_as_torch(scope, widths, amount, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))
    sizes = [layer.weight.numel() for layer in model]
    counts = [sum(sizes)] if scope == "global" else sizes
    if not sum(round(amount * n) for n in counts):
        with pytest.raises(ValueError, match="removes none"):
            fm.prune(model, fm.L1Unstructured(amount, scope))
        return
    expected = by_torch(model, torch_prune.L1Unstructured, amount, scope)
    pruned = fm.prune(model, fm.L1Unstructured(amount, scope))
    assert_same_masks(pruned, expected)
    zeros = fm.sparsity(pruned)
    assert zeros.zeros == sum(round(amount * n) for n in counts)
    # And again: of what is left.
    if sum(round(amount * (n - round(amount * n))) for n in counts):
        again = fm.prune(pruned, fm.L1Unstructured(amount, scope))
        assert_same_masks(again, by_torch(expected, torch_prune.L1Unstructured, amount, scope))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_random_as_torch(scope):
    model = mlp()
    torch.manual_seed(3)
    expected = by_torch(model, torch_prune.RandomUnstructured, 0.4, scope)
    torch.manual_seed(3)
    pruned = fm.prune(model, fm.RandomUnstructured(0.4, scope))
    assert_same_masks(pruned, expected)
    again = by_torch(expected, torch_prune.RandomUnstructured, 0.4, scope)
    torch.manual_seed(3)
    assert_same_masks(fm.prune(model, fm.RandomUnstructured(0.4, scope)), expected)
    assert fm.sparsity(again).overall == pytest.approx(0.64, abs=0.01)


def test_random_with_a_seed():
    model, state = mlp(), torch.random.get_rng_state()
    first = fm.prune(model, fm.RandomUnstructured(0.5, seed=1))
    assert_same_masks(first, fm.prune(model, fm.RandomUnstructured(0.5, seed=1)))
    other = fm.prune(model, fm.RandomUnstructured(0.5, seed=2))
    assert not torch.equal(first[0].weight_mask, other[0].weight_mask)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert fm.sparsity(first).layers == pytest.approx(dict.fromkeys(LAYERS, 0.5), abs=0.01)


def test_global_compares_across_layers():
    model = mlp()
    with torch.no_grad():
        model[0].weight.mul_(0.01)
    zeros = fm.sparsity(fm.prune(model, fm.L1Unstructured(0.4, scope="global")))
    assert zeros.layers["0"] > 0.9
    assert zeros.layers["5"] < 0.1
    assert zeros.zeros == round(0.4 * zeros.weights)


def test_amounts_of_single_layers():
    model = mlp()
    pruned = fm.prune(model, fm.L1Unstructured(0.5), amounts={"0": 0.9, "5": 0})
    assert fm.sparsity(pruned).layers == pytest.approx({"0": 0.9, "3": 0.5, "5": 0}, abs=0.01)
    assert not torch_prune.is_pruned(pruned[5])
    pruned = fm.prune(model, fm.L1Unstructured(0.5, "global"), amounts={"0": 0.9, "5": 0.1})
    assert fm.sparsity(pruned).layers == pytest.approx({"0": 0.9, "3": 0.5, "5": 0.1}, abs=0.01)
    only = fm.prune(model, fm.L1Unstructured(0), amounts={"3": 1})
    assert fm.sparsity(only).layers == {"0": 0, "3": 1, "5": 0}


# --- masks of one's own


@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m,
        lambda m: m.float(),
        lambda m: m.to(torch.uint8),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.numpy(),
        lambda m: m.double().numpy(),
        lambda m: m.t().contiguous().t(),
        lambda m: m.float().requires_grad_(),
    ],
)
def test_masks_of_ones_own(convert):
    model, mask = mlp(), torch.rand(17, 33) < 0.5
    given_mask = convert(mask)
    for method in ({"3": given_mask}, fm.CustomMask({"3": given_mask})):
        pruned = fm.prune(model, method)
        expected = copy.deepcopy(model)
        torch_prune.custom_from_mask(expected[3], "weight", mask)
        assert_same_masks(pruned, expected)
        assert [c.layer for c in fm.changes(pruned)] == ["3"]


def test_a_mask_is_copied_and_pickles():
    mask = torch.zeros(33, 12)
    method = fm.CustomMask({"0": mask})
    mask.fill_(1)
    for same in (method, pickle.loads(pickle.dumps(method)), copy.deepcopy(method)):
        assert not fm.prune(mlp(), same)[0].weight.any()
    assert repr(method) == "CustomMask({'0': [33, 12]})"


def test_masks_add_to_what_is_masked():
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.5))
    keep = torch.ones(33, 12, dtype=torch.bool)
    keep[:11] = False
    again = fm.prune(pruned, {"0": keep})
    assert torch.equal(again[0].weight_mask != 0, keep & (pruned[0].weight_mask != 0))


@pytest.mark.parametrize(
    ("masks", "error", "match"),
    [
        ({}, ValueError, "masks: expected a mask for at least one layer, got none"),
        ({"nope": torch.ones(33, 12)}, ValueError, r"no Linear layer 'nope': it has '0', '3', '5'"),
        ({"1": torch.ones(33, 12)}, ValueError, "no Linear layer '1'"),
        ({"0": torch.zeros(12, 33)}, ValueError, r"masks\['0'\]: expected shape \[33, 12\]"),
        ({"0": torch.zeros(33)}, ValueError, r"expected shape \[33, 12\].*got \[33\]"),
        ({"0": torch.full((33, 12), 0.5)}, ValueError, r"masks\['0'\]: expected only 0 and 1"),
        ({"0": torch.full((33, 12), math.nan)}, ValueError, r"expected only 0 and 1"),
        ({"0": torch.full((33, 12), -1)}, ValueError, r"expected only 0 and 1"),
        ({"0": np.full((33, 12), 2)}, ValueError, r"expected only 0 and 1"),
        ({"0": torch.ones(33, 12, dtype=torch.complex64)}, TypeError, "got torch.complex64"),
        ({"0": np.full((33, 12), "a")}, TypeError, r"masks\['0'\]: expected booleans, or 0 and 1"),
        ({"0": [[1, 0]]}, TypeError, r"masks\['0'\]: expected a tensor or array, got list"),
        ({"0": None}, TypeError, "got NoneType"),
        ({0: torch.ones(33, 12)}, TypeError, "masks: expected names of layers, got 0"),
        ({"0": torch.ones(33, 12)}, ValueError, "masks that remove none"),
    ],
)
def test_masks_that_do_not_fit(masks, error, match):
    with pytest.raises(error, match=match):
        fm.prune(mlp(), masks)


def test_masks_that_are_no_mapping():
    with pytest.raises(TypeError, match="masks: expected a mapping such as"):
        fm.CustomMask([torch.ones(3)])


# --- methods


@pytest.mark.parametrize("method", [fm.L1Unstructured, fm.RandomUnstructured, fm.Structured])
def test_amounts(method):
    for amount in (-0.1, 1.01, math.nan, math.inf, 50):
        with pytest.raises(ValueError, match="amount: expected a share from 0 to 1, got"):
            method(amount)
    for amount in (True, "0.5", None, 1j):
        with pytest.raises(TypeError, match="amount: expected a float from 0 to 1, got"):
            method(amount)
    one = method(np.float32(0.5))
    assert type(one.amount) is float
    assert one == pickle.loads(pickle.dumps(one)) == method(0.5)


@pytest.mark.parametrize("method", [fm.L1Unstructured, fm.RandomUnstructured])
def test_scopes(method):
    for scope in ("all", None, ["layer"]):
        with pytest.raises(ValueError, match="scope: expected 'layer'"):
            method(0.5, scope=scope)


def test_seeds():
    for seed in (1.5, True, "0"):
        with pytest.raises(TypeError, match="seed: expected an int"):
            fm.RandomUnstructured(0.5, seed=seed)
    with pytest.raises(ValueError, match="seed: expected at least 0"):
        fm.RandomUnstructured(0.5, seed=-1)


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


# --- unprune, remove, checkpoints


def test_unprune_brings_everything_back():
    model = mlp().eval()
    torch_prune.l1_unstructured(model[0], "bias", 0.5)
    pruned = fm.prune(model, fm.L1Unstructured(0.9))
    before = snapshot(pruned)
    back = fm.unprune(pruned)
    assert_unchanged(pruned, before)
    assert not torch_prune.is_pruned(back)
    assert isinstance(back[0].weight, nn.Parameter)
    assert torch.equal(back[0].bias, model[0].bias_orig)
    assert back.state_dict().keys() == mlp().state_dict().keys()
    assert torch.equal(back(X), mlp().eval()(X))
    assert "unpruned: weight" in str(fm.changes(back)[-1])


@pytest.mark.parametrize(
    "make",
    [
        mlp,
        lambda: fm.prune(mlp(), fm.Structured(0.5, multiple_of=1)),
        lambda: fm.quantize(fm.prune(mlp(), fm.L1Unstructured(0.5)), fm.Dynamic()),
    ],
)
def test_nothing_to_unprune(make):
    with pytest.raises(ValueError, match="model: expected masks of torch"):
        fm.unprune(make())


def test_unprune_wants_a_model():
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module"):
        fm.unprune(mlp)


def test_torch_removes_our_masks_and_checkpoints_load():
    model = mlp().eval()
    pruned = fm.prune(model, fm.L1Unstructured(0.7, "global"))
    other = fm.prune(model, fm.RandomUnstructured(0.7))
    other.load_state_dict(pruned.state_dict())
    assert torch.equal(other(X), pruned(X))
    expected = pruned(X)
    for i in (0, 3, 5):
        assert torch_prune.is_pruned(pruned[i])
        torch_prune.remove(pruned[i], "weight")
    assert not torch_prune.is_pruned(pruned)
    assert torch.equal(pruned(X), expected)
    model.load_state_dict(pruned.state_dict())
    assert torch.equal(model(X), expected)
    other = fm.prune(other, fm.L1Unstructured(0), amounts={"0": 0.9})
    with torch.no_grad():
        expected = other(X)
    for again in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        assert torch.equal(again(X), expected)


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


def test_compare_takes_them(digits):
    model = fm.NeuralNetwork()
    variants = {"original": model, "masked": fm.prune(model, fm.L1Unstructured(0.5))}
    variants["smaller"] = fm.prune(model, fm.Structured(0.5))
    report = fm.compare(variants, digits.test.subset(20))
    assert report["smaller"].disk < report["original"].disk
    assert report["masked"].layers_changed == 3


# --- models that are not plain


def test_tied_layers_get_one_mask():
    pruned = fm.prune(Tied(), fm.L1Unstructured(0.5), include="b")
    assert pruned.a is pruned.b
    assert fm.sparsity(pruned).layers == {"a": 0.5, "head": 0}
    assert fm.unprune(pruned)

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    for method in (fm.L1Unstructured(0.5, "global"), fm.RandomUnstructured(0.5)):
        pruned = fm.prune(model, method)
        assert pruned[2].weight_orig is pruned[0].weight_orig
        assert torch.equal(pruned[2].weight, pruned[0].weight)
        assert fm.unprune(pruned)[2].weight is not None
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
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.5), amounts={"0": 1})
    assert fm.prune(pruned, fm.L1Unstructured(0.5))
    for what in ({"include": "0"}, {"amounts": {"0": 0.1}}):
        with pytest.raises(ValueError, match="expected layers with weights left, got '0'"):
            fm.prune(pruned, fm.L1Unstructured(0.5), **what)


def test_unprune_says_when_nothing_is_left_to_come_back(tmp_path):
    pruned = fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.5))
    fm.save(tmp_path / "m", pruned)
    with pytest.raises(ValueError, match="expected weights behind the masks, got zeros alone"):
        fm.unprune(fm.load(tmp_path / "m"))


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


def test_seeds_that_torch_does_not_take():
    with pytest.raises(ValueError, match="seed: expected less than"):
        fm.RandomUnstructured(0.5, seed=2**70)
