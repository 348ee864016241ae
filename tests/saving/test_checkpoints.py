"""Weights that other tools saved: seen through and named, or refused; no code of theirs is run."""

from __future__ import annotations

import argparse
import copy
import os
import pickle
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

import fastmnist as fm
from fastmnist.saving.checkpoints import CheckpointError, read_checkpoint
from fastmnist.saving.fitting import load_weights


class Net(nn.Module):
    """Parameters, buffers, and a name that is the end of another."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.body(self.norm(self.fc(x))))


def made(seed: int) -> Net:
    torch.manual_seed(seed)
    net = Net()
    net.norm.running_mean.normal_()
    return net


NET, OTHER = made(0), made(1)
STATE, OTHER_STATE = NET.state_dict(), OTHER.state_dict()


def under(prefix, state=STATE):
    return {f"{prefix}{key}": value for key, value in state.items()}


class Settings:
    def __init__(self):
        self.lr, self.names = 0.1, ["a"]


# What was saved, and what the line says of it.
SAVED = {
    "plain": (lambda: STATE, "state_dict"),
    "ordered": (lambda: OrderedDict(STATE), "state_dict"),
    "DDP": (lambda: under("module."), "state_dict, prefix 'module.' taken off"),
    "compiled": (lambda: under("_orig_mod."), "state_dict, '_orig_mod.' taken off"),
    "compiled, then DDP": (
        lambda: under("module._orig_mod."),
        "state_dict, '_orig_mod.' taken off, prefix 'module.' taken off",
    ),
    "a compiled part": (
        lambda: {k.replace("body.", "body._orig_mod."): v for k, v in STATE.items()},
        "state_dict, '_orig_mod.' taken off",
    ),
    "net": (lambda: {"net": STATE, "acc": np.float64(0.9)}, "state_dict under 'net'"),
    "model_state": (
        lambda: {
            "model_state": under("module."),
            "optimizer": torch.optim.Adam(NET.parameters()).state_dict(),
        },
        "state_dict under 'model_state', prefix 'module.' taken off",
    ),
    "settings beside": (
        lambda: {"model": STATE, "args": argparse.Namespace(lr=1), "cfg": Settings(),
                 "log": defaultdict(list, loss=[1.0])},
        "state_dict under 'model'",
    ),
    "Lightning": (
        lambda: {"state_dict": {**under("model."), "criterion.weight": torch.ones(3)},
                 "global_step": 7},
        "state_dict under 'state_dict', prefix 'model.' taken off, left out: criterion.weight",
    ),
    "deep": (
        lambda: {"trainer": {"last": {"weights": STATE}}},
        "state_dict under 'trainer.last.weights'",
    ),
    "a tuple": (lambda: (3, {"net": STATE}), "state_dict under '1.net'"),
    "EMA alone": (lambda: {"ema": under("module.")},
                  "state_dict under 'ema', prefix 'module.' taken off"),
    "EMA beside": (
        lambda: {"state_dict": STATE, "state_dict_ema": OTHER_STATE},
        "state_dict under 'state_dict', not taken: state_dict_ema (key='state_dict_ema')",
    ),
    "AveragedModel": (
        lambda: AveragedModel(NET).state_dict(),
        "state_dict, prefix 'module.' taken off, left out: n_averaged",
    ),
    "the same twice": (lambda: {"best": STATE, "last": STATE}, "state_dict under 'best'"),
    "whole": (lambda: NET, "whole module Net"),
    "whole in a dict": (lambda: {"model": NET, "epoch": 3}, "whole module Net under 'model'"),
    "whole, wrapped": (
        lambda: AveragedModel(NET),
        "whole module AveragedModel, prefix 'module.' taken off, left out: n_averaged",
    ),
    "thop's counters": (
        lambda: {**STATE, "fc.total_ops": torch.zeros(1), "total_params": torch.zeros(1)},
        "state_dict",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAVED)
def test_what_training_scripts_save(name, tmp_path):
    save, line = SAVED[name]
    torch.save(save(), tmp_path / "w.pt")
    net = made(2)
    fit = load_weights(net, read_checkpoint(tmp_path / "w.pt"))
    assert str(fit) == line
    assert_same(net, STATE)


def assert_same(net, state):
    own = net.state_dict()
    assert all(torch.equal(own[name], value) for name, value in state.items())


@pytest.mark.parametrize("scope", ["layer", "channel"])
def test_clustered(scope, tmp_path):
    clustered = fm.cluster(NET, fm.Clusters(3, scope=scope), include="fc")
    torch.save(under("module.", clustered.state_dict()), tmp_path / "w.pt")
    net = made(2)
    fit = load_weights(net, read_checkpoint(tmp_path / "w.pt"))
    assert "shared values looked up for" in str(fit)
    assert_same(net, {**STATE, "fc.weight": clustered.fc.weight})
    fm.save(tmp_path / "w.safetensors", clustered)
    saved = made(2)
    load_weights(saved, read_checkpoint(tmp_path / "w.safetensors"))
    assert_same(saved, {**STATE, "fc.weight": clustered.fc.weight})


@pytest.mark.parametrize("whole", [True, False])
def test_pruned(whole, tmp_path):
    pruned = copy.deepcopy(NET)
    prune.l1_unstructured(pruned.fc, "weight", 0.5)
    torch.save(pruned if whole else under("module.", pruned.state_dict()), tmp_path / "w.pt")
    net = made(2)
    fit = load_weights(net, read_checkpoint(tmp_path / "w.pt"))
    assert "masks applied to" in str(fit)
    assert_same(net, {**STATE, "fc.weight": pruned.fc.weight})
    again = made(2)
    prune.identity(again.fc, "weight")
    load_weights(again, read_checkpoint(tmp_path / "w.pt"))  # a model with masks of its own
    assert_same(again, pruned.state_dict())


@pytest.mark.parametrize("how", ["script", "trace", "old", "safetensors", "unnamed safetensors"])
def test_other_files(how, tmp_path):
    path = tmp_path / ("w.safetensors" if how == "safetensors" else "w.bin")
    ready = copy.deepcopy(NET).eval()
    match how:
        case "script":
            torch.jit.script(ready).save(path)
        case "trace":
            torch.jit.trace(ready, torch.zeros(2, 6)).save(path)
        case "old":
            torch.save(STATE, path, _use_new_zipfile_serialization=False)
        case _:
            save_file(under("model."), path)
    net = made(2)
    fit = load_weights(net, read_checkpoint(path))
    assert ("TorchScript" in str(fit)) == (how in ("script", "trace"))
    assert_same(net, STATE)


def test_files_of_ours(tmp_path):
    path = tmp_path / "w.safetensors"
    chain = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    int8 = fm.quantize(chain, fm.Static(torch.rand(32, 6)))
    fm.save(path, {"int8": int8, "compiled": fm.compile(int8), "float": chain})
    other = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    assert str(load_weights(other, read_checkpoint(path))) == "model of fastmnist's under 'float'"
    assert_same(other, chain.state_dict())
    fm.save(path, fm.compile(int8))
    with pytest.raises(CheckpointError, match="compiled models alone"):
        read_checkpoint(path)


def test_tied_weights_that_safetensors_keeps_once(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

    save_file({"a.weight": torch.eye(3)}, tmp_path / "w.safetensors")
    net = Tied()
    load_weights(net, read_checkpoint(tmp_path / "w.safetensors"))
    assert torch.equal(net.b.weight, torch.eye(3))


def test_a_model_that_wraps_what_was_saved(tmp_path):
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = made(2)

    torch.save(STATE, tmp_path / "w.pt")
    net = Wrapper()
    fit = load_weights(net, read_checkpoint(tmp_path / "w.pt"))
    assert str(fit) == "state_dict, prefix 'model.' put before"
    assert_same(net.model, STATE)
    wrapped = AveragedModel(made(2))
    load_weights(wrapped, read_checkpoint(tmp_path / "w.pt"))
    assert_same(wrapped.module, STATE)


UNSURE = {
    "two nets": (lambda: {"gen": STATE, "disc": OTHER_STATE}, "several that fit .*gen, disc"),
    "one in another": (
        lambda: {**under("student."), **under("teacher.", OTHER_STATE)},
        "more than the model Net: student, teacher would fit",
    ),
    "more than the model": (
        lambda: {**under("student."), "adapter.weight": torch.ones(3)},
        "student would fit, with adapter.weight beside.* key='student'",
    ),
}


@pytest.mark.parametrize("name", UNSURE)
def test_what_may_be_meant_is_asked_for(name, tmp_path):
    save, words = UNSURE[name]
    torch.save(save(), tmp_path / "w.pt")
    net = made(2)
    with pytest.raises(CheckpointError, match=words):
        load_weights(net, read_checkpoint(tmp_path / "w.pt"))
    assert_same(net, made(2).state_dict())
    key = "gen" if name == "two nets" else "student"
    load_weights(net, read_checkpoint(tmp_path / "w.pt"), key)
    assert_same(net, STATE)
    with pytest.raises(CheckpointError, match="none under key='nobody'; there is"):
        load_weights(net, read_checkpoint(tmp_path / "w.pt"), "nobody")


UNFIT = {
    "missing": (lambda: {k: v for k, v in STATE.items() if "head" not in k},
                "missing head.weight, head.bias$"),
    "unexpected": (lambda: {**STATE, "extra.weight": torch.ones(2)}, "unexpected extra.weight$"),
    "shape": (lambda: {**STATE, "fc.weight": torch.ones(4, 7)},
              r"of another shape or type fc.weight \[4, 7\] for \[4, 6\]$"),
    "type": (lambda: {**STATE, "fc.weight": STATE["fc.weight"].to(torch.int8)},
             "type fc.weight torch.int8 for torch.float32$"),
    "another net": (lambda: nn.Linear(3, 2).state_dict(), "missing fc.weight, .* and 7 more"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit(name, tmp_path):
    save, words = UNFIT[name]
    torch.save({"net": under("module.", save())}, tmp_path / "w.pt")
    net = made(2)
    with pytest.raises(CheckpointError, match="does not fit the model Net: .*" + words):
        load_weights(net, read_checkpoint(tmp_path / "w.pt"))
    assert_same(net, made(2).state_dict())


class Runs:
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zipped(path):
    np.savez(path.with_suffix(".npz"), a=np.ones(3))
    path.with_suffix(".npz").rename(path)


def exported(path):
    plain = path.with_suffix(".pt2")
    torch.export.save(torch.export.export(nn.Linear(2, 1), (torch.zeros(3, 2),)), plain)
    plain.rename(path)


UNREADABLE = {
    "nothing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "a folder"),
    "empty": (lambda path: path.write_bytes(b""), "an empty file"),
    "text": (lambda path: path.write_text("epoch 1: loss 0.3"), "did not write"),
    "cut": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(40)), "ends early"),
    "NumPy": (zipped, "archive of NumPy arrays"),
    "exported": (exported, "a program of torch.export"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps(STATE)), "a pickle that cannot be read"),
    "whole, old": (
        lambda path: torch.save(NET, path, _use_new_zipfile_serialization=False),
        "a pickle that cannot be read without running code of its own",
    ),
    "list": (lambda path: torch.save([1, 2], path), "a list, which does not fit"),
    "no tensors": (lambda path: torch.save({"epoch": 3}, path), r"without tensors \(epoch\)"),
    "system": (
        lambda path: torch.save({"net": STATE, "x": Runs(os.system, "touch ran")}, path),
        r"running code of its own \(posix.system\)",
    ),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, words = UNREADABLE[name]
    write(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=f"^expected a state_dict in .*{words}.*: ") as caught:
        read_checkpoint(tmp_path / "w.pt")
    text = str(caught.value)
    assert text.isprintable()  # one line, without escape codes
    assert not (tmp_path / "ran").exists()


def test_nothing_of_a_file_is_run(tmp_path):
    """Beside weights that can be read, whatever else there is stays unread."""
    for function, argument in (
        (eval, f"open('{tmp_path}/ran', 'w')"),
        (os.mkdir, f"{tmp_path}/ran"),
    ):
        torch.save({"x": Runs(function, argument), "net": STATE}, tmp_path / "w.pt")
        if function is os.mkdir:
            with pytest.raises(CheckpointError, match="running code"):
                read_checkpoint(tmp_path / "w.pt")
        else:
            net = made(2)
            load_weights(net, read_checkpoint(tmp_path / "w.pt"))
            assert_same(net, STATE)
        assert not (tmp_path / "ran").exists()


LOADED = {
    "state_dict": (lambda path: torch.save({"net": under("module.")}, path),
                   r"weights_only=True\)\['net'\]\)", "begin with 'module.'"),
    "whole": (lambda path: torch.save(NET, path), "where you trust its code", "state_dict()"),
    "TorchScript": (lambda path: torch.jit.script(NET).save(path), "torch.jit.load", "TorchScript"),
    "safetensors": (lambda path: save_file(STATE, path), "load_file", "another safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADED)
def test_load_says_what_it_is(name, tmp_path):
    write, *words = LOADED[name]
    write(tmp_path / "w.bin")
    with pytest.raises(ValueError, match=words[0]) as caught:
        fm.load(tmp_path / "w.bin")
    assert words[1] in str(caught.value)
    assert "net.load_state_dict(" in str(caught.value)
