"""``fastmnist export`` and ``verify``: other forms of saved models, and whether they agree."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import fastmnist as fm
from fastmnist.cli import main


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Two models of a file, trained for a moment."""
    folder = tmp_path_factory.mktemp("digits")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        data, model = fm.load_dataset("digits"), fm.NeuralNetwork()
        fm.train(model, data, epochs=1)
    path = folder / "digits.safetensors"
    fm.save(path, {"original": model, "int8": fm.quantize(model, fm.Static(data.train))})
    return path


@pytest.fixture(scope="module")
def onnx(digits):
    path = digits.with_name("int8.onnx")
    assert main(["export", str(digits), str(path), "--name", "int8", "--input", "uint8"]) == 0
    return path


def test_every_form_answers_the_same(digits, onnx, capsys, tmp_path):
    figures = tmp_path / "figures.json"
    status = main(
        ["verify", str(digits), "--name", "int8", "--against", str(onnx), "--data", "digits",
         "--json", str(figures), "--allow", "5"]
    )  # fmt: skip
    assert status == 0
    printed = capsys.readouterr().out
    told = json.loads(figures.read_text())["models"]["int8"]
    forms = {form["form"]: form for form in told["forms"]}
    for name in ("module", "compiled", "libfastmnist"):
        assert forms[name]["same_bits"] is True
        assert forms[name]["decides_otherwise"] == 0
        assert name in printed
    runtime = forms["ONNX Runtime: int8.onnx"]
    assert not runtime["why_not"]
    assert runtime["decides_otherwise"] <= 5
    assert told["rows"] == 360


def test_what_differs_is_status_1(digits, tmp_path, capsys):
    other = tmp_path / "other.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        fm.save(other, fm.NeuralNetwork())
    arguments = ["verify", str(digits), "--name", "original", "--against", str(other)]
    assert main([*arguments, "--data", "digits", "--rows", "100"]) == 1
    printed = capsys.readouterr().out
    assert "100 rows" in printed
    assert main([*arguments, "--data", "digits", "--rows", "100", "--allow", "100"]) == 0


def test_a_form_that_is_refused_is_told(digits, tmp_path, capsys):
    half = tmp_path / "half.safetensors"
    model = fm.load(digits)["original"]
    fm.save(half, fm.quantize(model, fm.Half(torch.bfloat16)))
    assert main(["verify", str(half), "--data", "digits", "--rows", "50"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "refused" in printed
    assert "needs torch" in printed


def test_export_one_model_alone(digits, tmp_path):
    path = tmp_path / "small.safetensors"
    assert main(["export", str(digits), str(path), "--name", "int8", "--compress"]) == 0
    assert path.stat().st_size < digits.stat().st_size / 2
    rows = np.random.default_rng(0).integers(0, 256, (9, 784), np.uint8)
    want = fm.load(digits)["int8"](torch.from_numpy(rows))
    assert fm.load(path)["int8"](torch.from_numpy(rows)).equal(want)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "FILE", "x.onnx"], "--name: expected one of original, int8, got none"),
        (["export", "FILE", "x.onnx", "--name", "other"], "got 'other'"),
        (["export", "FILE", "x.pt", "--name", "int8"], "expected a file .onnx or .safetensors"),
        (["export", "nothing", "x.onnx"], "path: expected a model file"),
        (["export", "FILE", "FILE", "--name", "int8"], "OUTPUT: expected another file"),
        (["export", "FILE", "x.onnx", "--name", "int8", "--compress"], "--compress: expected"),
        (["verify", "FILE", "--program", "nope", "--data", "digits"], "--program: expected"),
        (["verify", "FILE", "--name", "other", "--data", "digits"], "--name: expected one of"),
        (["verify", "FILE", "--against", "none.onnx", "--data", "digits"], "--against: expected"),
        (["verify", "FILE", "--against", "FILE.pt", "--data", "digits"], "--against: expected"),
    ],
)
def test_what_is_refused(digits, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.pt").touch()
    words = [word.replace("FILE.pt", "file.pt").replace("FILE", str(digits)) for word in arguments]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_a_class_of_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.a, self.b = nn.Linear(784, 8), nn.Linear(784, 8)\n"
        "        self.c = nn.Linear(8, 10)\n\n"
        "    def forward(self, x):\n        x = x.flatten(1)\n"
        "        return self.c(torch.relu(self.a(x)) + self.b(x))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from own_net import Net

    fm.save("net.safetensors", Net())
    words = ["verify", "net.safetensors", "--into", "own_net.py:Net", "--data", "digits"]
    assert main([*words, "--rows", "40"]) == 0


def test_one_output_and_nan(tmp_path, capsys):
    """Of one number a row what is far off counts; no number is far off."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        models = [torch.nn.Linear(784, 1), torch.nn.Linear(784, 1), torch.nn.Linear(784, 1)]
    torch.nn.init.constant_(models[2].weight, float("nan"))
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, model in zip(paths, models, strict=True):
        fm.save(path, torch.nn.Sequential(torch.nn.Flatten(), model))
    words = ["verify", str(paths[0]), "--data", "digits", "--rows", "60"]
    assert main(words) == 0
    assert main([*words, "--against", str(paths[1])]) == 1
    assert main([*words, "--against", str(paths[2])]) == 1
    assert "inf" in capsys.readouterr().out


def test_what_pixels_mean_the_file_knows(digits, tmp_path):
    path = tmp_path / "normalized.safetensors"
    model = fm.load(digits)["original"]
    images = fm.load_dataset("digits").train.images
    fm.save(path, fm.quantize(model, fm.Static(images, mean=0.1307, std=0.3081)))
    assert main(["verify", str(path), "--data", "digits"]) == 0
