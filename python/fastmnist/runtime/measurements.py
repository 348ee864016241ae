"""What was measured on this machine: kept for the process, and in a file in the user's cache.

The file is JSON, ``{"format": 1, "machines": {machine: {key: [µs, …]}}}``. Other processes may
read and write it meanwhile, and it may hold anything: entries are checked when they are used.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fastmnist._core as _core
from fastmnist._version import __version__
from fastmnist.files.atomic import write_atomically
from fastmnist.files.cache import cache_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FORMAT = 1
_MOST_ENTRIES = 1000  # per machine: the latest are kept


def default_path() -> Path | None:
    """Where measurements are kept; None where there is no home folder."""
    folder = cache_folder()
    return None if folder is None else folder / "plans.json"


class Measurements:
    """Times by key, looked up or measured. One thread at a time: hold `lock`.

    Parameters
    ----------
    path : callable
        Gives the file, or None for this process only; asked anew each time, as the environment
        may change.
    """

    def __init__(self, path: Callable[[], Path | None] = default_path) -> None:
        self.lock = threading.Lock()
        self._path = path
        self.forget()

    def forget(self) -> None:
        """Know nothing any more but what the file holds."""
        self._known: dict[str, dict[str, Any]] = {}  # machine -> what was measured there
        self._unsaved: set[str] = set()
        self._read_from: set[str] = set()

    def times(
        self,
        key: str,
        measure: Callable[[], list[float]],
        count: int,
        least: float = 0.0,
        most: float = math.inf,
    ) -> list[float]:
        """Look `count` numbers up in what is known of this machine, or measure them."""
        machine = machine_name(tuple(_core.linear_kernels()))
        known = self._known.setdefault(machine, {})
        self._read_once(machine, known)
        good = _checked(known.get(key), count, least, most)
        if good is None:
            good = [round(value, 3) for value in measure()]
            known.pop(key, None)
            known[key] = good
            self._unsaved.add(machine)
        return good

    def save(self) -> None:
        """Add what is new to the file, which other processes may be changing, too."""
        path = self._path()
        while path is not None and self._unsaved:
            machine = self._unsaved.pop()
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with _file_lock(path.with_suffix(".lock")):
                    machines = _file_content(path)
                    entries = {**machines.get(machine, {}), **self._known[machine]}
                    machines[machine] = dict([*entries.items()][-_MOST_ENTRIES:])
                    content = {"format": _FORMAT, "machines": machines}
                    write_atomically(path, json.dumps(content, indent=1).encode())
            except OSError:
                pass  # a cache that cannot be written costs some milliseconds next time

    def note(self) -> str:
        """Say where measurements are kept, and how to have them made again."""
        path = self._path()
        if path is None:
            return "in this process only"
        with contextlib.suppress(RuntimeError, ValueError):  # no home, or not in it
            path = Path("~") / path.relative_to(Path.home())
        return f"delete {path} to measure again"

    def _read_once(self, machine: str, known: dict[str, Any]) -> None:
        path = self._path()
        if path is None or f"{path} {machine}" in self._read_from:
            return
        self._read_from.add(f"{path} {machine}")
        for key, values in _file_content(path).get(machine, {}).items():
            known.setdefault(key, values)


SHARED = Measurements()
"""What this process knows; whoever plans takes it unless told otherwise."""


@functools.cache
def machine_name(kernels: tuple[str, ...]) -> str:
    """Name what times depend on beside the shape. (Asking the CPU takes some 0.1 ms.)"""
    model = _core.cpu_info()["model"]
    return f"{model} | {', '.join(kernels)} | fastmnist {__version__}"


def _checked(values: Any, count: int, least: float, most: float) -> list[float] | None:
    """Return remembered numbers if they can be used: the file may hold anything."""
    if not isinstance(values, list) or len(values) != count:
        return None
    try:
        numbers = [float(value) for value in values if type(value) in (int, float)]
    except OverflowError:
        return None
    usable = [v for v in numbers if least <= v <= most and v < math.inf]
    return usable if len(usable) == count else None


def _file_content(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return {}
    machines = content.get("machines")
    if not isinstance(machines, dict):
        return {}
    return {key: value for key, value in machines.items() if isinstance(value, dict)}


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """Keep other processes out meanwhile, where the system can. The file stays, and is empty."""
    with open(path, "ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)  # goes with the file
        yield


def _after_fork() -> None:
    """A child forked while another thread measured must not wait for that thread."""
    SHARED.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
