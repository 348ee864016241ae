"""The command line: the library's own functions, exit codes, and outputs checked beforehand."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import fastmnist as fm
from fastmnist.cli import main
from fastmnist.command import subject

TIMED = {"p50", "p90", "p99", "speedup", "speedup_spread", "throughput", "timings"}


# Absolute: the tests run in folders of their own.
SEARCH_PATH = os.pathsep.join(os.path.abspath(path) for path in sys.path)


def run(*arguments, **environment):
    """Run Python on the arguments, as a person would."""
    environment = os.environ | {"PYTHONPATH": SEARCH_PATH} | environment
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _restore(monkeypatch, tmp_path):
    """Main sets threads and the path of the process that it runs in."""
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    torch.set_num_threads(threads)
    fm.set_num_threads(0)


def test_info():
    done = run("-m", "fastmnist", "info")
    assert done.returncode == 0
    assert "taken" in done.stdout
    assert f"fastmnist {fm.__version__}" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["avx2", "scalar"])
def test_info_of_a_capped_instruction_set(isa):
    why_not = {rung["isa"]: rung["why_not"] for rung in fm.cpu_info()["ladder"]}
    if why_not.get(isa, "unknown"):
        pytest.skip(f"{isa}: {why_not.get(isa, 'not in the ladder')}")
    done = run("-m", "fastmnist", "info", FASTMNIST_ISA=isa)
    assert done.returncode == 0
    taken = [line for line in done.stdout.splitlines() if line.split()[1:] == ["taken"]]
    assert len(taken) == 1
    assert isa in taken[0]


@pytest.mark.slow
@pytest.mark.parametrize("command", [["info"], ["compare", "--quick", "--data", "digits"]])
def test_an_unknown_instruction_set(command):
    done = run("-m", "fastmnist", *command, FASTMNIST_ISA="nonsense")
    assert done.returncode == 2
    assert "got 'nonsense'" in done.stderr
    assert "scalar" in done.stderr
    assert "Traceback" not in done.stderr


SCRIPT = """
import sys, torch, fastmnist as fm
torch.manual_seed(0)
data = fm.load_dataset("digits")
model = fm.NeuralNetwork()
fm.train(model, data, epochs=1)
report = fm.compare(fm.variants(model, data), data, rounds=5)
report.to_json(sys.argv[1])
"""


@pytest.mark.slow
def test_command_line_and_script_give_the_same_table(tmp_path):
    outputs = ["--json", "cli.json", "--markdown", "cli.md", "--plot", "cli.png"]
    done = run("-m", "fastmnist", "compare", "--quick", "--data", "digits", *outputs)
    assert done.returncode == 0, done.stderr
    for word in ("digits", "static int8", "compiled (uint8 rows)", "speed-up"):
        assert word in done.stdout
    assert (tmp_path / "cli.png").read_bytes()[:4] == b"\x89PNG"
    markdown = (tmp_path / "cli.md").read_text()
    assert markdown.count("\n| ") == 17
    script = run("-c", SCRIPT, "script.json")
    assert script.returncode == 0, script.stderr
    tables = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("cli", "script")]
    untimed = [
        [{k: v for k, v in row.items() if k not in TIMED} for row in table["rows"]]
        for table in tables
    ]
    assert untimed[0] == untimed[1]
    assert "rough" in tables[0]["about"].pop("notes")[0]
    for table in tables:
        assert table["about"].pop("noise")["verdict"]
    assert tables[0]["about"] == tables[1]["about"]


def test_train_and_compare_what_it_saved(tmp_path, capsys):
    assert main(["train", "--data", "digits", "--epochs", "1", "--threads", "1"]) == 0
    text = capsys.readouterr().out
    assert "of 360 test images" in text
    assert "saved to digits.safetensors" in text
    data = fm.load_dataset("digits")
    model = fm.load(tmp_path / "digits.safetensors")
    assert type(model) is fm.NeuralNetwork
    assert f"{fm.evaluate(model, data):.2%}" in text
    arguments = ["compare", "--data", "digits", "--quick", "--json", "r.json"]
    taken = ["--model", "fastmnist:NeuralNetwork", "--weights", "digits.safetensors"]
    assert main([*arguments, *taken]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["rows"][0]["accuracy"] == fm.evaluate(model, data)


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))

def make():
    return Net()

ready = Net()
number = 3

def wrong():
    return 3

class Narrow(Net):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(700, 16)

def broken():
    raise ValueError("broken inside")
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "my_net_of_tests.py").write_text(NET)
    yield "my_net_of_tests"
    sys.modules.pop("my_net_of_tests", None)


@pytest.mark.parametrize("name", ["Net", "make", "ready"])
def test_a_model_of_ones_own(net, name, capsys):
    arguments = ["compare", "--data", "digits", "--quick", "--model", f"{net}:{name}"]
    assert main(arguments) == 0
    assert "static int8" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["plain", "state_dict", "model_state_dict", "safetensors"])
def test_its_weights(net, form, tmp_path, digits):
    sys.path.insert(0, str(tmp_path))
    model = __import__(net).Net()
    fm.train(model, digits.train.subset(200), epochs=1, seed=0)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)
    else:
        state = model.state_dict()
        torch.save(state if form == "plain" else {form: state, "epoch": 3}, path)
    arguments = ["compare", "--data", "digits", "--quick", "--json", "r.json"]
    assert main([*arguments, "--model", f"{net}:Net", "--weights", str(path)]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["rows"][0]["accuracy"] == fm.evaluate(model, digits)


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def failing(arguments, capsys):
    """Run; return what it says on standard error."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("fastmnist: error: ")
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_weights_that_would_run_code_are_refused(net, tmp_path, capsys):
    marker = tmp_path / "executed"
    quick = ["compare", "--data", "digits", "--quick", "--model", f"{net}:Net", "--weights"]
    for name, write in {
        "torch.pt": lambda p: torch.save({"fc1.weight": Malicious(marker)}, p),
        "pickle.pt": lambda p: p.write_bytes(pickle.dumps(Malicious(marker))),
        "model.pt": lambda p: torch.save(nn.Linear(3, 2), p),
        "cut.pt": lambda p: p.write_bytes(b"PK\x03\x04"),
        "empty.pt": lambda p: p.write_bytes(b""),
        "text.safetensors": lambda p: p.write_bytes(pickle.dumps(Malicious(marker))),
    }.items():
        write(tmp_path / name)
        assert "--weights: expected a state_dict in" in failing([*quick, name], capsys)
        assert not marker.exists()
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "other.pt")
    assert "does not fit the model" in failing([*quick, "other.pt"], capsys)
    torch.save([1, 2], tmp_path / "list.pt")
    assert "does not fit the model" in failing([*quick, "list.pt"], capsys)
    assert "expected a state_dict in 'none.pt'" in failing([*quick, "none.pt"], capsys)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nothing", "expected PKG.MOD:NET, got 'nothing'"),
        (":Net", "expected PKG.MOD:NET"),
        ("os:", "expected PKG.MOD:NET"),
        ("no_such_module_here:Net", "no_such_module_here"),
        ("os:Net", "module 'os' has no attribute 'Net'"),
        ("{net}:wrong", "expected a torch.nn.Module, got int"),
        ("{net}:number", "int"),
        ("{net}:broken", "broken inside"),
        ("{net}:Narrow", "shapes"),
        ("torch.nn:ReLU", "model has nothing to train|parameters"),
    ],
)
def test_bad_models(net, reference, message, capsys):
    import re

    reference = reference.format(net=net)
    text = failing(["compare", "--data", "digits", "--quick", "--model", reference], capsys)
    assert re.search(message, text), text


