"""What was measured is remembered, in the process and in a file that others may change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from plans import PIXELS, compiled, entries, has_choice

from fastmnist import _core
from fastmnist.runtime.measurements import SHARED


def test_a_second_model_measures_nothing(memory: Path) -> None:
    if not has_choice():
        pytest.skip("this instruction set has one kernel")
    first = compiled()
    measured = SHARED.added
    layers = {key for key in entries(memory) if key.startswith("layer ")}
    assert {key.split(" ")[1] for key in layers} == {"90x150", "150x70", "70x10"}
    second = compiled()
    assert SHARED.added == measured
    SHARED.forget()  # as in a new process
    third = compiled()
    assert SHARED.added == measured
    assert first._plans == second._plans == third._plans
    assert {path.name for path in memory.parent.iterdir()} == {memory.name, "measurements.lock"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00 not ours",
        b'{"format": 1, "machines": {}}',
        b"fastmnist measurements 3\nmachine\tMACHINE\nset-up\t1\n",
        b"fastmnist measurements 2\nlayer 90x150 codes\t1 2 3\n",
        b"fastmnist measurements 2\nmachine\tMACHINE\nlayer 90x150 codes\tnan x -1\n",
        b"fastmnist measurements 2\nmachine\tMACHINE\nblocks static 90x150 codes, \t999999999\n",
        b"fastmnist measurements 2\nmachine\tMACHINE\nset-up\t1" + b"0" * 400 + b"\n\t\t\n\n",
        b"fastmnist measurements 2\nmachine\tMACHINE\nlayer 90x150 codes\t1 2",
        b"x" * (9 << 20),
    ],
)
def test_a_damaged_memory_is_measured_again(memory: Path, content: bytes) -> None:
    memory.parent.mkdir(parents=True)
    memory.write_bytes(content.replace(b"MACHINE", _core.machine_name().encode()))
    before = SHARED.added
    net = compiled()
    assert (net(PIXELS) == compiled("fixed")(PIXELS)).all()
    if has_choice():
        assert SHARED.added >= before + 3
        assert len(entries(memory)) >= 4  # and is whole again


def test_other_machines_entries_are_kept(memory: Path) -> None:
    memory.parent.mkdir(parents=True)
    other = "machine\tanother | kernels | fastmnist 0\nlayer 1x2\t7 8\n"
    memory.write_text("fastmnist measurements 2\n" + other)
    compiled()
    if has_choice():
        assert other in memory.read_text()


def test_the_latest_entries_are_kept(memory: Path) -> None:
    if not has_choice():
        pytest.skip("this instruction set has one kernel")
    memory.parent.mkdir(parents=True)
    old = "".join(f"layer {i}x1\t5\n" for i in range(1000))
    memory.write_text(f"fastmnist measurements 2\nmachine\t{_core.machine_name()}\n{old}")
    compiled()
    kept = [*entries(memory)]
    assert len(kept) == 1000
    assert "layer 0x1" not in kept
    assert kept.index("layer 999x1") < kept.index(next(k for k in kept if "90x150" in k))


def test_no_home_no_file(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmnist.runtime.measurements.default_path", lambda: None)
    assert compiled().plan == "measured"
    assert not memory.parent.exists()


def test_a_folder_that_is_read_only(memory: Path) -> None:
    memory.parent.mkdir(parents=True)
    memory.parent.chmod(0o500)
    try:
        assert compiled().plan == "measured"
    finally:
        memory.parent.chmod(0o700)


def test_a_lock_that_somebody_keeps(memory: Path) -> None:
    """A process that was stopped must not stop all others."""
    fcntl = pytest.importorskip("fcntl")
    memory.parent.mkdir(parents=True)
    with memory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert compiled().plan == "measured"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_while_another_thread_measures(memory: Path) -> None:
    """It neither waits for a thread that it has not, nor loses what was known."""
    code = """
import os, threading
from itertools import count
import numpy as np
import fastmnist._core as _core
from fastmnist.runtime.measurements import shared

def plan(k, n):
    layer = _core.Layer(np.ones((n, k), np.int8), np.ones(n, np.float32), None, 0.0, 1.0, 1.0, 0)
    _core.plan_network(_core.pack([layer], "static"), shared())

def measure():
    while not stop.is_set():
        plan(700, next(sizes))

sizes, stop = count(20), threading.Event()
thread = threading.Thread(target=measure)
thread.start()
for _ in range(20):
    if (child := os.fork()) == 0:
        plan(9, 9)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
stop.set()
thread.join()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120, check=False)
    assert done.returncode == 0


def test_a_memory_that_cannot_be_written_does_no_harm(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.parent.parent.joinpath("fastmnist").write_text("a file where a folder should be")
    assert compiled().plan == "measured"


@pytest.mark.slow
def test_processes_that_start_at_once_lose_nothing(memory: Path) -> None:
    """Each measures shapes of its own; all are in the file in the end."""
    if not has_choice():
        pytest.skip("this instruction set has one kernel")
    code = (
        "import sys, torch, fastmnist as fm; n = int(sys.argv[1]);"
        "fm.compile(torch.nn.Sequential(torch.nn.Linear(n, n)), dynamic=True)"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], env={**os.environ})
        for n in (41, 42, 43, 44)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * 4
    layers = {" ".join(key.split(" ")[:3]) for key in entries(memory)}
    assert {f"layer {n}x{n} rows" for n in (41, 42, 43, 44)} <= layers
