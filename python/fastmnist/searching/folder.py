"""A search on disk: what was tried, so that an interrupted one goes on where it stopped.

::

    folder/
      search.json          what is searched for, and in what
      trials.jsonl         a line a trial, in order; a half-written last line counts as none
      models/HASH.safetensors     results on the Pareto front, and first steps of branches
      lock                 held by the process that searches
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torch import nn

from fastmnist.files.atomic import write_atomically
from fastmnist.saving.save_load import load, save
from fastmnist.searching.recipe import Recipe
from fastmnist.searching.trial import Trial

_FORMAT, _VERSION = "fastmnist search", 1


class Folder:
    """The folder of one search, held by this process.

    Parameters
    ----------
    path : path
        Made if it is not there.
    settings : dict
        What must be the same when a search goes on: goal, model, data.

    Raises
    ------
    OSError
        If it cannot be written.
    ValueError
        If another search is in it, or another process searches there.
    """

    def __init__(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"folder: expected a str or a path, got {type(path).__name__}")
        self.path = Path(path)
        try:
            (self.path / "models").mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / "lock", "w")  # noqa: SIM115
        except OSError as error:
            raise type(error)(
                error.errno, f"folder: cannot write: {error.strerror}", str(path)
            ) from None
        self._take_lock()
        self.settings: dict[str, Any] = {}
        self.trials: list[Trial] = []
        try:
            self._read(settings)
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: people do not start two by accident
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ValueError(
                f"folder: expected one search at a time in '{self.path}', got a second: wait for "
                "the other, or give another folder"
            ) from None

    def _read(self, settings: dict[str, Any]) -> None:
        file = self.path / "search.json"
        if not file.exists():
            self.settings = {"format": _FORMAT, "version": _VERSION, **settings}
            self._write_settings()
            return
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise ValueError(f"folder: expected a search in '{file}', got {error}") from None
        if not isinstance(stored, dict) or stored.get("format") != _FORMAT:
            raise ValueError(f"folder: expected a search in '{file}', got JSON of another kind")
        if stored.get("version") != _VERSION:
            raise ValueError(f"folder: expected version {_VERSION}, got {stored.get('version')!r}")
        for name, value in settings.items():
            if stored.get(name) != value:
                raise ValueError(
                    f"folder: expected a search of {name} {value!r}, got '{self.path}' with "
                    f"another one's, of {name} {stored.get(name)!r}: give another folder"
                )
        self.settings = stored
        self.trials = self._stored_trials()

    def _stored_trials(self) -> list[Trial]:
        file = self.path / "trials.jsonl"
        if not file.exists():
            return []
        found = []
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                trial = Trial.of_record(json.loads(line))
                Recipe.parse(trial.recipe), Recipe.parse(trial.key)
            except (AttributeError, RecursionError, ValueError):
                continue  # killed while it was written
            found.append(trial)
        return found

    def _write_settings(self) -> None:
        text = json.dumps(self.settings, indent=2)
        write_atomically(self.path / "search.json", f"{text}\n".encode())

    def remember(self, **settings: Any) -> None:
        """Store more of what holds for the whole search."""
        self.settings |= settings
        self._write_settings()

    def add(self, trial: Trial) -> None:
        """Store a trial, at once."""
        with open(self.path / "trials.jsonl", "ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 1, 0))
            # A process killed while writing left half a line, which this one must not continue.
            begun = b"\n" if file.read(1) not in (b"", b"\n") else b""
            file.write(begun + json.dumps(trial.as_record()).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def save(self, key: str, rung: int, model: nn.Module) -> None:
        """Store a model, if it can be."""
        with contextlib.suppress(OSError, TypeError, ValueError):  # a full disk ends no search
            save(self._file(key, rung), model)

    def load(self, key: str, rung: int, into: nn.Module) -> Any:
        """Give a stored model, or None."""
        file = self._file(key, rung)
        if not file.exists():
            return None
        try:
            return load(file, into=into)
        except (TypeError, ValueError):
            return None

    def drop(self, key: str, rung: int) -> None:
        """Remove a stored model."""
        with contextlib.suppress(OSError):
            self._file(key, rung).unlink()

    def close(self) -> None:
        """Let another process search here."""
        self._lock.close()

    def _file(self, key: str, rung: int) -> Path:
        name = hashlib.sha256(f"{key} {rung}".encode()).hexdigest()[:16]
        return self.path / "models" / f"{name}.safetensors"
