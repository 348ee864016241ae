"""The instruction set and the number of threads in use."""

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
    """Report which instruction set the kernels use, and why better ones are not used.

    Returns
    -------
    CpuInfo
        A dict with ``model`` (str), ``isa`` (the name of the set in use), ``threads`` (int),
        ``ladder``: one dict per known set, best first, with ``isa``, ``taken`` and ``why_not``,
        ``sparse_forms``: the formats of sparse weights that its kernels read (list of str), and
        ``sparse``, a one-line summary of them.

    Raises
    ------
    ValueError
        If the environment variable ``FASTMNIST_ISA`` is not a name in the ladder.

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
    """Summarize in one line how kernels use zeros among weights."""
    if not forms:
        return "no sparse kernels on this CPU: zeros make the file smaller, not the call faster"
    return f"among weights are skipped where that is faster, by kernels for {', '.join(forms)}"


def num_threads() -> int:
    """Return how many threads a large call uses.

    This is the value passed to :func:`set_num_threads`, else ``FASTMNIST_NUM_THREADS``, else
    torch's number if torch is loaded, else the number of CPUs that this process may use.
    """
    _learn_torch_threads()
    return _core.num_threads()


def _learn_torch_threads() -> None:
    """Load the operators if torch is loaded: they provide torch's number of threads."""
    if sys.modules.get("torch") is not None:
        importlib.import_module("fastmnist._ops")


def set_num_threads(count: int) -> None:
    """Set how many threads a large call may use; small calls always use one.

    Parameters
    ----------
    count : int
        1 to 1024, or 0 to return to the default.

    Raises
    ------
    TypeError, ValueError
        If `count` is not an integer, or is out of range.

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
