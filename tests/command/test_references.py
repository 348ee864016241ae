"""What a command line calls a thing of the user's own."""

from __future__ import annotations

import sys

import pytest

from fastmnist.command.references import call, find

OWN = """
import os, sys
from helper_of_tests import VALUE

class Net:
    class Inner: ...

def make():
    return VALUE

def wants(hidden):
    return hidden

def breaks():
    raise LookupError("inside")

here = 3
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working folder with own_of_tests.py, and a folder below with a file of the same name."""
    (tmp_path / "own_of_tests.py").write_text(OWN)
    (tmp_path / "helper_of_tests.py").write_text("VALUE = 'made'")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "own_of_tests.py").write_text("def make():\n    return 'below'")
    (tmp_path / "script_of_tests.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if "_of_tests" in name]:
        del sys.modules[name]


def test_modules_and_files(project):
    for reference in (
        "own_of_tests:make",
        "own_of_tests.py:make",
        f"{project}/own_of_tests.py:make",
    ):
        assert call(reference, "--data") == "made"
    assert find("own_of_tests.py:make", "--data") is find("own_of_tests:make", "--data")
    assert call("below/own_of_tests.py:make", "--data") == "below"
    assert call("own_of_tests:make", "--data") == "made"  # which keeps its name
    assert call("own_of_tests:here", "--data") == 3
    assert find("own_of_tests:Net.Inner", "--model").__name__ == "Inner"
    assert type(call("own_of_tests:Net", "--model")).__name__ == "Net"


def test_a_file_can_be_pickled_by_its_name(project):
    import pickle

    net = call("own_of_tests.py:Net", "--model")
    assert type(pickle.loads(pickle.dumps(net))) is type(net)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("own_of_tests", "expected PKG.MOD:NAME, got 'own_of_tests': name a module or a file"),
        ("own_of_tests.py", "did you mean own_of_tests.py:Net or own_of_tests.py:make"),
        ("own_of_tests.py:", "did you mean own_of_tests.py:Net"),
        (":make", "expected PKG.MOD:NAME"),
        ("own_of_tests:mak", "no attribute 'mak': did you mean 'make'"),
        ("own_of_test:make", "No module named 'own_of_test': did you mean 'own_of_tests'"),
        ("own_of_test.py:make", "there is no such file: did you mean 'own_of_tests.py'"),
        ("script_of_tests:make", "it ends the program: put what it runs"),
        ("own_of_tests:wants", "missing 1 required .*: name a function without arguments"),
        ("own_of_tests:breaks", "cannot make 'own_of_tests:breaks': LookupError: inside"),
    ],
)
def test_what_is_not_there(project, reference, words):
    with pytest.raises(ValueError, match=f"^--model: .*{words}"):
        call(reference, "--model")


def test_a_file_that_fails_is_read_anew(project):
    (project / "bad_of_tests.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=r"cannot import 'bad_of_tests.py': ZeroDivisionError"):
        call("bad_of_tests.py:make", "--data")
    (project / "bad_of_tests.py").write_text("def make():\n    return 'mended by hand'")
    assert call("bad_of_tests.py:make", "--data") == "mended by hand"
