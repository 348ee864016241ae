"""A search: it ends, goes on where it stopped, and never gives what is slower and larger."""

from __future__ import annotations

import json
import math
import time
import warnings

import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.searching.budget import seconds_of
from fastmnist.searching.judging import paired_error
from fastmnist.searching.space import candidates, other_ends
from fastmnist.searching.splitting import split_rows
from fastmnist.searching.trial import Trial, best, latest, pareto, survivors
from fastmnist.searching.workshop import Workshop


def trial(key, drop=0.0, latency=1.0, size=100, rung=0, error=0.1):
    return Trial(key, key, rung, 0.9, drop, error, latency, 1 / latency, size, True, 1.0, 1.0)


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


FEW = ["int4", "dynamic", "prune50+int8", "neurons50+int8"]


def test_a_search_finds_something_and_says_what(trained, tmp_path):
    model, data = trained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = fm.search(model, data, max_drop=20, budget=20, recipes=FEW)
    assert found.met
    assert found.best in found.trials
    assert found.model(data[0][:4]).shape == (4, 3)
    assert str(found.recipe) == found.best.recipe
    assert fm.Recipe.made(found.model) == found.recipe
    assert {t.key for t in found.trials} >= {"int8", "int4", "dynamic"}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    text = str(found)
    assert "→ " in text
    assert "losing at most 20 points" in text
    stored = json.loads(found.to_json(tmp_path / "found.json"))
    assert stored["best"]["recipe"] == found.best.recipe
    assert [Trial.of_record(record) for record in stored["trials"]] == [*found.trials]
    assert len(found.to_frame()) == len(found.trials)
    report = found.report(rounds=2)
    assert report[0].name == "original"
    assert any("flattered" in note for note in report.about["notes"])


def test_promoted_recipes_train_longer(trained):
    model, data = trained
    found = fm.search(model, data, max_drop=20, budget=30, recipes=FEW)
    rungs = {t.rung: t for t in found.trials if t.key == "neurons50+int8"}
    if len(rungs) > 1:  # a busy machine may have had no time for it
        epochs = [fm.Recipe.parse(t.recipe).steps[0].epochs for _, t in sorted(rungs.items())]
        assert epochs == sorted(set(epochs))


def test_a_search_goes_on_where_it_stopped(trained, tmp_path):
    model, data = trained
    options = {"max_drop": 20, "recipes": FEW, "folder": tmp_path / "s"}
    first = fm.search(model, data, budget=6, **options)
    lines = (tmp_path / "s" / "trials.jsonl").read_text()
    (tmp_path / "s" / "trials.jsonl").write_text(lines + '{"recipe": "int')  # killed meanwhile
    again = fm.search(model, data, budget=12, **options)
    assert again.trials[: len(first.trials)] == first.trials
    keys = [(t.key, t.rung) for t in again.trials]
    assert len(keys) == len(set(keys))
    assert again.model(data[0][:2]).shape == (2, 3)
    done = fm.search(model, data, budget=0.5, **options)  # its time was used up
    assert {(t.key, t.rung) for t in done.trials} >= set(keys)


def test_a_folder_holds_one_search(trained, tmp_path):
    model, data = trained
    fm.search(model, data, budget=2, max_drop=20, recipes=["int8"], folder=tmp_path / "s")
    with pytest.raises(ValueError, match="another one's, of max_drop 20"):
        fm.search(model, data, budget=2, max_drop=1, recipes=["int8"], folder=tmp_path / "s")
    other = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="another one's, of model"):
        fm.search(other, data, budget=2, max_drop=20, recipes=["int8"], folder=tmp_path / "s")
    (tmp_path / "s" / "search.json").write_text("{")
    with pytest.raises(ValueError, match="expected a search"):
        fm.search(model, data, budget=2, max_drop=20, recipes=["int8"], folder=tmp_path / "s")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="folder"):
        fm.search(model, data, budget=2, folder=tmp_path / "file")


def test_two_processes_share_a_storage(trained, tmp_path):
    model, data = trained
    options = {"max_drop": 20, "recipes": ["int4", "dynamic"], "budget": 20}
    storage = f"sqlite:///{tmp_path / 'search.db'}"
    one = fm.search(model, data, storage=storage, **options)
    two = fm.search(model, data, storage=storage, **options)
    shared = {t.key: t for t in one.trials}
    assert all(t == shared[t.key] for t in two.trials if t.key != "int8")
    assert two.model(data[0][:2]).shape == (2, 3)
    with pytest.raises(ValueError, match="storage"):
        fm.search(model, data, storage="nonsense://x", **options)


