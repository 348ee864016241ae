"""What a file tells of its models without loading them."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.numpy import load, save
from saved_kinds import KINDS, X

import fastmnist as fm
from fastmnist.cli import main

Y = torch.arange(30) % 4


@pytest.fixture(scope="module")
def models():
    return {"original": KINDS["float"](), "int8": KINDS["static"]()}


def test_scores_and_reports(models, tmp_path):
    path = tmp_path / "m.safetensors"
    score = fm.evaluate(models["original"], (X, Y))
    fm.save(path, models, measured={"original": score})
    told = fm.describe(path)
    assert told["format"] == 2
    assert told["bytes"] == path.stat().st_size
    assert [*told["models"]] == ["original", "int8"]
    assert told["models"]["original"]["measured"] == {
        "metric": "accuracy", "score": float(score), "n": 30,
    }  # fmt: skip
    assert told["models"]["int8"]["measured"] is None
    assert told["models"]["int8"]["type"] == "module"
    assert any("int8" in change for change in told["models"]["int8"]["changes"])
    report = fm.compare(models, (X, Y), rounds=3)
    fm.save(path, models, measured=report, compress=True)
    told = fm.describe(path)["models"]
    assert told["int8"]["measured"]["score"] == report["int8"].score
    assert fm.load(path)["int8"](X).equal(models["int8"](X))


def test_one_model_and_other_metrics(models, tmp_path):
    path = tmp_path / "m.safetensors"
    fm.save(path, models["int8"], measured=0.5)
    assert fm.describe(path)["models"]["model"]["measured"] == {"metric": "accuracy", "score": 0.5}
    score = fm.evaluate(models["original"], (X, torch.zeros(30, 4)), metric="mae")
    fm.save(path, models["original"], measured=score)
    assert fm.describe(path)["models"]["model"]["measured"]["metric"] == "mae"


@pytest.mark.parametrize(
    ("measured", "error", "message"),
    [
        ({"other": 0.5}, ValueError, "measured: expected scores of original, int8, got 'other'"),
        (0.5, TypeError, "measured: expected scores by name"),
        ({"int8": "good"}, TypeError, "measured: expected finite numbers, got 'good'"),
        ({"int8": float("nan")}, TypeError, "measured: expected finite numbers"),
    ],
)
def test_what_is_no_measurement(models, tmp_path, measured, error, message):
    with pytest.raises(error, match=message):
        fm.save(tmp_path / "m.safetensors", models, measured=measured)
    assert not (tmp_path / "m.safetensors").exists()


def test_the_command(models, tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    fm.save(path, models, measured={"int8": 0.9})
    assert main(["info", str(path), "--json", str(tmp_path / "facts.json")]) == 0
    printed = capsys.readouterr().out
    assert "original" in printed
    assert "90.00" in printed
    assert json.loads((tmp_path / "facts.json").read_text())["models"]["int8"]["measured"]
    assert main(["info", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("measured", [3, [], {"metric": 3, "score": 1}, {"metric": "a"}])
def test_hostile_facts(models, tmp_path, measured):
    path = tmp_path / "m.safetensors"
    fm.save(path, models["int8"])
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    told = json.loads(header["__metadata__"]["fastmnist"])
    told["models"]["model"]["measured"] = measured
    path.write_bytes(save(dict(load(content)), {"fastmnist": json.dumps(told)}))
    with pytest.raises(ValueError, match="expected"):
        fm.describe(path)
    fm.load(path)  # whose answers do not depend on it
