"""fuse: Linear, BatchNorm1d and activations in one layer, the same numbers, the input untouched."""

from __future__ import annotations

import pytest
import torch
from models import (
    ControlFlow,
    Functional,
    MyModel,
    ReadsWeights,
    SharedActivation,
    UsedTwice,
    assert_unchanged,
    quality,
    randomize,
    relu_then_norm,
    snapshot,
)
from torch import nn
from torch.nn.utils import prune as torch_prune

import fastmnist as fm
from fastmnist.layers.fused import FusedLinear

X = torch.randn(64, 12, generator=torch.Generator().manual_seed(1))


def close(model, fused, x=X, tolerance=1e-4):
    mode = model.training
    with torch.no_grad():
        torch.testing.assert_close(fused(x), model.eval()(x), rtol=tolerance, atol=tolerance)
    model.train(mode)


def names(model):
    return [type(m).__name__ for m in model]


def bn(n=16, **options):
    return nn.BatchNorm1d(n, **options)


CHAINS = {
    "after": ([nn.Linear(12, 16), bn(), nn.ReLU(), nn.Linear(16, 4)], 2),
    "past the activation": ([nn.Linear(12, 16), nn.ReLU(), bn(), nn.Linear(16, 4)], 2),
    "past the dropout": ([nn.Linear(12, 16), nn.ReLU(), nn.Dropout(), bn(), nn.Linear(16, 4)], 2),
    "leading": ([bn(12), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4)], 2),
    "trailing": ([nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4), bn(4)], 2),
    "everywhere": ([bn(12), nn.Linear(12, 16), bn(), nn.ReLU(), bn(), nn.Linear(16, 4), bn(4)], 2),
    "twice": ([nn.Linear(12, 16), bn(), bn(), nn.Linear(16, 4)], 2),
    "not affine": ([nn.Linear(12, 16), bn(affine=False), nn.Linear(16, 4)], 2),
    "no bias": ([nn.Linear(12, 16, bias=False), bn(), nn.ReLU6(), nn.Linear(16, 4, bias=False)], 2),
    "no momentum": ([nn.Linear(12, 16), bn(momentum=None), nn.Hardtanh(-2, 3)], 1),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("seed", [0, 1])
def test_batchnorm_folds_wherever_it_stands(name, seed):
    layers, left = CHAINS[name]
    model = randomize(nn.Sequential(*layers), seed)
    before = snapshot(model)
    fused = fm.fuse(model)
    close(model, fused)
    assert_unchanged(model, before)
    kinds = names(fused)
    assert kinds.count("FusedLinear") + kinds.count("Linear") == left
    assert set(kinds) <= {"FusedLinear", "Linear", "Identity"}


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Linear(12, 16), bn(track_running_stats=False), nn.Linear(16, 4)],
        [bn(12, track_running_stats=False), nn.Linear(12, 4)],
        [nn.Linear(12, 16), nn.ReLU(), bn()],
        [nn.Linear(12, 16), nn.ReLU(), bn(), nn.ReLU(), nn.Linear(16, 4)],
    ],
)
def test_batchnorm_stays_where_it_cannot_fold(layers):
    model = randomize(nn.Sequential(*layers))
    fused = fm.fuse(model)
    close(model, fused)
    assert "BatchNorm1d" in names(fused)


def test_batchnorm_over_the_middle_of_three_dimensions_stays():
    model = randomize(nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(5), nn.Linear(16, 4)))
    x = torch.randn(7, 5, 12)
    fused = fm.fuse(model)
    close(model, fused, x)
    assert "BatchNorm1d" in names(fused)


@pytest.mark.parametrize(
    ("activation", "clamp", "text"),
    [
        (nn.ReLU(), (0, float("inf")), "ReLU"),
        (nn.ReLU(inplace=True), (0, float("inf")), "ReLU"),
        (nn.ReLU6(), (0, 6), "ReLU6"),
        (nn.Hardtanh(), (-1, 1), "Hardtanh(-1, 1)"),
        (nn.Hardtanh(-0.5, 2.5), (-0.5, 2.5), "Hardtanh(-0.5, 2.5)"),
    ],
)
def test_activations_become_bounds(activation, clamp, text):
    model = nn.Sequential(nn.Linear(12, 16), activation, nn.Linear(16, 4))
    fused = fm.fuse(model)
    assert isinstance(fused[0], FusedLinear)
    assert fused[0].clamp == clamp
    assert f"activation={text}" in repr(fused)
    close(model, fused, tolerance=0)


def test_several_activations_compose():
    model = nn.Sequential(nn.Linear(12, 16), nn.Hardtanh(-2, 0.5), nn.ReLU(), nn.ReLU6())
    fused = fm.fuse(model)
    assert fused[0].clamp == (0, 0.5)
    close(model, fused, tolerance=0)


