"""factorize: a layer as the product of two thin ones."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from models import Functional, MyModel, UsedTwice, assert_unchanged, make, snapshot
from torch import nn

import fastmnist as fm
from fastmnist.factorization.svd import Decomposition
from fastmnist.layers.low_rank import LowRankLinear

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(4))


def mlp() -> nn.Sequential:
    return make(
        lambda: nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 14), nn.ReLU(),
                              nn.Linear(14, 4))
    )  # fmt: skip


HALF = fm.LowRank(ratio=0.5)


def left(model: nn.Module) -> dict[str, str]:
    return {c.layer: c.why for c in fm.changes(model) if c.kind == "left"}


# --- the numbers


def test_the_input_is_untouched_and_the_result_an_ordinary_module():
    model = MyModel().train()
    before = snapshot(model)
    thin = fm.factorize(model, fm.LowRank(rank=8))
    assert_unchanged(model, before)
    assert type(thin) is MyModel
    assert not thin.training
    layer = thin.fc1
    assert isinstance(layer, LowRankLinear)
    assert (layer.in_features, layer.out_features, layer.rank) == (784, 256, 8)
    assert [*thin.state_dict()][:3] == ["fc1.first.weight", "fc1.second.weight", "fc1.second.bias"]
    assert "rank=8" in repr(layer)
    assert str(fm.changes(thin)[0]) == "fc1: factorized: 8,320 of 200,704 weights are left: rank 8"


def test_without_data_it_is_the_truncated_svd():
    model = mlp()
    thin = fm.factorize(model, fm.LowRank(rank={"0": 5}))
    weight = model[0].weight.detach().double()
    u, s, v = torch.linalg.svd(weight)
    best = u[:, :5] * s[:5] @ v[:5]
    assert torch.allclose(thin[0].weight.double(), best, atol=1e-6)
    assert torch.equal(thin[0].bias, model[0].bias)
    assert torch.allclose(thin[0].first.weight.norm(dim=1), torch.ones(5))
    assert torch.equal(thin[2].weight, model[2].weight)


def test_with_data_no_factors_change_the_outputs_less():
    """Against gradient descent on the very error, from the answer and from elsewhere."""
    torch.manual_seed(0)
    mix = torch.randn(12, 12) * torch.logspace(0, -1.5, 12)
    rows = torch.randn(500, 12) @ mix + 0.7
    layer = nn.Linear(12, 16)
    thin = fm.factorize(nn.Sequential(layer), fm.LowRank(rank=4), rows)[0]
    want = layer(rows).detach()
    plain = fm.factorize(nn.Sequential(layer), fm.LowRank(rank=4))[0]
    with torch.no_grad():
        mine, other = (float((m(rows) - want).square().sum(1).mean()) for m in (thin, plain))
    assert mine < 0.7 * other
    for start in (thin, plain):
        other = copy.deepcopy(start).requires_grad_(True)
        optimizer = torch.optim.LBFGS(other.parameters(), max_iter=300, tolerance_change=1e-12)

        def loss(other=other, optimizer=optimizer):
            optimizer.zero_grad()
            value = (other(rows) - want).square().sum(1).mean()
            value.backward()
            return value

        optimizer.step(loss)
        assert mine <= loss().item() * (1 + 1e-3)


def test_rows_that_never_vary_cost_nothing():
    """Inputs of rank 3: so are the outputs, whatever the weights."""
    torch.manual_seed(0)
    rows = torch.randn(200, 3) @ torch.randn(3, 12)
    layer = nn.Linear(12, 16, bias=False)
    thin = fm.factorize(nn.Sequential(layer), fm.LowRank(rank=3), rows)
    assert torch.allclose(thin(rows), layer(rows), atol=1e-4)
    by_energy = fm.factorize(nn.Sequential(layer), fm.LowRank(energy=0.9999), rows)
    assert by_energy[0].rank == 3


@pytest.mark.parametrize("bias", [True, False])
def test_a_matrix_of_low_rank_is_found_again(bias):
    torch.manual_seed(0)
    layer = nn.Linear(12, 16, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(16, 2) @ torch.randn(2, 12))
    for data in (None, X):
        thin = fm.factorize(nn.Sequential(layer), fm.LowRank(energy=0.999999), data)
        assert thin[0].rank == 2
        assert torch.allclose(thin(X), layer(X), atol=1e-5)
    with torch.no_grad():
        layer.weight.zero_()
    thin = fm.factorize(nn.Sequential(layer), fm.LowRank(rank=1))
    assert torch.equal(thin(X), layer(X))


def test_energy_is_a_share_of_squared_singular_values():
    weight = torch.diag(torch.tensor([4.0, 2.0, 1.0, 0.0]))
    singular = Decomposition.of(weight, None, has_bias=False).singular
    for energy, rank in ((0.5, 1), (16 / 21, 1), (0.77, 2), (20 / 21, 2), (0.96, 3), (1.0, 3)):
        assert fm.LowRank(energy=energy).rank_of(singular) == rank


@pytest.mark.parametrize("ratio", [0.9, 0.5, 0.2, 0.05])
def test_ratio_is_a_share_of_all_weights_well_spent(ratio, trained, digits):
    def weights(model):
        return sum(p.numel() for n, p in model.named_parameters() if n.endswith("weight"))

    thin = fm.factorize(trained, fm.LowRank(ratio=ratio), digits)
    assert 0.9 * ratio < weights(thin) / weights(trained) <= ratio
    if ratio >= 0.2:
        assert fm.evaluate(thin, digits) > fm.evaluate(trained, digits) - 0.03


def test_one_layer_gets_the_largest_rank_that_fits():
    for spectrum in (torch.ones(12), torch.logspace(0, -6, 12)):
        layer = nn.Linear(12, 16)
        with torch.no_grad():
            layer.weight.copy_(nn.init.orthogonal_(torch.empty(16, 12)) * spectrum)
        for ratio in (0.2, 0.5, 0.8):
            thin = fm.factorize(nn.Sequential(layer), fm.LowRank(ratio=ratio))
            assert thin[0].rank == int(ratio * 12 * 16 / 28)


# --- which layers


def test_only_where_it_saves():
    model = mlp()
    thin = fm.factorize(model, fm.LowRank(rank={"0": 4, "4": 4}))
    assert isinstance(thin[0], LowRankLinear)
    assert type(thin[4]) is nn.Linear
    assert left(thin) == {
        "2": "excluded",
        "4": "rank 4 would save nothing: 72 weights for 56",
    }
    alone = fm.factorize(model, fm.LowRank(rank=3), include="0")
    assert left(alone) == {"2": "excluded", "4": "excluded"}
    with pytest.raises(ValueError, match=r"becomes smaller, got none: of '0', rank 12 would save"):
        fm.factorize(model, fm.LowRank(energy=1.0))


def test_functions_and_missing_biases():
    model = make(Functional)
    thin = fm.factorize(model, fm.LowRank(rank={"a": 3, "b": 2}), X)
    assert thin.a.bias is None
    assert "a.second.bias" not in thin.state_dict()
    assert fm.evaluate(thin, (X, torch.zeros(40, dtype=torch.int64))) >= 0
    assert fm.changes(thin)[0].checked == "rows"


def test_a_layer_called_twice_is_factorized_once():
    model = make(UsedTwice)
    thin = fm.factorize(model, fm.LowRank(rank={"inside": 4}), X)
    again = make(UsedTwice).eval()
    with torch.no_grad():
        again.inside.weight.copy_(thin.inside.weight)
        again.inside.bias.copy_(thin.inside.bias)
    assert torch.allclose(thin(X), again(X), atol=1e-5)


def test_a_forward_that_asks_for_types_is_refused():
    class Asks(nn.Sequential):
        def forward(self, x):
            for layer in self:
                x = layer(x) if type(layer) is nn.Linear else x
            return x

    with pytest.raises(ValueError, match="asks what its layers are"):
        fm.factorize(Asks(*mlp()), HALF)


def test_a_weight_that_forward_reads_is_left():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 12)

        def forward(self, x):
            return self.b(x) @ self.a.weight

    thin = fm.factorize(Tied(), fm.LowRank(rank=3))
    assert isinstance(thin.b, LowRankLinear)
    assert type(thin.a) is nn.Linear


def test_in_place_keeps_hooks_and_names():
    model = mlp()
    seen = []
    model[0].register_forward_hook(lambda m, args, out: seen.append(out.shape))
    shared = nn.ModuleList([model, model[0]])
    assert fm.factorize(shared[0], fm.LowRank(rank=3), include="0", inplace=True) is model
    model(X)
    assert seen[-1] == (40, 16)
    assert isinstance(model[0], LowRankLinear)
    with pytest.raises(ValueError, match="a single layer cannot change its class"):
        fm.factorize(nn.Linear(12, 16), fm.LowRank(rank=3), inplace=True)


# --- errors


@pytest.mark.parametrize(
    ("config", "options", "text"),
    [
        (fm.LowRank(rank=5), {}, "rank: expected at most 4 for '4', the smaller of its 14 inputs"),
        (fm.LowRank(rank={"0": 13}), {}, "rank: expected at most 12 for '0'"),
        (fm.LowRank(rank={"9": 1}), {}, "rank: expected one of the model's Linear layers"),
        (
            fm.LowRank(rank={"0": 1}),
            {"exclude": "0"},
            "rank: expected one of the model's Linear layers",
        ),
        (HALF, {"include": "7"}, "include: expected one of the model's Linear layers"),
        (HALF, {"epochs": 1}, "epochs: expected data= to train on with it"),
        (HALF, {"epochs": -1, "data": X}, "epochs: expected at least 0, got -1"),
        (HALF, {"augment": fm.Affine(), "data": X}, "augment: expected data to fine-tune on"),
        (HALF, {"max_drop": 1.0}, "max_drop: expected data= with it"),
        (HALF, {"data": X, "epochs": 1}, "data: expected targets to train with"),
        (HALF, {"data": X * torch.nan}, "got NaN or infinity at '0'"),
        (HALF, {"data": X[:0]}, "data: expected samples, got none"),
    ],
)
def test_bad_input_changes_nothing(config, options, text):
    model = mlp()
    before = snapshot(model)
    with pytest.raises(ValueError, match=text):
        fm.factorize(model, config, inplace=True, **options)
    assert_unchanged(model, before)


def test_the_order_is_named():
    q = fm.quantize(mlp(), fm.Dynamic())
    with pytest.raises(ValueError, match="quantized already: factorize before quantizing"):
        fm.factorize(q, HALF)
    with pytest.raises(ValueError, match="not factorized already, got none"):
        fm.factorize(fm.factorize(mlp(), fm.LowRank(rank=1)), HALF)
    with pytest.raises(ValueError, match=r"expected at least one .* to factorize, got none"):
        fm.factorize(nn.Sequential(nn.ReLU()), HALF)
    infinite = mlp()
    infinite[0].weight.data[0, 0] = torch.inf
    with pytest.raises(ValueError, match="expected finite weights, got NaN or infinity in '0'"):
        fm.factorize(infinite, HALF)


def test_data_that_reaches_no_layer():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(12, 12), nn.Linear(12, 12)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match=r"rows that reach every layer, got .*'unused'"):
        fm.factorize(Apart(), fm.LowRank(rank=2), X)


def test_bad_configurations():
    for options, text in (
        ({}, "expected exactly one of them, got none"),
        ({"rank": 3, "ratio": 0.5}, "got rank and ratio"),
        ({"rank": 0}, "rank: expected at least 1, got 0"),
        ({"rank": {}}, "rank: expected a rank for at least one layer"),
        ({"rank": {"a": 0}}, r"rank\['a'\]: expected at least 1"),
        ({"energy": 0}, "energy: expected a share above 0 and at most 1, got 0"),
        ({"energy": 1.1}, "energy: expected"),
        ({"ratio": 1}, "ratio: expected a share above 0 and below 1, got 1"),
        ({"ratio": float("nan")}, "ratio: expected"),
    ):
        with pytest.raises(ValueError, match=text):
            fm.LowRank(**options)
    for options in ({"rank": 1.5}, {"rank": True}, {"ratio": "half"}, {"rank": {"a": "b"}}):
        with pytest.raises(TypeError, match="expected"):
            fm.LowRank(**options)
    with pytest.raises(TypeError, match="config: expected a LowRank, got int"):
        fm.factorize(mlp(), 3)
    config = fm.LowRank(rank={"a": 1})
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config


def test_no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fm.quantize(fm.factorize(mlp(), HALF, X), fm.Static(X))


def test_what_is_left_of_a_factorized_model_must_be_named():
    """Or the output layer alone would be taken, at a cost that nobody asked for."""
    thin = fm.factorize(mlp(), HALF, include=["0", "2"])
    with pytest.raises(ValueError, match=r"factorized already, got '\d': name the others"):
        fm.factorize(thin, HALF)
    again = fm.factorize(thin, fm.LowRank(rank=2), include="4")
    assert again[4].rank == 2
    assert fm.factorize(thin, fm.LowRank(rank={"4": 2}))[4].rank == 2
