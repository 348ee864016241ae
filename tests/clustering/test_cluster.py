"""cluster: few distinct weights, undone like masks, kept by whatever comes after."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from models import Attention, ReadsWeights, Tied, assert_unchanged, mlp, snapshot
from torch import nn
from torch.nn.utils import parametrizations

import fastmnist as fm
from fastmnist.layers.clusters import cluster_hook
from fastmnist.layers.kept import Kept

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)
LAYERS = ("0", "3", "5")
SCOPES = ("layer", "channel")


def distinct(layer: nn.Module, scope: str) -> int:
    weight = layer.weight.detach()
    rows = [weight] if scope == "layer" else weight
    return max(len(row.unique()) for row in rows)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("n", [2, 5, 8])
def test_weights_have_as_many_values(scope, n):
    model = mlp()
    before = snapshot(model)
    clustered = fm.cluster(model, fm.Clusters(n, scope=scope))
    assert_unchanged(model, before)
    for name in LAYERS:
        layer = clustered.get_submodule(name)
        assert distinct(layer, scope) == n
        assert layer.weight_indices.dtype == torch.uint8
        shape = [n] if scope == "layer" else [layer.out_features, n]
        assert [*layer.weight_centroids.shape] == shape
        assert "weight" not in dict(layer.named_parameters())
        far = (layer.weight - model.get_submodule(name).weight).abs().max()
        assert far < model.get_submodule(name).weight.abs().max()
    assert [c.kind for c in fm.changes(clustered)] == ["clustered"] * 3
    assert str(n) in str(fm.changes(clustered)[0])
    plain = copy.deepcopy(model).eval()
    with torch.no_grad():
        for name in LAYERS:
            plain.get_submodule(name).weight.copy_(clustered.get_submodule(name).weight)
    assert torch.equal(clustered(X), plain(X))


@pytest.mark.parametrize("scope", SCOPES)
def test_zeros_of_a_pruned_model_stay_in_training(scope):
    pruned = fm.prune(mlp(), fm.L1Unstructured(0.7))
    zero = {name: pruned.get_submodule(name).weight == 0 for name in LAYERS}
    clustered = fm.cluster(pruned, fm.Clusters(6, scope=scope))
    assert cluster_hook(clustered[0]).holds_zero
    assert distinct(clustered[0], scope) == 6  # the zero counted
    y = torch.randint(0, 3, (20,), generator=torch.Generator().manual_seed(0))
    centroids = clustered[0].weight_centroids.detach().clone()
    fm.train(clustered, (X, y), epochs=3, lr=0.01, seed=0)
    assert not torch.equal(clustered[0].weight_centroids, centroids)
    for name in LAYERS:
        assert torch.equal(clustered.get_submodule(name).weight == 0, zero[name])
        assert distinct(clustered.get_submodule(name), scope) <= 6
    free = fm.cluster(pruned, fm.Clusters(6, scope=scope, keep_zeros=False))
    assert not cluster_hook(free[0]).holds_zero


@pytest.mark.parametrize("scope", SCOPES)
def test_gradients_are_summed_per_cluster(scope):
    clustered = fm.cluster(mlp(), fm.Clusters(4, scope=scope)).train()
    layer = clustered[0]
    plain = nn.Linear(layer.in_features, layer.out_features)
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    layer(X).square().sum().backward()
    plain(X).square().sum().backward()
    index = layer.weight_indices.long()
    if scope == "layer":
        want = torch.zeros(4).index_add(0, index.flatten(), plain.weight.grad.flatten())
    else:
        want = torch.zeros(layer.out_features, 4).scatter_add(1, index, plain.weight.grad)
    torch.testing.assert_close(layer.weight_centroids.grad, want)
    assert torch.equal(layer.bias.grad, plain.bias.grad)


def test_any_training_loop_trains_centroids():
    clustered = fm.cluster(mlp(), fm.Clusters(5)).train()
    optimizer = torch.optim.SGD(clustered.parameters(), lr=0.05)
    y = torch.randint(0, 3, (20,), generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(clustered(X), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert distinct(clustered.eval()[0], "layer") <= 5
    clustered(X)  # and deep-copies right after a step with gradients
    copy.deepcopy(clustered)


def test_fine_tuning_on_data(trained, digits):
    before = fm.evaluate(fm.cluster(trained, fm.Clusters(3)), digits)
    tuned = fm.cluster(trained, fm.Clusters(3), digits, epochs=2)
    assert fm.evaluate(tuned, digits) > before
    assert distinct(tuned.linear1, "layer") <= 3
    seen = []
    fm.cluster(trained, fm.Clusters(3), finetune=lambda m: seen.append(m.training), epochs=2)
    assert seen == [True, True]


def test_max_drop_leaves_layers(trained, digits):
    kept = fm.cluster(trained, fm.Clusters(2), digits, max_drop=2.0)
    changed = {c.layer for c in fm.changes(kept) if c.kind == "clustered"}
    assert changed < {"linear1", "linear2", "linear3"}
    assert fm.evaluate(kept, digits) >= fm.evaluate(trained, digits) - 0.02


def test_undone_like_a_mask():
    model = mlp().eval()
    clustered = fm.cluster(model, fm.Clusters(4), include=["0", "5"])
    back = fm.uncluster(clustered)
    for key, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[key], value)
    assert torch.equal(back(X), model(X))
    with pytest.raises(ValueError, match="expected clustered layers"):
        fm.uncluster(back)
    with pytest.raises(ValueError, match="expected clustered layers"):
        fm.uncluster(fm.fuse(clustered))
    again = fm.cluster(clustered, fm.Clusters(3))  # of what it has
    assert distinct(again[0], "layer") == 3


def test_files_have_nothing_to_bring_back(tmp_path):
    fm.save(tmp_path / "c.safetensors", fm.cluster(mlp(), fm.Clusters(4)))
    with pytest.raises(ValueError, match="none behind"):
        fm.uncluster(fm.load(tmp_path / "c.safetensors"))


def test_bits_that_merge_values_say_so(trained):
    clustered = fm.cluster(trained, fm.Clusters(16))
    with pytest.warns(UserWarning, match=r"its 16 clustered values became \d"):
        fm.quantize(clustered, fm.Dynamic(weight_bits={"linear1": 3}))


def test_inplace_and_single_layers():
    model = mlp()
    assert fm.cluster(model, fm.Clusters(4), inplace=True) is model
    assert distinct(model[0], "layer") == 4
    alone = fm.cluster(nn.Linear(6, 5), fm.Clusters(4))
    assert isinstance(alone, nn.Linear)
    assert distinct(alone, "layer") == 4


def test_shared_weights_stay_shared():
    model = Tied()
    clustered = fm.cluster(model, fm.Clusters(4))
    tied = [m for m in clustered.modules() if cluster_hook(m) is not None]
    weights = {id(m.weight_centroids) for m in tied}
    original = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    assert len(weights) == len(original)


# ---- what comes after ----------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["static", "dynamic"])
def test_quantizing_keeps_clusters(config, trained, digits):
    clustered = fm.cluster(trained, fm.Clusters(16))
    how = fm.Static(calibration=digits.train) if config == "static" else fm.Dynamic()
    q = fm.quantize(clustered, how)
    for name in ("linear1", "linear2", "linear3"):
        layer, table = q.get_submodule(name), clustered.get_submodule(name).weight_centroids
        assert len(layer.weight_scale.unique()) == 1
        scale = table.detach().abs().max() / 127
        assert torch.equal(layer.weight_scale[0], scale)
        codes = torch.round(table.detach() / scale).to(torch.int8)
        assert set(layer.weight_int8.unique().tolist()) == set(codes.tolist())
        assert layer.kept == Kept(scope="layer", values=16)
    by_channel = fm.quantize(fm.cluster(trained, fm.Clusters(16, scope="channel")), how)
    assert len(by_channel.linear1.weight_scale.unique()) > 1
    assert all(len(row.unique()) <= 16 for row in by_channel.linear1.weight_int8)


def test_equal_to_the_int8_layer_of_the_same_codes(trained, digits):
    q = fm.quantize(fm.cluster(trained, fm.Clusters(16)), fm.Static(calibration=digits.train))
    x = digits.test.images[:50]
    compiled = fm.compile(q)
    want = q(x.float() / 255)
    assert torch.equal(torch.as_tensor(compiled(x)), want)
    plain = fm.quantize(trained, fm.Static(calibration=digits.train))
    plain.load_state_dict(q.state_dict())
    assert torch.equal(plain(x.float() / 255), want)


def test_all_together_keeps_zeros_and_clusters(trained, digits, tmp_path):
    """Prune, cluster, quantize, train on, convert, save, load."""
    pruned = fm.prune(trained, fm.L1Unstructured(0.8))
    zero = pruned.linear1.weight == 0
    clustered = fm.cluster(pruned, fm.Clusters(16), digits, epochs=1)
    assert torch.equal(clustered.linear1.weight == 0, zero)
    q = fm.quantize(clustered, fm.Static(calibration=digits.train))
    assert (q.linear1.weight_int8[zero] == 0).all()
    path = tmp_path / "q.safetensors"
    fm.save(path, q)
    for start in (q, fm.load(path), clustered):
        trainable = fm.prepare_qat(start, fm.QAT())
        fm.train(trainable, digits, epochs=1, seed=0)
        done = fm.convert(trainable)
        assert (done.linear1.weight_int8[zero] == 0).all()
        assert len(done.linear1.weight_int8.unique()) <= 16
        assert len(done.linear1.weight_scale.unique()) == 1
        x = digits.test.images[:50].float() / 255
        assert torch.equal(trainable.eval()(x), done(x))
        assert fm.evaluate(done, digits) > 0.8


def test_pruned_zeros_outlast_quantizing_without_clusters(trained, digits):
    q = fm.quantize(fm.prune(trained, fm.L1Unstructured(0.7)), fm.Dynamic())
    zero = q.linear1.weight_int8 == 0
    trainable = fm.prepare_qat(q, fm.QAT())
    fm.train(trainable, digits, epochs=1, seed=0)
    assert (fm.convert(trainable).linear1.weight_int8[zero] == 0).all()
    dense = fm.prepare_qat(fm.quantize(trained, fm.Dynamic()), fm.QAT())
    assert not any("weight_mask" in name for name, _ in dense.named_buffers())


def test_a_note_that_no_longer_holds_is_forgotten(trained, digits):
    fused = fm.fuse(fm.cluster(fm.prune(trained, fm.L1Unstructured(0.5)), fm.Clusters(8)))
    assert len(fm.quantize(fused, fm.Dynamic()).linear1.weight_scale.unique()) == 1
    fm.train(fused, digits, epochs=1)  # plain weights by now
    q = fm.quantize(fused, fm.Dynamic())
    assert len(q.linear1.weight_scale.unique()) > 1
    assert q.linear1.kept == Kept()


def test_a_folded_norm_gives_each_output_a_table():
    model = nn.Sequential(nn.Linear(12, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4))
    model(torch.randn(64, 12, generator=torch.Generator().manual_seed(0)) * 3)
    q = fm.quantize(fm.cluster(model, fm.Clusters(4)), fm.Dynamic())
    assert len(q[0].weight_scale.unique()) == 9
    assert len(q[3].weight_scale.unique()) == 1


# ---- how it travels ------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
def test_it_travels(scope, tmp_path):
    model = fm.cluster(fm.prune(mlp(), fm.L1Unstructured(0.4)), fm.Clusters(6, scope=scope))
    want = model(X)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    path = tmp_path / "clustered.safetensors"
    fm.save(path, model)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(buffer, weights_only=False),
        fm.load(path),
        fm.load(path, into=mlp()),
    ):
        assert torch.equal(other(X), want)
        assert cluster_hook(other[0]).holds_zero
        assert distinct(other[0], scope) <= 6
    fresh = fm.cluster(fm.prune(mlp(), fm.L1Unstructured(0.4)), fm.Clusters(6, scope=scope))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(X), want)
    assert torch.equal(torch.export.export(model, (X,)).module()(X), want)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model(X).float()).all()
    assert torch.equal(model.half().float()[0].weight == 0, fresh[0].weight == 0)


def test_state_dict_keys():
    clustered = fm.cluster(fm.NeuralNetwork(), fm.Clusters(16))
    keys = [key for key in clustered.state_dict() if key.startswith("linear1.")]
    assert sorted(keys) == ["linear1.bias", "linear1.weight_centroids", "linear1.weight_indices"]


def test_calls_keep_the_weight_until_numbers_change():
    model = fm.cluster(mlp(), fm.Clusters(4))
    layer = model[0]
    with torch.no_grad():
        model(X)
        first = layer.weight
        model(X)
        assert layer.weight is first
        layer.weight_centroids.mul_(2)
        model(X)
        torch.testing.assert_close(layer.weight, 2 * first)


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda m: fm.cluster(m, 16), TypeError, "config: expected Clusters"),
        (lambda m: fm.cluster(m, fm.Clusters(1)), ValueError, "n: expected from 2 to 256"),
        (lambda m: fm.cluster(m, fm.Clusters(257)), ValueError, "n: expected from 2 to 256"),
        (lambda m: fm.cluster(m, fm.Clusters(True)), TypeError, "n: expected an int"),
        (lambda m: fm.cluster(m, fm.Clusters(4, scope="row")), ValueError, "scope"),
        (lambda m: fm.cluster(m, fm.Clusters(4, keep_zeros=1)), TypeError, "keep_zeros"),
        (lambda m: fm.cluster(m, fm.Clusters(200)), ValueError, r"distinct weights that '\d'"),
        (lambda m: fm.cluster(m, fm.Clusters(4), epochs=2), ValueError, "epochs: expected data="),
        (lambda m: fm.cluster(m, fm.Clusters(4), epochs=-1), ValueError, "epochs"),
        (lambda m: fm.cluster(m, fm.Clusters(4), include="9"), ValueError, "got '9'"),
        (lambda m: fm.cluster(nn.ReLU(), fm.Clusters(4)), ValueError, "to cluster"),
        (
            lambda m: fm.cluster(fm.quantize(m, fm.Dynamic()), fm.Clusters(4)),
            ValueError, "cluster the float model, then quantize it",
        ),
        (
            lambda m: fm.cluster(fm.prepare_qat(m), fm.Clusters(4)),
            ValueError, "cluster the float model, then prepare it",
        ),
        (
            lambda m: fm.prune(fm.cluster(m, fm.Clusters(4)), fm.L1Unstructured(0.5)),
            ValueError, "prune first, then cluster",
        ),
    ],
)  # fmt: skip
def test_refused_before_anything_is_changed(make, kind, text):
    model = mlp()
    before = snapshot(model)
    with pytest.raises(kind, match=text):
        make(model)
    assert_unchanged(model, before)


def test_weights_that_are_not_finite():
    model = mlp()
    with torch.no_grad():
        model[3].weight[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite numbers"):
        fm.cluster(model, fm.Clusters(4))


def test_models_that_are_not_plain():
    read = fm.cluster(ReadsWeights(), fm.Clusters(4))
    assert {c.layer for c in fm.changes(read)} < {n for n, m in read.named_modules() if n}
    assert torch.isfinite(read(X)).all()
    attention = fm.cluster(Attention(), fm.Clusters(4))
    assert cluster_hook(attention.get_submodule("attention").out_proj) is None
    normed = nn.Sequential(parametrizations.weight_norm(nn.Linear(12, 9)), nn.ReLU())
    assert distinct(fm.cluster(normed, fm.Clusters(4))[0], "layer") == 4