def test_the_network_becomes_three_layers_and_identities():
    model = fm.NeuralNetwork()
    fused = fm.fuse(model)
    assert type(fused) is fm.NeuralNetwork
    assert not fused.training
    assert [type(m) for m in (fused.linear1, fused.linear2, fused.linear3)] == [
        FusedLinear,
        FusedLinear,
        nn.Linear,
    ]
    for name in ("relu1", "relu2", "dropout1", "dropout2"):
        assert isinstance(getattr(fused, name), nn.Identity)
    close(model, fused, torch.rand(5, 1, 28, 28), tolerance=0)
    assert {c.layer for c in fm.changes(fused) if c.what != "dropped"} == {"linear1", "linear2"}
    assert {c.layer for c in fm.changes(fused) if c.what == "dropped"} == {"dropout1", "dropout2"}
    assert not fm.changes(model)


@pytest.mark.parametrize("kind", [Functional, MyModel, SharedActivation, UsedTwice, ControlFlow])
def test_own_forwards_give_the_same_numbers(kind):
    model = randomize(kind())
    x = torch.rand(4, 1, 28, 28) if kind is MyModel else X
    before = snapshot(model)
    fused = fm.fuse(model)
    assert type(fused) is kind
    close(model, fused, x, tolerance=1e-6)
    assert_unchanged(model, before)


def test_a_layer_whose_weights_are_read_is_left():
    model = ReadsWeights()
    fused = fm.fuse(model)
    assert type(fused.encoder) is nn.Linear
    close(model, fused, tolerance=0)


def test_nothing_to_fuse_gives_a_plain_copy():
    model = nn.Sequential(nn.Conv1d(1, 1, 3), nn.Sigmoid())
    fused = fm.fuse(model)
    assert fused is not model
    assert fm.changes(fused) == []
    assert names(fused) == ["Conv1d", "Sigmoid"]


def test_a_second_time_changes_nothing_more():
    fused = fm.fuse(randomize(nn.Sequential(bn(12), nn.Linear(12, 16), nn.ReLU())))
    again = fm.fuse(fused)
    assert str(again) == str(fused)
    assert torch.equal(again(X), fused(X))


def test_masks_and_norms_become_plain_weights():
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    torch_prune.random_unstructured(model[2], "bias", 0.5)
    before = snapshot(model)
    fused = fm.fuse(model)
    close(model, fused, tolerance=0)
    assert_unchanged(model, before)
    assert {*fused.state_dict()} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(12, 16)), nn.ReLU(), nn.Linear(16, 4)
    )
    fused = fm.fuse(model)
    assert isinstance(fused[0], FusedLinear)
    close(model, fused, tolerance=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_old_style_weight_norm_and_spectral_norm():
    model = nn.Sequential(
        nn.utils.weight_norm(nn.Linear(12, 16)), nn.ReLU(), nn.utils.spectral_norm(nn.Linear(16, 4))
    )
    model(X)
    model.eval()
    before = snapshot(model)
    for result in (fm.fuse(model), fm.quantize(model, fm.Static(X))):
        tolerance = 1e-5 if isinstance(result[0], FusedLinear) else 0.1
        close(model, result, tolerance=tolerance)
        assert not result[0]._forward_pre_hooks
    assert_unchanged(model, before)


def test_hooked_layers_are_left_alone_and_hooks_run():
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4), nn.ReLU())
    seen = []
    model[1].register_forward_hook(lambda m, args, y: seen.append((args[0].clone(), y.clone())))
    fused = fm.fuse(model)
    assert not seen
    fused(X)
    assert seen[0][0].min() < 0 <= seen[0][1].min()
    assert names(fused) == ["Linear", "ReLU", "FusedLinear", "Identity"]


@pytest.mark.parametrize("value", [None, 3, "model", {}, nn.Linear])
def test_no_module(value):
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got .*"):
        fm.fuse(value)


def test_a_class_gets_a_hint():
    with pytest.raises(TypeError, match=r"did you mean MyModel\(\)\?"):
        fm.fuse(MyModel)


def test_what_cannot_be_copied_is_named():
    model = MyModel()
    model.fc2.stream = (i for i in range(3))
    with pytest.raises(TypeError, match=r"attribute 'fc2.stream' cannot be deep-copied"):
        fm.fuse(model)


def test_no_data_to_read():
    with pytest.raises(ValueError, match="device 'meta'"):
        fm.fuse(nn.Linear(3, 2, device="meta"))
    with pytest.raises(ValueError, match="lazy layer that never ran"):
        fm.fuse(nn.Sequential(nn.LazyLinear(3)))


def test_a_norm_past_an_activation_is_not_folded_before_it():
    model = relu_then_norm()
    fused = fm.fuse_modules(model.eval(), [["0", "1"]])
    for other in (
        fm.fuse(fm.fuse(model)),
        fm.fuse(fused),
        fm.quantize(fused, fm.Static(X)),
        fm.quantize(fm.fuse(model), fm.Dynamic()),
        fm.prepare_qat(fused),
        fm.prepare_qat(fm.quantize(model, fm.Static(X))),
    ):
        assert quality(model, other, X) > 30
    with pytest.raises(ValueError, match="follows its activation"):
        fm.fuse_modules(fused, [["0", "2"]])
