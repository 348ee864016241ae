"""The wide network that is trained once and kept."""

from __future__ import annotations

import pytest
import torch

import fastmnist as fm
from fastmnist.distillation import wide


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "fastmnist" / "teachers"


@pytest.fixture
def few(digits):
    return fm.Data("few", digits.train.subset(100), digits.test.subset(20))


def same(a, b):
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def test_it_is_trained_once_and_kept(cache, few, monkeypatch, capsys):
    first = fm.teacher(few, epochs=4, progress=True)
    assert not first.training
    assert "fastmnist: teacher of few: " in capsys.readouterr().err
    assert len([*cache.iterdir()]) == 1
    original = wide.train
    monkeypatch.setattr(wide, "train", None)  # not called again
    again = fm.teacher(few, epochs=4, progress=False)
    assert capsys.readouterr().err == ""
    assert same(first, again)
    monkeypatch.setattr(wide, "train", original)
    [path] = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-5])  # a damaged one is made anew
    assert same(first, fm.teacher(few, epochs=4, progress=False))


def test_whatever_counts_is_another_one(cache, few):
    fm.teacher(few, epochs=1, progress=False)
    fm.teacher(few, epochs=1, seed=1, progress=False)
    fm.teacher(few, epochs=2, progress=False)
    moved = fm.Split(few.train.images.roll(1, 0), few.train.labels)
    fm.teacher(fm.Data("few", moved, few.test), epochs=1, progress=False)
    assert len([*cache.iterdir()]) == 4
    fm.teacher(fm.Data("another name", few.train, few.test), epochs=1, progress=False)
    assert len([*cache.iterdir()]) == 4


def test_an_interrupted_one_is_not_kept(cache, few, monkeypatch):
    def stopped(model, *args, **options):
        history = fm.train(model, few, 1)
        history.interrupted = True
        return history

    monkeypatch.setattr(wide, "train", stopped)
    fm.teacher(few, epochs=4, progress=False)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_none(tmp_path, few, monkeypatch):
    (tmp_path / "fastmnist").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fm.evaluate(fm.teacher(few, epochs=1, progress=False), few) >= 0


def test_it_learns_and_teaches(cache, digits):
    teacher = fm.teacher("digits", epochs=8, progress=False)
    assert fm.evaluate(teacher, digits) > 0.93
    student = fm.distill(fm.NeuralNetwork(), teacher, digits, epochs=4, seed=0)
    assert fm.evaluate(student, digits) > 0.9


def test_bad_arguments(cache, few):
    with pytest.raises(TypeError, match="data: expected 'mnist'"):
        fm.teacher(few.train)
    with pytest.raises(ValueError, match="quick: expected False with epochs="):
        fm.teacher(few, epochs=1, quick=True)
    with pytest.raises(ValueError, match="epochs: expected an integer of at least 1, got 0"):
        fm.teacher(few, epochs=0)
    with pytest.raises(ValueError, match="seed: expected an integer from 0"):
        fm.teacher(few, epochs=1, seed=-1)