def test_weights_need_a_model(capsys):
    assert "--weights: expected --model" in failing(["compare", "--weights", "w.pt"], capsys)


@pytest.mark.parametrize("option", ["--json", "--markdown", "--plot"])
@pytest.mark.parametrize("path", ["none/r.out", "."])
def test_unwritable_outputs_fail_before_training(option, path, capsys, monkeypatch):
    monkeypatch.setattr("fastmnist.data.load_dataset", lambda *a, **k: pytest.fail("too late"))
    arguments = ["compare", "--data", "digits", option, path]
    assert f"cannot write '{path}'" in failing(arguments, capsys)
    assert f"cannot write '{path}'" in failing(["train", "--output", path], capsys)


def test_a_plot_of_an_unknown_format_fails_before_training(capsys):
    for path in ("r.what", "r", "r."):
        text = failing(["compare", "--data", "digits", "--plot", path], capsys)
        assert "--plot: expected a name that ends in .png" in text
        assert not Path(path).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"], ["compare", "--data", "cifar"], ["compare", "--epochs", "0"],
        ["compare", "--threads", "-1"], ["compare", "--epochs", "x"], ["compare", "--seed", "x"],
        ["train", "--model", "a:b"], ["info", "--quick"],
    ],
)  # fmt: skip
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_numbers_out_of_range(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--epochs", "1.5"])
    assert "expected an integer of at least 1, got '1.5'" in capsys.readouterr().err
    quick = ["compare", "--quick", "--data", "digits"]
    for option, value, expected in (
        ("--threads", "100000", "an integer from 1 to 1024"),
        ("--seed", str(2**70), "an integer from 0 to 2"),
        ("--seed", "abc", "an integer from 0 to 2"),
    ):
        with pytest.raises(SystemExit):
            main([*quick, option, value])
        assert f"argument {option}: expected {expected}" in capsys.readouterr().err


def test_without_a_command(capsys):
    assert main([]) == 0
    assert "compare" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"fastmnist {fm.__version__}\n"


def test_an_interrupted_training_stops_the_command(monkeypatch, tmp_path, capsys):
    """train() itself returns what it has; a command must not go on with that."""
    monkeypatch.setattr(subject, "train", lambda *_, **__: [])
    output = tmp_path / "digits.safetensors"
    output.write_bytes(b"an earlier model")
    assert main(["train", "--data", "digits", "--epochs", "1", "--output", str(output)]) == 130
    assert output.read_bytes() == b"an earlier model"
    assert "interrupted" in capsys.readouterr().err


def test_a_table_fits_the_terminal():
    from rich.console import Console

    from fastmnist.display.tables import Table

    table = Table("a title", ["name", *(f"column {i}" for i in range(9))])
    table.row("a long name of a row", *("123456" for _ in range(9)))
    for width in (40, 80, 200):
        console = Console(width=width, color_system=None, record=True, file=io.StringIO())
        console.print(table)
        lines = console.export_text().splitlines()
        assert max(map(len, lines)) <= width
        assert any("123456" in line for line in lines)
        assert not any("…" in line for line in lines)


def test_a_folder_without_mnist(tmp_path, capsys):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"not it")
    failing(["compare", "--data", "mnist", "--root", str(tmp_path), "--quick"], capsys)
    assert (tmp_path / "train-images-idx3-ubyte").read_bytes() == b"not it"


@pytest.mark.parametrize("command", [[], ["compare"], ["train"], ["info"]])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as error:
        main([*command, "--help"])
    assert error.value.code == 0
    assert "usage: fastmnist" in capsys.readouterr().out
