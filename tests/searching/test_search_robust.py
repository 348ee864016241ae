"""A search is right or refuses: what it is judged by, what it resumes, what it shares."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastmnist as fm
from fastmnist.searching.steps import Step
from fastmnist.searching.workshop import Workshop
from fastmnist.testing import assert_recipe_holds


def table(n=400):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 12, generator=generator)
    return x, x[:, :3].argmax(1)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(12, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(),
        nn.Linear(32, 3),
    )  # fmt: skip
    data = table()
    fm.train(model, data, epochs=20, seed=0)
    return model, data


def binary():
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, :2].sum(1, keepdim=True) > 0).float()


def accuracy(outputs, targets):
    """One's own: of one output a row."""
    return ((outputs > 0).float() == targets).float().mean()


def test_a_metric_of_ones_own_called_accuracy_is_the_one_that_counts():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    found = fm.search(
        model, binary(), 100, budget=5, recipes=["int2", "random90@0+int8"], metric=accuracy,
        greater_is_better=True, loss_fn=nn.BCEWithLogitsLoss(),
    )  # fmt: skip
    for one in found.trials:
        assert one.drop == pytest.approx(100 * (found.about["score"] - one.score), abs=1e-3)
    assert any(one.drop != 0 and one.error > 0.5 for one in found.trials)  # of points


class ThreeAtOnce(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 9)

    def forward(self, x):
        return self.last(torch.relu(self.first(x))).reshape(-1, 3, 3)


def test_points_of_several_targets_a_row_are_of_all_targets():
    torch.manual_seed(0)
    model, (x, y) = ThreeAtOnce(), table()
    data = x, torch.stack([y, y, y], dim=1)
    found = fm.search(model, data, 100, budget=5, recipes=["int2", "random90@0+int8"])
    for one in found.trials:
        assert one.drop == pytest.approx(100 * (found.about["score"] - one.score), abs=1e-3)
    assert any(one.drop != 0 for one in found.trials)


def test_random_numbers_and_threads_stay_as_they_were(trained):
    model, data = trained
    loader = DataLoader(TensorDataset(*data), batch_size=40, shuffle=True)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    options = {"max_drop": 50, "budget": 3, "recipes": ["prune50+int8"]}
    found = [fm.search(model, loader, **options) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    assert found[0].about["score"] == found[1].about["score"]  # the same rows were parted
    fm.optimize(model, loader, "prune50+int8", max_drop=100)
    with pytest.raises(ValueError, match="recipe: 'distill"):
        fm.optimize(model, loader, "prune50+distill(9,9,layers=x)")
    assert_recipe_holds("prune50@0", model, loader, max_drop=100)
    with pytest.raises(ValueError, match="max_drop: expected 0 or more, got -1"):
        assert_recipe_holds("prune50@0", model, loader, max_drop=-1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_a_folder_does_not_take_other_rows_for_its_own(trained, tmp_path):
    model, (x, y) = trained
    options = {"budget": 3, "max_drop": 50, "recipes": ["int8"], "folder": tmp_path / "s"}
    fm.search(model, (x, y), **options)
    with pytest.raises(ValueError, match="another one's, of rows"):
        fm.search(model, (x.flip(1), y), **options)


def test_after_half_a_line_trials_are_stored_all_the_same(trained, tmp_path):
    model, data = trained
    options = {"max_drop": 50, "recipes": ["int4", "dynamic"], "folder": tmp_path / "s"}
    fm.search(model, data, budget=5, **options)
    file = tmp_path / "s" / "trials.jsonl"
    lines = file.read_text().splitlines()
    other = lines[1].replace('"int4"', '"nonsense"')
    file.write_text(f"{lines[0]}\n{other}\n{'[' * 9999}\n{lines[1][:40]}")
    again = fm.search(model, data, budget=50, **options)
    assert {t.key for t in again.trials} == {"int8", "int4", "dynamic"}
    read = fm.search(model, data, budget=50, **options)
    assert {t.at for t in read.trials} == {t.at for t in again.trials}  # nothing was done again


def test_what_is_made_anew_is_judged_anew(trained, tmp_path):
    """The model that is given is the one that was measured, though its file is gone."""
    model, data = trained
    options = {"max_drop": 100, "recipes": ["neurons75+int8"], "folder": tmp_path / "s"}
    first = fm.search(model, data, budget=20, objective="size", **options)
    assert first.best.key == "neurons75+int8"
    file = tmp_path / "s" / "trials.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line | {"drop": -77.0}) + "\n" for line in lines))
    for stored in (tmp_path / "s" / "models").iterdir():
        stored.unlink()
    again = fm.search(model, data, budget=40, objective="size", **options)
    assert again.best.key == "neurons75+int8"
    assert again.best.drop != -77.0
    assert again.best in again.trials


def test_a_process_that_shares_is_held_against_plain_int8_too(trained, tmp_path):
    model, data = trained
    options = {"max_drop": 50, "recipes": ["int4"], "budget": 10}
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    fm.search(model, data, storage=storage, **options)
    two = fm.search(model, data, storage=storage, **options)
    report = two.report(rounds=1)
    assert [row.name.split(" (")[0] for row in report][:2] == ["original", "static int8"]


def test_plain_int8_that_another_process_began_and_never_finished(trained, tmp_path, monkeypatch):
    model, data = trained
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    options = {"max_drop": 50, "recipes": ["int4"], "budget": 10, "storage": storage}

    def killed(self, recipe, rung):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Workshop, "make", killed)
        with pytest.raises(SystemExit):
            fm.search(model, data, **options)
    found = fm.search(model, data, **options)
    assert {t.key for t in found.trials} == {"int8", "int4"}


def test_what_text_cannot_say_is_for_optimize(trained):
    """Two of the same text would be one trial."""
    model, data = trained
    mask = (torch.rand(64, 12, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    own = fm.CustomMask({"0": mask})
    for step in (own, fm.Static(weight_bits={"0": 4, "*": 8})):
        with pytest.raises(ValueError, match="expected steps that text can say"):
            fm.search(model, data, 50, budget=8, recipes=[(step,)])
    made = fm.optimize(model, data, (Step(own, epochs=5), "int8"))
    assert fm.Recipe.made(made) is None
    weight = made.get_submodule("0").weight
    assert torch.all(weight[mask == 0] == 0)


def test_several_outputs_are_refused_in_words():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(12, 3)

        def forward(self, x):
            return self.layer(x), x

    with pytest.raises(TypeError, match="expected one tensor of outputs to judge by, got tuple"):
        fm.search(Two(), table(), budget=2)
