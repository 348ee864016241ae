"""Which instruction set serves, and on how many threads."""

from __future__ import annotations

import importlib
import operator
import sys
from typing import Any

import fastmnist._core as _core


class CpuInfo(dict[str, Any]):
    """A dict that prints as a short report."""

    def __str__(self) -> str:
        lines = [f"CPU      {self['model']}", f"threads  {self['threads']}"]
        for rung in self["ladder"]:
            mark = "taken" if rung["taken"] else rung["why_not"] or "below the one taken"
            lines.append(f"  {rung['isa']:<12} {mark}")
        lines.append(f"zeros    {self['sparse']}")
        return "\n".join(lines)

    __repr__ = __str__


def cpu_info() -> CpuInfo:
    """Say which instruction set the kernels use and why better ones were not taken.

    Returns
    -------
    CpuInfo
        A dict with ``model`` (str), ``isa`` (the name that was taken), ``threads`` (int),
        ``ladder``: one dict per known set, best first, with ``isa``, ``taken`` and ``why_not``,
        ``sparse_forms``: the forms of sparse weights that its kernels read (list of str), and
        ``sparse``, which says that in a line.

    Raises
    ------
    ValueError
        If the environment variable ``FASTMNIST_ISA`` is not a name of the ladder.

    Examples
    --------
    >>> import fastmnist as fm
    >>> fm.cpu_info()["isa"] in {"amx_int8", "avx512_vnni", "avx2", "scalar"}
    True
    """
    _learn_torch_threads()
    info = _core.cpu_info()
    return CpuInfo(info, sparse=sparse_note(info["sparse_forms"]))


def sparse_note(forms: list[str]) -> str:
    """Say in a line what kernels make of zeros among weights."""
    if not forms:
        return "no sparse kernels on this CPU: zeros make the file smaller, not the call faster"
    return f"among weights are skipped where that is faster, by kernels for {', '.join(forms)}"


def num_threads() -> int:
    """Return how many threads a large call uses.

    That is what :func:`set_num_threads` set, else ``FASTMNIST_NUM_THREADS``, else torch's own
    number where torch is loaded, else the CPUs that this process may use.
    """
    _learn_torch_threads()
    return _core.num_threads()


def _learn_torch_threads() -> None:
    """Load the operators where torch is loaded: with them comes torch's number of threads."""
    if "torch" in sys.modules:
        importlib.import_module("fastmnist._ops")


def set_num_threads(count: int) -> None:
    """Set how many threads a large call may use; small calls use one whatever is set.

    Parameters
    ----------
    count : int
        1 to 1024, or 0 to return to the default.

    Raises
    ------
    TypeError, ValueError
        If `count` is no integer, or outside of that.

    Examples
    --------
    >>> import fastmnist as fm
    >>> fm.set_num_threads(1)
    >>> fm.num_threads()
    1
    >>> fm.set_num_threads(0)
    """
    if isinstance(count, bool):
        raise TypeError("count: expected an integer, got bool")
    try:
        number = operator.index(count)
    except TypeError:
        raise TypeError(f"count: expected an integer, got {type(count).__name__}") from None
    if not 0 <= number <= 1024:
        raise ValueError(f"count: expected 1 to 1024, or 0 for the default, got {number}")
    _core.set_num_threads(number)
