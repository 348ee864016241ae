"""fastmnist recipes, optimize, search, compare --recipes: statuses, files, and what is refused."""

from __future__ import annotations

import json

import pytest
from torch import nn

import fastmnist as fm
from fastmnist.cli import main

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, x):
        return self.body(x)

def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 8, generator=generator)
    y = x[:, :3].argmax(1)
    return (x[:300], y[:300]), (x[300:], y[300:])
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    return ["--model", "net.py:Net", "--data", "net.py:data", "--epochs", "20", "--threads", "1"]


def test_recipes_are_listed(tmp_path, capsys):
    assert main(["recipes", "--json", str(tmp_path / "r.json")]) == 0
    text = capsys.readouterr().out
    assert "deep-compression" in text
    assert "distill(96,64)" in text
    stored = json.loads((tmp_path / "r.json").read_text())
    assert {r["name"] for r in stored["recipes"]} >= {"plain", "smallest"}
    for recipe in stored["recipes"]:
        assert str(fm.Recipe.parse(recipe["steps"])) == recipe["steps"]


def test_optimize_saves_what_a_recipe_makes(own, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(fm.Recipe.parse("prune30@1+int8").to_yaml())
    arguments = ["optimize", "--recipe", "mine.yaml", *own, "--output", "o.safetensors"]
    assert main([*arguments, "--json", "o.json"]) == 0
    assert "prune30@1+int8" in capsys.readouterr().out
    made = fm.load(tmp_path / "o.safetensors", into=_net(tmp_path))
    assert str(fm.Recipe.made(made)) == "prune30@1+int8"
    stored = json.loads((tmp_path / "o.json").read_text())
    assert stored["bytes"] == (tmp_path / "o.safetensors").stat().st_size
    assert stored["n"] == 100


def _net(folder) -> nn.Module:
    names: dict = {}
    exec((folder / "net.py").read_text(), names)
    return names["Net"]()


def test_search_of_a_class_of_ones_own(own, tmp_path, capsys):
    arguments = ["search", *own, "--budget", "8 s", "--max-drop", "30", "--folder", "s"]
    arguments += ["--recipes", "int4", "prune50+int8"]
    assert main([*arguments, "--json", "s.json", "--html", "s.html"]) == 0
    text = capsys.readouterr().out
    assert "saved to best.safetensors" in text
    stored = json.loads((tmp_path / "s.json").read_text())
    assert stored["met"]
    assert stored["about"]["n"] == 50  # half of the rows to test on
    assert (tmp_path / "s.html").stat().st_size < 1_000_000
    assert fm.load(tmp_path / "best.safetensors", into=_net(tmp_path)) is not None
    assert main([*arguments, "--budget", "9 s"]) == 0  # goes on
    assert (tmp_path / "s" / "trials.jsonl").exists()


def test_a_search_says_that_the_original_knew_the_rows_that_judge(own, tmp_path, capsys):
    arguments = ["search", *own, "--budget", "2s", "--max-drop", "50", "--recipes", "int8"]
    assert main(arguments) == 0
    assert "the original was trained on all rows" not in capsys.readouterr().out  # two sets
    (tmp_path / "net.py").write_text(
        NET.replace("return (x[:300], y[:300]), (x[300:], y[300:])", "return x, y")
    )
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "rows that no candidate was trained on" in said
    assert "the original was trained on all rows" in said


def test_a_goal_that_nobody_meets_is_status_1(own, capsys, tmp_path):
    arguments = ["search", *own, "--budget", "6 s", "--max-drop", "0", "--seed", "3"]
    status = main([*arguments, "--recipes", "neurons75@0+int4", "--json", "s.json"])
    stored = json.loads((tmp_path / "s.json").read_text())
    assert status == (0 if stored["met"] else 1)
    assert (tmp_path / "best.safetensors").exists()  # the nearest


def test_a_recipe_that_loses_too_much_is_saved_and_status_1(own, capsys, tmp_path):
    arguments = ["optimize", *own, "--recipe", "neurons75@0+int4", "--max-drop", "0.1"]
    assert main(arguments) == 1
    assert "--max-drop: expected a loss of at most 0.1 points, got" in capsys.readouterr().err
    assert (tmp_path / "optimized.safetensors").exists()
    assert main([*arguments[:-1], "100"]) == 0


def test_compare_takes_recipes(own, capsys, tmp_path):
    arguments = ["compare", *own, "--quick", "--recipes", "int8", "prune50@1+int8", "low-rank"]
    assert main([*arguments, "--json", "c.json", "--html", "c.html"]) == 0
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["original", "int8", "prune50@1+int8", "low-rank"]


def test_compiled_models_of_pixels_have_one_row_each(tmp_path, capsys):
    arguments = ["compare", "--data", "digits", "--quick", "--threads", "1"]
    arguments += ["--recipes", "plain", "dynamic", "--json", str(tmp_path / "c.json")]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert [(row["name"], row["rows"]) for row in rows] == [
        ("original", "float32"), ("plain", "uint8"), ("dynamic", "uint8"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["optimize", "--recipe", "prun80"], "did you mean 'prune80'"),
        (["optimize", "--recipe", "int8+prune80"], "write 'prune80+int8'"),
        (["optimize", "--recipe", "missing.yaml"], "missing.yaml"),
        (["optimize", "--recipe", "int8", "--output", "no/such/folder/x"], "cannot write"),
        (["search", "--budget", "soon"], "budget"),
        (["search", "--recipes", "clutser16"], "did you mean 'cluster16'"),
        (["search", "--html", "no/such/folder/x.html"], "cannot write"),
        (["compare", "--recipes", "int8", "foo80"], "unknown step"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(own, arguments, told, capsys):
    assert main([*arguments, "--data", "digits"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipes", "told"),
    [
        (["int8", "int8"], "got 'int8' twice"),
        (["original.yaml"], "got 'original' twice"),  # else it would be what all is held against
        (["plain.yaml"], "expected another name in 'plain.yaml', got 'plain'"),
    ],
)
def test_each_recipe_has_a_row_of_its_own_name(own, recipes, told, capsys, tmp_path):
    for name in ("original", "plain"):
        text = fm.Recipe(("prune99@0", "int2"), name).to_yaml()
        (tmp_path / f"{name}.yaml").write_text(text)
    assert main(["compare", *own, "--recipes", *recipes]) == 2
    assert told in capsys.readouterr().err


def test_of_all_recipes_those_that_cannot_be_done_are_left_out(own, capsys, tmp_path):
    (tmp_path / "net.py").write_text(
        NET.replace("nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)",
                    "nn.Linear(8, 3)")
    )  # fmt: skip
    arguments = ["compare", *own, "--quick", "--json", "c.json", "--recipes"]
    assert main([*arguments, "all"]) == 0
    report = json.loads((tmp_path / "c.json").read_text())
    names = [row["name"] for row in report["rows"]]
    assert names[:2] == ["original", "plain"]
    assert "thin" not in names
    assert any("left out 'thin': recipe: 'neurons50@6'" in n for n in report["about"]["notes"])
    assert main([*arguments, "thin"]) == 2  # asked for by name
    assert "neurons50@6" in capsys.readouterr().err


def test_recipes_that_lose_more_than_they_say_are_named():
    from types import SimpleNamespace

    from fastmnist.command.recipes import promises

    rows = [
        SimpleNamespace(name="plain", difference=-0.01),
        SimpleNamespace(name="x", difference=-1),
    ]
    assert promises(rows, "accuracy") == ["'plain' lost more than the 0.3 points that it says"]
    assert promises(rows, "r2") == []
