"""``pkg.mod:name`` and ``file.py:name``: what a command line calls a thing of the user's own."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from fastmnist.command.words import told


def find(reference: str, option: str, form: str = "PKG.MOD:NAME") -> Any:
    """Import what is meant.

    Parameters
    ----------
    reference : str
        ``package.module:name``, found from the working folder too, or ``path/to/file.py:name``.
    option : str
        What errors call it: "--model".
    form : str
        What errors ask for.

    Raises
    ------
    ValueError
        If it is no reference, or what it names is not there, with the nearest name that is; or if
        importing it raises.

    Examples
    --------
    >>> find("os.path:join", "--data")("a", "b")
    'a/b'
    """
    module_name, _, name = reference.rpartition(":")
    if not module_name or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{option}: expected {form}, got '{reference}': {_advice(reference)}")
    module = _import(module_name, option)
    try:
        return reduce(getattr, name.split("."), module)
    except AttributeError as error:
        hint = _nearest(name, (n for n in vars(module) if not n.startswith("_")))
        raise ValueError(f"{option}: cannot find '{reference}': {error}{hint}") from None


def call(reference: str, option: str, form: str = "PKG.MOD:NAME") -> Any:
    """Import what is meant, and call it if it is a function or a class.

    Raises
    ------
    ValueError
        As :func:`find`; if calling it raises.
    """
    made = find(reference, option, form)
    if not (inspect.isroutine(made) or inspect.isclass(made)):
        return made
    try:
        return made()
    except Exception as error:  # whatever the user's own code raises
        hint = ""
        if isinstance(error, TypeError) and "argument" in str(error):
            hint = ": name a function without arguments that makes it"
        raise ValueError(f"{option}: cannot make '{reference}': {told(error)}{hint}") from error


def _import(name: str, option: str) -> ModuleType:
    is_file = name.endswith(".py") or os.sep in name or "/" in name
    try:
        if is_file:
            return _import_file(Path(name))
        here = os.getcwd()
        if here not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(name)
    except SystemExit:
        raise ValueError(
            f"{option}: cannot import '{name}': it ends the program: put what it runs as a script "
            'under if __name__ == "__main__":'
        ) from None
    except Exception as error:  # whatever the user's own code raises
        hint = ""
        if is_file and not Path(name).is_file():
            hint = _nearest(name, (str(p) for p in Path(name).parent.glob("*.py")))
        elif isinstance(error, ModuleNotFoundError) and name.startswith(error.name or " "):
            hint = _nearest(name, (p.stem for p in Path.cwd().iterdir()))
        raise ValueError(f"{option}: cannot import '{name}': {told(error)}{hint}") from error


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError("there is no such file")
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # Under its own name, by which pickles find it; not in place of a module that has it already.
    name = path.stem if known is None else f"{path.stem}_of_{abs(hash(str(path)))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _advice(reference: str) -> str:
    """What to give instead: of a file, names in it; it is not run for that."""
    path = Path(reference.rstrip(":"))
    if path.suffix == ".py" and path.is_file():
        try:
            body = ast.parse(path.read_text(encoding="utf-8")).body
        except (SyntaxError, ValueError):
            body = []
        names = [n.name for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef))]
        if names:
            return f"did you mean {' or '.join(f'{path}:{name}' for name in names[:4])}?"
    return "name a module or a file, and what is in it, as in net.py:Net"


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [*known], n=1)
    return f": did you mean '{near[0]}'?" if near else ""
