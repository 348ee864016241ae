"""Hostile files are refused in words, by every reader, in no more memory than their size allows."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import c_library as c
import numpy as np
import pytest

import fastmnist as fm
from fastmnist import runtime

FOLDER = Path(__file__).resolve().parents[1] / "attacks"
FILES = sorted(FOLDER.glob("*.safetensors"))
NAMES = [path.stem for path in FILES]


def maker():
    spec = importlib.util.spec_from_file_location("attacks_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_are_there_and_described():
    made = maker()
    assert {*NAMES} == {*made.ATTACKS}
    assert len(NAMES) > 50
    assert (FOLDER / "README.md").read_text() == made.readme()
    for path in FILES:
        assert path.read_bytes() == made.ATTACKS[path.stem][1](), f"{path.stem}: make it anew"


def test_what_they_are_made_of_is_good(tmp_path):
    path = tmp_path / "good.safetensors"
    path.write_bytes(maker().good())
    rows = np.ones((2, 8), np.float32)
    want = fm.load(path)["m"](rows)
    assert np.array_equal(runtime.load(path)(rows), want)
    assert np.array_equal(c.Model(path).predict(rows), want)
    path.write_bytes(maker().graph())
    assert np.array_equal(c.Model(path).predict(rows), fm.load(path)["m"](rows))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_each_is_refused(path):
    with pytest.raises(ValueError, match=r"expected|at most|too|shape"):
        _all_of(fm.load(path))
    with pytest.raises((ValueError, KeyError)):
        runtime.load(path, "m")
    for source in (path, path.read_bytes()):
        with pytest.raises(c.Failed, match=r"expected|memory"):
            c.Model(source)


def _all_of(loaded):
    return [*loaded.values()] if hasattr(loaded, "values") else loaded


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_in_little_memory():
    """All of them in a process that may have a gigabyte beside what Python takes."""
    script = f"""
import resource, sys
import fastmnist.runtime as runtime
import pathlib
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sorted(pathlib.Path({str(FOLDER)!r}).glob("*.safetensors")):
    try:
        runtime.load(path, "m")
        sys.exit(f"{{path}} was taken")
    except (ValueError, KeyError):
        pass
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
