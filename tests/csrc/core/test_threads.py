"""Threads: of the pool, of Python, after fork, and their floating-point mode."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from oracle import KINDS, Kind, assert_same_bits, random_network
from processes import python

from fastmnist import _core

WIDTHS = (256, 200, 30)  # 57,200 products a row: enough rows for several threads, on tiles too
ROWS = 2500


@pytest.fixture(autouse=True)
def _default_threads() -> Iterator[None]:
    yield
    _core.set_num_threads(0)


def rows(count: int = ROWS, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(count, WIDTHS[0])).astype(np.float32)


def test_set_num_threads() -> None:
    for count in (1, 2, 1024):
        _core.set_num_threads(count)
        assert _core.num_threads() == count
    for count in (-1, 1025, 2**31 - 1):
        with pytest.raises(ValueError, match="num_threads: expected a number from 1 to 1024"):
            _core.set_num_threads(count)
    for nonsense in (1.5, "2", None, 2**40):
        with pytest.raises(TypeError):
            _core.set_num_threads(nonsense)  # type: ignore[arg-type]
    assert _core.num_threads() == 1024


@pytest.mark.parametrize("value", ["0", "-1", "1025", "two", "2.5", " 2", "2 "])
def test_environment_nonsense_raises(value: str) -> None:
    code = (
        "from fastmnist import _core\n"
        "for call in (_core.num_threads, _core.cpu_info):\n"
        "    try: call()\n"
        "    except ValueError as error: print(error)"
    )
    expected = f"FASTMNIST_NUM_THREADS: expected a number from 1 to 1024, got '{value}'"
    assert python(code, FASTMNIST_NUM_THREADS=value).stdout.splitlines() == [expected] * 2


def test_a_large_call_raises_too() -> None:
    code = (
        "import numpy as np\n"
        "from fastmnist import _core\n"
        "weight, scale = np.ones((200, 256), np.int8), np.ones(200, np.float32)\n"
        "layer = _core.Layer(weight, scale, None, 0, 1, 1, 0)\n"
        "model = _core.Model(_core.pack([layer], 'static'))\n"
        "try: model(np.zeros((2000, 256), np.float32))\n"
        "except ValueError as error: print(error)"
    )
    assert "FASTMNIST_NUM_THREADS: expected" in python(code, FASTMNIST_NUM_THREADS="all").stdout


def test_environment_and_what_goes_before_it() -> None:
    code = (
        "from fastmnist import _core\n"
        "print(_core.num_threads())\n"
        "_core.set_num_threads(5)\n"
        "print(_core.num_threads())\n"
        "_core.set_num_threads(0)\n"
        "print(_core.num_threads())"
    )
    assert python(code, FASTMNIST_NUM_THREADS="3").stdout.split() == ["3", "5", "3"]


@pytest.mark.slow
def test_torch_gives_the_default() -> None:
    code = (
        "import torch\n"
        "from fastmnist import _core, _ops\n"
        "for n in (1, 2):\n"
        "    torch.set_num_threads(n)\n"
        "    print(_core.num_threads())"
    )
    assert python(code, FASTMNIST_NUM_THREADS="").stdout.split() == ["1", "2"]


@pytest.mark.parametrize("kind", KINDS)
def test_many_python_threads_call_one_model(kind: Kind) -> None:
    model = _core.Model(random_network(1, WIDTHS, kind).packed)
    _core.set_num_threads(2)
    batches = [rows(count, seed) for seed, count in enumerate((1, 3, 60, 200, ROWS))]
    expected = [model(x) for x in batches]
    start = threading.Barrier(8)

    def work(offset: int) -> bool:
        start.wait()
        equal = True
        for i in range(15):
            at = (i + offset) % len(batches)
            equal &= np.array_equal(
                model(batches[at]).view(np.uint32), expected[at].view(np.uint32)
            )
        return equal

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


# A fork of a process with threads is what DataLoader does; Python 3.12 and later warn of it.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork() -> None:
    model = _core.Model(random_network(1, WIDTHS).packed)
    _core.set_num_threads(3)
    x = rows()
    expected = model(x).view(np.uint32)
    context = multiprocessing.get_context("fork")

    def child() -> None:
        if not np.array_equal(model(x).view(np.uint32), expected):
            os._exit(1)
        os._exit(0)

    for _ in range(5):
        process = context.Process(target=child)
        process.start()
        process.join(timeout=60)
        if process.exitcode is None:
            process.kill()
            pytest.fail("the child hangs")
        assert process.exitcode == 0
        assert np.array_equal(model(x).view(np.uint32), expected)


FORK_WHILE_BUSY = """
import os, signal, sys, threading, time
import numpy as np
from fastmnist import _core

rng = np.random.default_rng(0)
weight = rng.integers(-127, 128, (200, 256)).astype(np.int8)
layer = _core.Layer(weight, np.full(200, 0.01, np.float32), None, -1e9, 1e9, 0.02, 7)
model = _core.Model(_core.pack([layer], "static"))
_core.set_num_threads(2)
x = rng.normal(size=(500, 256)).astype(np.float32)
expected = model(x)
stop = False

def busy():
    while not stop:
        assert np.array_equal(model(x), expected)

thread = threading.Thread(target=busy)
thread.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if all(np.array_equal(model(x), expected) for _ in range(5)) else 1)
    status = os.waitpid(child, 0)[1]
    if status:
        print("child:", status)
stop = True
thread.join()
print("done")
"""


def test_fork_while_another_thread_computes() -> None:
    done = python(FORK_WHILE_BUSY)
    assert done.stdout.split() == ["done"], done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_flush_to_zero_is_the_same_on_every_thread(isa: str, kind: Kind) -> None:
    network = random_network(2, WIDTHS, kind)
    for layer in network.layers:  # biases and scales for which flushing makes a difference
        layer.bias = np.full(len(layer.weight), 1e-40, np.float32)
        layer.weight_scale = np.full(len(layer.weight), 1e-39, np.float32)
    network.__post_init__()
    model = _core.Model(network.packed)
    x = rows() * np.float32(1e-38)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush")
    try:
        results = []
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            results.append(model(x))
        assert_same_bits(results[1], results[0])
        assert_same_bits(results[2], results[0])
    finally:
        torch.set_flush_denormal(False)
    # And back: the workers do not keep the mode.
    plain = model(x)
    _core.set_num_threads(1)
    assert_same_bits(plain, model(x))
    assert np.any(plain != results[0])


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
def test_no_second_openmp_runtime() -> None:
    """Two of them in one process hang or slow each other down: only torch's own may be there."""
    done = python(
        """
import re, torch
def runtimes():
    names = {line.split()[-1] for line in open("/proc/self/maps")}
    return {n for n in names if re.search(r"lib(gomp|iomp|omp)[^/]*[.]so", n)}
before = runtimes()
import fastmnist as fm, fastmnist._ops
net = fm.compile(fm.NeuralNetwork(), dynamic=True)
fm.set_num_threads(2)
net(torch.rand(5000, 784))
assert runtimes() == before, (before, runtimes())
print("same")
"""
    )
    assert done.stdout.strip() == "same", done.stderr
