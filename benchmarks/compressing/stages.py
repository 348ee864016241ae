"""Stages of a long run, each a file once it is finished, so that a rerun goes on from there.

A stage is known by its name and by all that decides what comes out of it: its settings, and the
keys of the stages that it begins with. Whoever changes a recipe gets new stages from there on, and
keeps those before it; whoever changes code deletes the files of its stages.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

import fastmnist as fm


class Stages:
    """The files of a run's stages.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    say : callable, optional
        Told what is begun and what was found.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda text: None) -> None:
        self.folder = folder
        self._say = say
        folder.mkdir(parents=True, exist_ok=True)

    def model(self, name: str, settings: Any, make: Callable[[], nn.Module]) -> nn.Module:
        """Return the stage's model, made now or in a run before this one."""
        path = self._path(name, settings, ".safetensors")
        if not path.exists():
            fm.save(path, self._made(name, make))
        loaded = fm.load(path)
        assert isinstance(loaded, nn.Module)
        return loaded

    def figures(self, name: str, settings: Any, make: Callable[[], dict[str, Any]]) -> Any:
        """Return what was measured, now or in a run before this one."""
        path = self._path(name, settings, ".json")
        if not path.exists():
            text = json.dumps(self._made(name, make))
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(text)
            partial.replace(path)
        return json.loads(path.read_text())

    def _made(self, name: str, make: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        self._say(f"{name} ...")
        made = make()
        self._say(f"{name}: {time.perf_counter() - start:.0f} s")
        return made

    def _path(self, name: str, settings: Any, suffix: str) -> Path:
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
        return self.folder / f"{name}-{digest}{suffix}"
