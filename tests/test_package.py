"""What the package promises: names, docstrings whose examples run, a stub that fits."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastmnist as fm
from fastmnist import _core

# Section 6 of the design, word for word.
CONTRACT = [
    "load_dataset",
    "NeuralNetwork",
    "summary",
    "train",
    "evaluate",
    "fuse",
    "quantize",
    "Static",
    "Dynamic",
    "quantize_dynamic",
    "prune",
    "L1Unstructured",
    "compile",
    "compare",
    "save",
    "load",
    "cpu_info",
    "set_num_threads",
]

PACKAGE = Path(fm.__file__).parent
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages([str(PACKAGE)], "fastmnist.")
    # An installed package holds shared libraries too, which pkgutil takes for modules.
    if not info.name.endswith(("._core", "._torch", ".libfastmnist", ".__main__"))
)


def test_the_contract():
    for name in CONTRACT:
        assert callable(getattr(fm, name)), name
        assert name in fm.__all__
    assert isinstance(fm.__version__, str)


def test_all_names_are_there_and_only_once():
    assert len(fm.__all__) == len(set(fm.__all__))
    assert set(dir(fm)) >= set(fm.__all__)
    for name in fm.__all__:
        assert getattr(fm, name) is not None
    with pytest.raises(AttributeError, match="No fastmnist attribute other"):
        fm.other  # noqa: B018


def test_importing_every_module_hides_no_name():
    before = {name: getattr(fm, name) for name in fm.__all__}
    for name in MODULES:
        importlib.import_module(name)
    assert {name: getattr(fm, name) for name in fm.__all__} == before
    assert not {name.split(".")[1] for name in MODULES} & set(fm.__all__)


def test_star_import():
    names: dict[str, object] = {}
    exec("from fastmnist import *", names)
    assert set(CONTRACT) <= set(names)


def test_type_checkers_see_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    typed = {
        alias.asname: alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert typed == {name: name for name in fm.__all__}  # "as" again, or they are not public
    assert (PACKAGE / "py.typed").exists()


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_everything_public_is_documented():
    for name in fm.__all__:
        value = getattr(fm, name)
        if name == "__version__":
            continue
        assert value.__doc__, name
        assert value.__module__.startswith("fastmnist"), name
        if inspect.isfunction(value):
            parameters = [p for p in inspect.signature(value).parameters if p != "self"]
            missing = [p for p in parameters if p not in value.__doc__]
            assert not missing, f"{name}: {missing}"


def test_the_stub_fits_the_native_module():
    tree = ast.parse((PACKAGE / "_core.pyi").read_text())

    def names(body):
        kinds = ast.FunctionDef | ast.ClassDef
        return {n.name for n in body if isinstance(n, kinds) and not n.name.startswith("_")}

    assert names(tree.body) == {name for name in dir(_core) if not name.startswith("_")}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            real = {n for n in vars(getattr(_core, node.name)) if not n.startswith("_")}
            assert names(node.body) == real, node.name


def test_importing_the_package_is_light():
    code = (
        "import sys, fastmnist; print([m for m in ('torch', 'numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
