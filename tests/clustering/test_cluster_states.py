"""What is written or loaded into a clustered model, and what that leaves of its clusters."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from models import mlp
from torch import nn
from torch.nn.utils import prune

import fastmnist as fm
from fastmnist.layers.clusters import cluster_hook

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)
LAYERS = ("0", "3", "5")
SCOPES = ("layer", "channel")


@pytest.mark.parametrize("scope", SCOPES)
def test_zeros_outlast_noise_on_all_parameters(scope, tmp_path):
    model = fm.cluster(fm.prune(mlp(), fm.L1Unstructured(0.4)), fm.Clusters(5, scope=scope))
    zeros = model[0].weight == 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
        model(X)
    fm.save(tmp_path / "noisy.safetensors", model)
    for one in (model, fm.load(tmp_path / "noisy.safetensors"), fm.quantize(model, fm.Dynamic())):
        assert torch.equal(one[0].weight == 0, zeros)
    model.train()(X)
    assert torch.equal(model[0].weight == 0, zeros)


def test_tied_weights_stay_tied(tmp_path):
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.Linear(12, 5))
        model[2].weight = model[0].weight
        return model

    model = tied()
    clustered = fm.cluster(model, fm.Clusters(4))
    path = tmp_path / "tied.safetensors"
    fm.save(path, clustered)
    for one in (clustered, copy.deepcopy(clustered), fm.load(path, into=tied())):
        assert one[0].weight_centroids is one[2].weight_centroids
        assert one[0].weight_indices is one[2].weight_indices
    back = fm.uncluster(clustered)
    assert back[0].weight is back[2].weight
    assert torch.equal(back[0].weight, model[0].weight)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_state_says_whether_it_holds_zeros(scope):
    """Tables with a 0 that stays and without one have state_dicts of the same shapes."""
    plain = fm.cluster(mlp(), fm.Clusters(4, scope=scope))
    zeros = fm.cluster(fm.prune(mlp(), fm.L1Unstructured(0.4)), fm.Clusters(4, scope=scope))
    for one, other in ((plain, zeros), (zeros, plain)):
        fresh = copy.deepcopy(one)
        fresh.load_state_dict(other.state_dict())
        assert torch.equal(fresh(X), other(X))
        assert cluster_hook(fresh[0]).holds_zero == cluster_hook(other[0]).holds_zero
        again = pickle.loads(pickle.dumps(fresh))
        again.load_state_dict(one.state_dict())
        assert torch.equal(again(X), one(X))


def test_weights_behind_are_those_of_the_clusters():
    model = fm.cluster(mlp(), fm.Clusters(4))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        model[0].weight_centroids.mul_(2)
    model.load_state_dict(state)  # as after training for too long
    assert torch.equal(fm.uncluster(model)[0].weight, mlp()[0].weight)
    other = mlp()
    with torch.no_grad():
        for name in LAYERS:
            other.get_submodule(name).weight.mul_(
                torch.rand(other.get_submodule(name).weight.shape)
            )
    model.load_state_dict(fm.cluster(other, fm.Clusters(4)).state_dict())
    with pytest.raises(ValueError, match="weights from before clustering, got none behind '0'"):
        fm.uncluster(model)


def test_a_plain_weight_is_not_loaded():
    model = fm.cluster(mlp(), fm.Clusters(4))
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"'0\.weight': a plain weight does not fit"):
            model.load_state_dict(mlp().state_dict(), strict=strict)
    back = fm.uncluster(model)
    back.load_state_dict(mlp().state_dict())
    assert not back[0]._load_state_dict_pre_hooks


def test_centroids_that_are_pruned():
    layer = fm.cluster(mlp(), fm.Clusters(4))[0]
    prune.l1_unstructured(layer, "weight_centroids", amount=2)
    with pytest.raises(TypeError, match=r"weight_centroids: .* do that before fm.cluster"):
        layer(X)
