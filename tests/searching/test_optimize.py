"""What recipes make of models: every step, every kind of data, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.searching.tuning import rate_at
from fastmnist.searching.widths import hidden_widths, narrowed
from fastmnist.testing import assert_recipe_holds


def table(n=256, features=12, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, features, generator=generator)
    return x, (x[:, :classes]).argmax(1)


def small_net(features=12, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(features, 48), nn.ReLU(), nn.Dropout(0.5), nn.Linear(48, 32), nn.ReLU(),
        nn.Linear(32, classes),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    model, data = small_net(), table()
    fm.train(model, data, epochs=20, seed=0)
    return model, data


RECIPES = [
    "int8", "dynamic", "int4", "bf16", "fp16", "fuse+int8", "train@2", "prune50+int8",
    "prune80@5+cluster8@1+int8", "random30+dynamic", "neurons50@2+int8", "neurons50@0",
    "distill(16,8)@3+qat8", "distill@2+int8", "lowrank50+int8", "rank3+int8", "energy90",
    "cluster4+int8", "cluster8(scope=channel)+int8", "qat4@2", "neurons50+prune50+cluster8+qat",
]  # fmt: skip


@pytest.mark.parametrize("text", RECIPES)
def test_every_step_and_what_made_it_is_kept(trained, text, tmp_path):
    model, data = trained
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    made = fm.optimize(model, data, text, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not made.training
    assert made(data[0][:5]).shape == (5, 3)
    assert fm.Recipe.made(made) == fm.Recipe.parse(text)
    assert fm.Recipe.made(copy.deepcopy(made)) == fm.Recipe.parse(text)
    fm.save(tmp_path / "m.safetensors", made)
    again = fm.load(tmp_path / "m.safetensors", into=model)
    assert fm.Recipe.made(again) == fm.Recipe.parse(text)
    assert fm.evaluate(again, data) == fm.evaluate(made, data)
    # Dropout is as it was, for whoever trains on.
    assert [m.p for m in made.modules() if isinstance(m, nn.Dropout)] in ([], [0.5])


def test_a_later_transform_makes_the_recipe_outdated(trained):
    model, data = trained
    pruned = fm.optimize(model, data, "prune50@0")
    assert fm.Recipe.made(pruned) is not None
    assert fm.Recipe.made(fm.quantize(pruned, fm.Static(data))) is None
    assert fm.Recipe.made(fm.compile(fm.optimize(model, data, "int8"))) == fm.Recipe.parse("int8")
    assert fm.Recipe.made(model) is None
    assert fm.Recipe.made(object()) is None


def test_same_seed_same_bits(trained):
    model, data = trained
    one, two = (fm.optimize(model, data, "prune50@2+qat4", seed=3) for _ in range(2))
    assert torch.equal(one(data[0]), two(data[0]))


def test_without_targets_the_model_teaches(trained):
    model, (x, y) = trained
    made = fm.optimize(model, x, "neurons50@20+int8")
    assert fm.evaluate(made, (x, y)) > 0.9


def test_regressions_train_by_squared_error():
    x = torch.randn(256, 6)
    y = x[:, :2].sum(1, keepdim=True)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    fm.train(model, (x, y), epochs=30, loss_fn=nn.MSELoss(), seed=0)
    made = fm.optimize(model, (x, y), "prune30@10+int8")
    assert fm.evaluate(made, (x, y)) > fm.evaluate(model, (x, y)) - 0.05


def test_max_drop_holds_or_is_an_error(trained):
    model, data = trained
    assert fm.optimize(model, data, "int8", max_drop=5) is not None
    with pytest.raises(
        ValueError, match=r"max_drop: expected a loss of at most 0 points, got .*n ="
    ):
        fm.optimize(model, data, "neurons75@0+int4", test=data, max_drop=0)
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="max_drop"):
            fm.optimize(model, data, "int8", max_drop=wrong)
    with pytest.raises(TypeError, match="max_drop"):
        fm.optimize(model, data, "int8", max_drop="0.3")


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("distill(96,64,32)", r"expected 2 widths.*0 \(48\), 3 \(32\); got 3"),
        ("distill(64,32)", "at most 48 neurons of '0'"),
        ("rank40+int8", "'rank40'"),
    ],
)
def test_steps_that_cannot_be_done_are_named(trained, recipe, told):
    model, data = trained
    with pytest.raises(ValueError, match=told):
        fm.optimize(model, data, recipe)


def test_layers_of_few_values_are_left_as_they_are(trained):
    model, data = trained
    made = fm.optimize(model, data, "cluster128@0")  # the last has 96 weights
    assert [c.layer for c in fm.changes(made) if c.kind == "clustered"] == ["0", "3"]
    tiny = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(ValueError, match=r"'cluster64@0'.*distinct"):
        fm.optimize(tiny, (torch.randn(64, 4), torch.randint(0, 3, (64,))), "cluster64@0")


def test_harm_is_said(trained):
    model, data = trained
    with pytest.warns(UserWarning, match=r"recipe 'neurons75@0' lost .* points of 256 rows"):
        fm.optimize(model, data, "neurons75@0")


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.one, self.two = nn.Linear(12, 32), nn.Linear(32, 3), nn.Linear(32, 1)

    def forward(self, x):
        x = torch.relu(self.body(x))
        return self.one(x), self.two(x)


def test_outputs_that_only_a_loss_of_ones_own_understands():
    made = fm.optimize(
        TwoHeads(),
        table(),
        "prune30+int8",
        loss_fn=lambda outputs, y: nn.functional.cross_entropy(outputs[0], y),
    )
    assert [*made(table()[0][:2])[0].shape] == [2, 3]


def test_what_is_no_model_or_no_data(trained):
    model, data = trained
    with pytest.raises(TypeError, match="model"):
        fm.optimize("model", data, "int8")
    with pytest.raises(ValueError, match=r"quantized|int8"):
        fm.optimize(fm.quantize(model, fm.Dynamic()), data, "int8")
    with pytest.raises(ValueError, match="Linear"):
        fm.optimize(nn.Sequential(nn.ReLU()), data, "int8")
    with pytest.raises((TypeError, ValueError), match="data"):
        fm.optimize(model, iter([data]), "int8")


def test_widths_and_narrower_networks():
    net = fm.NeuralNetwork()
    assert hidden_widths(net) == {"linear1": 96, "linear2": 256}
    student = narrowed(net, (32, 64), seed=0)
    assert isinstance(student, fm.NeuralNetwork)
    assert (student.linear2.in_features, student.linear2.out_features) == (32, 64)
    assert not torch.equal(student.linear1.weight, net.linear1.weight[:32])
    assert torch.equal(student.linear1.weight, narrowed(net, (32, 64), seed=0).linear1.weight)
    assert hidden_widths(nn.Sequential(nn.Linear(3, 2))) == {}


def test_rates_rise_and_fall():
    rates = [rate_at(step, 200) for step in range(200)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.05
    assert all(0 < rate <= 1 for rate in [*rates, rate_at(500, 200), rate_at(0, 1)])


def test_recipes_hold_or_the_assertion_says_what_was_lost(trained):
    model, data = trained
    made = assert_recipe_holds("int8", model, data, max_drop=5, test=data)
    assert fm.Recipe.made(made) == fm.Recipe.parse("int8")
    with pytest.raises(AssertionError, match=r"recipe 'neurons75@0\+int8': accuracy: expected"):
        assert_recipe_holds("neurons75@0+int8", model, data, max_drop=0.1, test=data)
    with pytest.raises(AssertionError, match="recipe 'int8'"):
        assert_recipe_holds("int8", model, data, max_drop=5, test=data, smaller=100)
    with pytest.raises(ValueError, match="max_drop: expected how much 'int8' may lose"):
        assert_recipe_holds("int8", model, data)
    assert assert_recipe_holds("plain", model, data, test=data)
