"""Workers: starting one, asking it for turns, and turns of several in the same rounds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.peers.description import F32, U8, Network
from benchmarks.processes.worker import times

SCRIPT = Path(__file__).with_name("worker.py")
ROOT = Path(__file__).resolve().parents[2]
# Of a turn: its number, calls that are not timed, calls that are; returns nanoseconds.
Turn = Callable[[int, int, int], list[int]]


def write_job(path: Path, network: Network, rows: U8) -> None:
    """Write a network and its rows for workers."""
    arrays: dict[str, npt.NDArray[Any]] = {"calibration": network.calibration, "rows": rows}
    for i, layer in enumerate(network.layers):
        arrays[f"weight{i}"], arrays[f"bias{i}"] = layer.weight, layer.bias
    arrays["relu"] = np.array([layer.relu for layer in network.layers])
    save: Any = np.savez  # its types take the arrays for its one option
    save(path, **arrays)


class Worker:
    """A process that holds a model; a context manager.

    Parameters
    ----------
    job : path
        What :func:`write_job` wrote.
    kernels : {"dense", "planned"}
    threads : int
    copies : int
        Of the model.
    path : list of path, optional
        Where its ``fastmnist`` and ``benchmarks`` come from; otherwise they are this process's.
    """

    def __init__(
        self,
        job: Path,
        *,
        kernels: str,
        threads: int = 1,
        copies: int = 1,
        path: Sequence[Path] = (),
    ) -> None:
        inherited = sys.path if not path else os.environ.get("PYTHONPATH", "").split(os.pathsep)
        places = [*map(str, path or [ROOT]), *(place for place in inherited if place)]
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.start({"file": str(job), "kernels": kernels, "threads": threads, "copies": copies})
        self.made: dict[str, str] = self.answer()
        if path and not any(Path(self.made["from"]).is_relative_to(place) for place in path):
            raise RuntimeError(f"expected fastmnist from {path[0]}, got {self.made['from']}")

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()  # it ends with its stdin

    def start(self, wanted: dict[str, Any]) -> None:
        """Ask for something without waiting for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() says what became of it

    def answer(self) -> Any:
        """Wait for it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended by {self._process.wait()}; see its words above")
        return json.loads(line)

    def turn(self, turn: int, warm_up: int, calls: int) -> list[int]:
        self.start({"turn": turn, "warm_up": warm_up, "calls": calls})
        taken: list[int] = self.answer()
        return taken

    def check(self, outputs: F32) -> None:
        """Raise unless its answers were these, bit by bit."""
        expected = hashlib.sha256(np.ascontiguousarray(outputs).tobytes()).hexdigest()
        if self.made["outputs"] != expected:
            raise AssertionError(f"other answers from {self.made['from']} than from this commit")


def in_process(calls: Sequence[Callable[[], Any]]) -> Turn:
    """Make turns of calls in this process: turn i is that of call i, counted around."""
    return lambda turn, warm_up, count: times(calls[turn % len(calls)], warm_up, count)


def interleave(
    turns: Sequence[Turn], *, rounds: int, warm_up: int, calls: int
) -> list[npt.NDArray[np.float64]]:
    """Let each have its turn in every round; return each one's median seconds by round."""
    order = np.random.default_rng(0)
    medians = np.zeros((len(turns), rounds))
    for turn in range(-1, rounds):  # one round of warming up
        for i in order.permutation(len(turns)):
            taken = turns[i](max(turn, 0), warm_up, calls)
            if turn >= 0:
                medians[i, turn] = np.median(taken) / 1e9
    return [*medians]