def test_nobody_meets_the_goal():
    """Random weights: nothing that changes an answer can be called no loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 8))
    x = torch.randn(2000, 4)
    data = x, model(x).argmax(1)  # right by definition
    with pytest.warns(UserWarning, match="nothing lost at most 0 points: the nearest is"):
        found = fm.search(model, data, max_drop=0, budget=10, recipes=["neurons75@0+int4"])
    assert not found.met
    assert "nothing met the goal" in str(found)
    assert found.best.drop == min(t.drop for t in found.trials)


def test_a_budget_too_small_for_one_training_keeps_what_needs_none():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
                          nn.Linear(512, 4))  # fmt: skip
    x = torch.randn(20_000, 64)
    data = x, x[:, :4].argmax(1)
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fm.search(model, data, max_drop=100, budget=1.0)
    assert found.trials
    assert time.monotonic() - start < 60
    assert not any("@" in t.recipe.replace("@0", "") for t in found.trials)


def test_regressions_are_judged_by_their_own_metric():
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :2].sum(1, keepdim=True)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    fm.train(model, (x, y), epochs=40, loss_fn=nn.MSELoss(), seed=0)
    found = fm.search(model, (x, y), max_drop=0.5, budget=10, recipes=["int8", "dynamic"])
    assert found.about["metric"] == "r2"
    assert all(math.isfinite(t.error) for t in found.trials)
    assert "r2" in str(found)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"budget": "soon"}, ValueError, "budget"),
        ({"budget": 0}, ValueError, "budget"),
        ({"budget": None}, TypeError, "budget"),
        ({"budget": "5 parsecs"}, ValueError, "budget"),
        ({"objective": "speed"}, ValueError, "objective: expected latency, throughput, size"),
        ({"max_drop": -1}, ValueError, "max_drop"),
        ({"recipes": ["prun80"]}, ValueError, "prune80"),
        ({"metric": "accurate"}, ValueError, "metric"),
        ({"recipes": []}, ValueError, "recipes: expected at least one"),
        ({"recipes": "int8"}, TypeError, r"recipes: expected a list such as \['prune80"),
        ({"batch_size": 0}, ValueError, "batch_size: expected at least 1, got 0"),
        ({"seed": "x"}, TypeError, "seed: expected an int, got str"),
    ],
)
def test_bad_arguments(trained, options, error, told):
    model, data = trained
    with pytest.raises(error, match=told):
        fm.search(model, data, **{"budget": 5, **options})


def test_bad_data(trained):
    model, (x, y) = trained
    with pytest.raises((TypeError, ValueError), match="target"):
        fm.search(model, x, budget=5)
    with pytest.raises(ValueError, match="at least 16 rows"):
        fm.search(model, (x[:9], y[:9]), budget=5)


def test_budgets():
    assert [seconds_of(text) for text in ("5 min", "90s", "1.5 h", "2 minutes", 3)] == [
        300.0, 90.0, 5400.0, 120.0, 3.0,
    ]  # fmt: skip


def test_the_best_meets_the_goal_with_a_margin_and_is_not_slower_and_larger():
    plain = trial("int8")
    narrow = trial("narrow", drop=0.1, latency=0.5, size=50)
    risky = trial("risky", drop=0.29, latency=0.3, size=30)
    slow = trial("slow", drop=-1.0, latency=2.0, size=300)
    assert best([plain, narrow, risky, slow], 0.3, "latency", plain) == (narrow, True)
    assert best([plain, risky], 0.3, "size", plain) == (plain, True)
    assert best([plain, slow], 0.0, "latency", plain) == (plain, True)
    lossy = trial("int8", drop=5.0)
    assert best([lossy, slow], 0.3, "latency", lossy) == (lossy, False)
    twin = trial("twin", latency=0.51, size=40)
    assert best([narrow, twin], 0.3, "latency", plain) == (twin, True)


def test_fronts_and_longest_trainings():
    a, b = trial("a", drop=1.0, latency=0.5), trial("b", drop=0.0, latency=1.0)
    worse = trial("c", drop=1.0, latency=1.0)
    longer = trial("a", drop=0.2, latency=0.5, rung=1)
    assert pareto([a, b, worse]) == [a, b]
    assert latest([a, longer, b]) == [longer, b]
    assert pareto([a, longer, b, worse]) == [longer, b]


def test_survivors_are_those_that_training_may_save():
    fast_but_lost = trial("lost", drop=30.0, latency=0.1)
    near = trial("near", drop=0.5, latency=0.5)
    safe = trial("safe", drop=0.0, latency=1.0)
    assert survivors([fast_but_lost, safe, near], 0.3, "latency", 2, 2) == [near, safe]
    assert survivors([fast_but_lost], 0.3, "latency", 2, 2) == [fast_but_lost]


def test_what_recipes_share_is_made_once(trained):
    model, data = trained
    from fastmnist.searching.tuning import Tuning

    shop = Workshop(model, Tuning.of(data, model, progress=False), 2.0)
    one, two = map(fm.Recipe.parse, ("neurons50+int8", "neurons50+cluster8+int8"))
    assert shop.cost(one, 0) == 2.0
    shop.make(one, 0)
    assert shop.cost(one, 0) == 0.0
    assert shop.cost(two, 0) == 1.0
    assert shop.cost(one, 1) == 4.0  # goes on from rung 0
    assert str(shop.concrete(two, 1)) == "neurons50@6+cluster8@2+int8"


def test_what_is_taught_is_taught_at_every_rung(trained, monkeypatch):
    model, data = trained
    from fastmnist.searching.tuning import Tuning

    taught = []
    train = Tuning.train

    def noted(self, module, epochs, lr=None, augment=False, teaching=None):
        taught.append(teaching)
        return train(self, module, epochs, lr, augment, teaching)

    monkeypatch.setattr(Tuning, "train", noted)
    shop = Workshop(model, Tuning.of(data, model, progress=False), 1.0)
    for rung in (0, 1):
        shop.make(fm.Recipe.parse("distill(temperature=2)+int8"), rung)
    assert taught == [fm.Distillation(temperature=2)] * 2


def test_errors_of_differences():
    assert paired_error(0, 0, 1000) > 0
    assert paired_error(30, 10, 1000) == pytest.approx(0.0063, abs=2e-4)
    assert paired_error(0, 0, 10_000) < paired_error(0, 0, 100)


def test_rows_are_parted_and_none_is_lost():
    x, y = torch.arange(100.0)[:, None], torch.zeros(100, dtype=torch.int64)
    for data in (
        (x, y),
        torch.utils.data.TensorDataset(x, y),
        [*zip(x.split(10), y.split(10), strict=True)],
    ):
        fit, apart = split_rows(data, share=0.2, seed=0)
        rows = [
            {float(v) for batch in _batches(part) for v in batch.args[0].flatten()}
            for part in (fit, apart)
        ]
        assert rows[0] | rows[1] == set(map(float, range(100)))
        assert not rows[0] & rows[1]
        assert len(rows[1]) == 20


def _batches(part):
    from fastmnist.data.batches import iter_batches

    return iter_batches(part, split="train", batch_size=7)


def test_candidates_fit_the_model(trained):
    model, (x, y) = trained
    first = next(iter(_batches((x, y))))
    texts = [str(recipe) for recipe in candidates(model, first, True)]
    assert "neurons50(lr=0.003)+int8" in texts
    assert not any("augment" in text for text in texts)
    images = next(iter(_batches((torch.rand(8, 1, 28, 28), torch.zeros(8, dtype=torch.int64)))))
    assert any("augment" in str(r) for r in candidates(fm.NeuralNetwork(), images, True))
    shape = fm.Recipe.parse("neurons50(lr=0.003)+int8")
    assert str(other_ends(shape)[0]) == "neurons50(lr=0.003)+cluster16+int8"
    assert other_ends(fm.Recipe.parse("int4")) == []


def test_interrupted_it_gives_what_it_has(trained, monkeypatch):
    model, data = trained
    made = Workshop.make

    def make(self, recipe, rung):
        if str(recipe) == "dynamic":
            raise KeyboardInterrupt
        return made(self, recipe, rung)

    monkeypatch.setattr(Workshop, "make", make)
    found = fm.search(model, data, max_drop=20, budget=10, recipes=["int4", "dynamic", "fuse"])
    assert [t.key for t in found.trials] == ["int8", "int4"]
    assert any("interrupted" in note for note in found.about["notes"])


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(12, 32), nn.LayerNorm(32)
        self.second, self.last = nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, x, scale=1.0):
        x = self.first(x)
        if scale > 2:  # never so here: a branch, as people have them
            x = x * scale
        return self.last(x + torch.relu(self.second(self.norm(x))))


@pytest.mark.parametrize("objective", ["throughput", "size"])
def test_models_with_a_forward_of_their_own(objective):
    torch.manual_seed(0)
    model, data = Residual(), table()
    fm.train(model, data, epochs=10, seed=0)
    found = fm.search(model, data, 20, objective, budget=10, recipes=["int4", "prune50+int8"])
    assert type(found.model) is Residual
    smallest = min(t.size for t in found.trials)
    assert objective != "size" or found.best.size == smallest


def test_what_cannot_be_done_is_left_out_and_said(trained):
    model, data = trained
    found = fm.search(model, data, 20, budget=10, recipes=["int4", "distill(9,9,9)+int8"])
    assert any("left out 'distill(9,9,9)+int8'" in note for note in found.about["notes"])
