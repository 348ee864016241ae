"""``fastmnist compare`` on one's own model, weights and data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fastmnist as fm
from fastmnist.cli import main

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs=784, outputs=10):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(inputs, 24), nn.Linear(24, outputs)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))

def small():
    return Net(6, 1)
"""

DATA = """
import torch
from torch.utils.data import DataLoader, TensorDataset
import fastmnist as fm

def numbers(n=300):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(n))
    return x, x[:, :1] - x[:, 1:2]

def pair():
    return numbers(300), numbers(100)

def loaders():
    return tuple(DataLoader(TensorDataset(*numbers(n)), 50) for n in (300, 100))

def named():
    return {"train": numbers(300), "val": numbers(100)}

def pixels():
    half = fm.load_dataset("digits").test
    return half.images, half.labels

class Items(torch.utils.data.Dataset):
    # uint8 images, one by one: what they are shows in a batch only.
    def __init__(self):
        self.half = fm.load_dataset("digits").test

    def __len__(self):
        return len(self.half)

    def __getitem__(self, i):
        return self.half.images[i], int(self.half.labels[i])

def bundle():
    return fm.load_dataset("digits")

def wrong():
    return {"train": numbers(), "other": numbers()}

def nothing():
    pass

def worst(outputs, targets):
    return (outputs - targets).abs().max()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working folder with net_of_tests.py and rows_of_tests.py; gives the class Net."""
    (tmp_path / "net_of_tests.py").write_text(NET)
    (tmp_path / "rows_of_tests.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    threads = torch.get_num_threads()
    yield __import__("net_of_tests").Net
    torch.set_num_threads(threads)
    fm.set_num_threads(0)
    for name in ("net_of_tests", "rows_of_tests"):
        sys.modules.pop(name, None)


def compare(*options: str) -> dict:
    """Run it; give its JSON."""
    quick = ["compare", "--quick", "--threads", "1", "--json", "r.json"]
    assert main([*quick, *options]) == 0
    return json.loads(Path("r.json").read_text())


def failing(capsys, *options: str) -> str:
    """Run it; give the one line that it says."""
    assert main(["compare", "--quick", *options]) == 2
    text = capsys.readouterr().err
    assert text.startswith("fastmnist: error: ")
    assert text.count("\n") == 1
    assert text.rstrip("\n").isprintable()
    return text


def trained(Net, **pixels):
    torch.manual_seed(0)
    data = fm.load_dataset("digits", **pixels)
    net = Net()
    fm.train(net, data, epochs=3, seed=0)
    return net, fm.evaluate(net, data)


READINGS = {
    "mean and std": ({"mean": 0.1307, "std": 0.3081}, ["--mean", "0.1307", "--std", "0.3081"]),
    "0..255": ({"pixels": "0..255"}, ["--pixels", "0..255"]),
    "a fraction": ({"pixels": "0..255"}, ["--std", "1/255"]),
    "-1..1": ({"mean": 0.5, "std": 0.5}, ["--pixels", "-1..1"]),
}


SOURCES = ["digits", *(f"rows_of_tests{name}" for name in (".py:pixels", ":bundle", ":Items"))]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("reading", READINGS)
def test_what_pixels_stand_for(project, reading, source):
    pixels, options = READINGS[reading]
    net, accuracy = trained(project, **pixels)
    torch.save({"net": {f"module.{k}": v for k, v in net.state_dict().items()}}, "w.pt")
    report = compare(
        "--data", source, "--model", "net_of_tests.py:Net", "--weights", "w.pt", *options
    )
    got = {row["name"]: row["accuracy"] for row in report["rows"]}
    assert got["original"] == pytest.approx(accuracy, abs=1e-6)
    for name in ("static int8", "dynamic int8", "compiled (uint8 rows)"):
        # Of a Dataset rows are floats when they are measured.
        name = name if name in got else "compiled"
        assert got[name] == pytest.approx(accuracy, abs=0.02)
    assert "prefix 'module.' taken off" in report["about"]["weights"]


def test_a_file_of_ours_knows_its_pixels(project, capsys):
    net, accuracy = trained(project, pixels="0..255")
    fm.save("w.safetensors", {"float": net})
    options = ["--data", "digits", "--model", "net_of_tests:Net", "--weights", "w.safetensors"]
    assert compare(*options)["rows"][0]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    text = failing(capsys, *options, "--mean", "0.5")
    assert "--mean, --std, --pixels: expected what the model was trained with, p, got" in text


def test_another_reading_is_noticed(project, capsys):
    net, _ = trained(project, pixels="0..255")
    torch.save(net.state_dict(), "w.pt")
    compare("--data", "digits", "--model", "net_of_tests:Net", "--weights", "w.pt")
    text = capsys.readouterr().err
    assert "with --pixels 0..255 (or --std 1/255) it is" in text
    assert "give --mean and --std, or --pixels" in text


@pytest.mark.parametrize("source", ["pair", "loaders", "named"])
def test_a_regression_on_own_data(project, source):
    data = f"rows_of_tests.py:{source}"
    report = compare("--data", data, "--model", "net_of_tests.py:small", "--metric", "mae")
    assert report["about"]["metric"] == "mae"
    assert report["about"]["n"] == 100
    assert report["about"]["data"] == data
    assert "same rows" not in str(report["about"]["notes"])
    one = compare("--data", "rows_of_tests:numbers", "--model", "net_of_tests:small")
    assert one["about"]["metric"] == "r2"
    assert "calibrated and measured on the same rows" in one["about"]["notes"][0]


def test_own_metric_and_a_model_taken_as_it_is(project):
    own = ["--metric", "rows_of_tests.py:worst", "--greater-is-better", "no"]
    options = ["--data", "rows_of_tests:pair", "--model", "net_of_tests:small", "--trained"]
    first, again = (compare(*options, *own) for _ in range(2))
    assert first["about"]["metric"] == "worst"
    assert first["about"]["greater_is_better"] is False
    assert first["rows"][0]["worst"] == again["rows"][0]["worst"]
    net, (x, y) = project(6, 1), __import__("rows_of_tests").numbers(100)
    torch.save(net.state_dict(), "w.pt")
    report = compare(*options[:4], "--weights", "w.pt", *own)
    assert report["rows"][0]["worst"] == pytest.approx(float((net(x) - y).abs().max()), rel=1e-5)


WRONG = {
    "weights": (["--weights", "w.pt"], "--weights: expected --model with it, got none"),
    "key": (["--model", "net_of_tests:Net", "--weights-key", "x"], "--weights-key: expected --wei"),
    "trained": (["--trained"], "--trained: expected --model with it"),
    "root": (["--data", "digits", "--root", "x"], "--root: expected none with"),
    "own root": (["--data", "rows_of_tests:pair", "--root", "x"], "--root: expected none with"),
    "no folder": (["--data", "mnist", "--root", "x"], "--data idx --root DIR reads other sets"),
    "keys": (["--data", "rows_of_tests:wrong"], 'expected {"train": …, "test": …}, got the keys'),
    "nothing": (["--data", "rows_of_tests:nothing"], "got None: return it"),
    "pixels": (["--data", "rows_of_tests:pair", "--std", "2"], "expected data of uint8 pixels"),
    "channels": (["--data", "digits", "--mean", "1,2,3"], "--mean, --std: expected one value"),
    "metric": (["--metric", "accuracie"], "did you mean 'accuracy'?"),
    "direction": (["--greater-is-better", "no"], "--greater-is-better: expected beside"),
    "both": (["--pixels", "0..1", "--mean", "0"], "expected --pixels or --mean and --std, got bo"),
    "loss": (["--model", "net_of_tests:small", "--data", "rows_of_tests:pair", "--loss", "msa"],
             "--loss: expected cross_entropy, mse"),
    "name": (["--model", "net_of_tests.py:net"], "did you mean 'Net'?"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_line(project, name, capsys):
    options, words = WRONG[name]
    assert words in failing(capsys, *options)


def write_idx(folder: Path, side: int, classes: int) -> None:
    """A set of IDX files: a bright pixel at the number of the class."""
    folder.mkdir()
    labels = (np.arange(120) * 7 % classes).astype(np.uint8)
    images = np.zeros((120, side, side), np.uint8)
    images.reshape(120, -1)[np.arange(120), labels] = 255
    for half, part in (("train", slice(0, 90)), ("t10k", slice(90, 120))):
        for name, array in (("images-idx3", images[part]), ("labels-idx1", labels[part])):
            header = bytes([0, 0, 8, array.ndim])
            shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / f"{half}-{name}-ubyte").write_bytes(header + shape + array.tobytes())


def test_another_idx_set(project, tmp_path, capsys):
    write_idx(tmp_path / "letters", 9, 26)
    with open("net_of_tests.py", "a") as file:
        file.write("\ndef letters():\n    return Net(81, 26)\n")
    sys.modules.pop("net_of_tests")
    options = ["--data", "idx", "--root", "letters"]
    report = compare(*options, "--model", "net_of_tests.py:letters")
    assert report["about"]["data"] == "letters"
    assert report["about"]["n"] == 30
    text = failing(capsys, *options)
    assert "--data: expected images of 784 values in 10 classes" in text
    assert "got 1 x 9 x 9 in 26 (letters)" in text
    (tmp_path / "letters" / "t10k-labels-idx1-ubyte").unlink()
    assert "got no test labels: add them" in failing(capsys, *options)


def test_train_says_in_json_what_it_did(project):
    options = ["--data", "digits", "--quick", "--pixels", "0..255", "--json", "t.json"]
    assert main(["train", *options]) == 0
    told = json.loads(Path("t.json").read_text())
    data = fm.load_dataset("digits", pixels="0..255")
    assert told["accuracy"] == fm.evaluate(fm.load("digits.safetensors"), data)
    assert (told["data"], told["n"], told["epochs"]) == ("digits", 360, 1)


def test_info_in_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["info", "--json", "i.json"]) == 0
    told = json.loads(Path("i.json").read_text())
    assert told["versions"]["fastmnist"] == fm.__version__
    assert told["isa"] == fm.cpu_info()["isa"]


def test_errors_are_one_line_when_piped(project, tmp_path):
    """What torch says of a pickle has escape codes in it, and twenty lines."""
    torch.save({"fc1.weight": Path(".")}, "w.pt")
    command = [sys.executable, "-m", "fastmnist", "compare", "--data", "digits", "--model",
               "net_of_tests:Net", "--weights", "w.pt"]  # fmt: skip
    path = ":".join(str(Path(part).absolute()) for part in sys.path)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": path}
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip("\n").isprintable()
