"""Heap allocations of calls, counted in a process of its own: see malloc_shim.c."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parents[2] / "support"
SHIM = SUPPORT / "malloc_shim.c"

# What every script starts with. Python's own small objects come from arenas of 256 KB or more, so
# one of them is rarely a call of malloc; a thousand calls that made new ones would be.
PRELUDE = """
import ctypes, gc, sys
import numpy as np
import torch
import fastmnist as fm

shim = ctypes.CDLL(None)
shim.shim_calls.restype = shim.shim_live_bytes.restype = ctypes.c_long
torch.manual_seed(0)
model = fm.NeuralNetwork().eval()
torch.set_num_threads(1)
pixels = torch.randint(0, 256, (10_000, 1, 28, 28), dtype=torch.uint8)
quantized = fm.quantize(model, fm.Static(pixels[:256]))

def rows(count, library, dtype):
    x = pixels[:count].clone() if dtype == "uint8" else pixels[:count].float().div(255)
    return x.numpy() if library == "numpy" else x
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the compiled shim; skip the test where there is nothing to compile it with."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not sys.platform.startswith("linux"):
        pytest.skip("LD_PRELOAD and malloc_usable_size are Linux's")
    if compiler is None:
        pytest.skip("no C compiler to build malloc_shim.c with")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer has an allocator of its own")
    library = tmp_path_factory.mktemp("shim") / "malloc_shim.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return str(library)


def run(shim: str, code: str, *arguments: Any) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        env=os.environ
        | {"LD_PRELOAD": shim, "OMP_NUM_THREADS": "1"}
        | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


CALLS = """
net = fm.compile(quantized)
fm.set_num_threads(int(sys.argv[1]))

def count(function, x, out):
    for _ in range(200):
        function(x, out=out)
    gc.disable()
    before = shim.shim_calls()
    for _ in range(1000):
        pass
    loop = shim.shim_calls() - before
    before = shim.shim_calls()
    for _ in range(1000):
        function(x, out=out)
    calls = shim.shim_calls() - before - loop
    gc.enable()
    return calls

for size in (1, 32, 1024):
    for library in ("numpy", "torch"):
        for dtype in ("uint8", "float32"):
            x = rows(size, library, dtype)
            logits, classes = np.empty((size, 10), np.float32), np.empty(size, np.int64)
            if library == "torch":
                logits, classes = torch.from_numpy(logits), torch.from_numpy(classes)
            print(count(net, x, logits), count(net.predict, x, classes))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_with_out_allocate_nothing(shim: str, threads: int) -> None:
    assert run(shim, CALLS, threads) == [0] * 24


GRAPHS = """
from graph_models import ActorCritic, Block, made
from torch import nn

MODELS = {
    "several": ActorCritic,
    "residual": lambda: nn.Sequential(nn.Linear(12, 24), Block(24), Block(24), nn.Linear(24, 4)),
    "autoencoder": lambda: nn.Sequential(
        nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 12), nn.Sigmoid()
    ),
}
model = made(MODELS[sys.argv[1]])
net = fm.compile(model) if sys.argv[2] == "float" else fm.compile(model, dynamic=True)
fm.set_num_threads(int(sys.argv[3]))
several = sys.argv[1] == "several"
for size in (1, 32, 1024):
    for library in ("numpy", "torch"):
        arrays = [np.zeros((size, width), np.float32) for width in ((12, 7) if several else (12,))]
        widths = (4, 1) if several else (net.out_features,)
        outs = tuple(np.empty((size, width), np.float32) for width in widths)
        if library == "torch":
            arrays = [torch.from_numpy(array) for array in arrays]
            outs = tuple(torch.from_numpy(array) for array in outs)
        out = outs if several else outs[0]
        for _ in range(200):
            net(*arrays, out=out)
        gc.disable()
        before = shim.shim_calls()
        for _ in range(1000):
            net(*arrays, out=out)
        calls = shim.shim_calls() - before
        gc.enable()
        print(calls)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", ["float", "int8"])
@pytest.mark.parametrize("model", ["several", "residual", "autoencoder"])
def test_calls_of_graphs_with_out_allocate_nothing(
    shim: str, model: str, way: str, threads: int
) -> None:
    """But the dict that several outputs come in, which is Python's own small object."""
    assert max(run(shim, GRAPHS, model, way, threads)) <= 1


RESULTS = """
net = fm.compile(quantized)
fm.set_num_threads(1)
made = np.empty
for size in (1, 32):
    for dtype in ("uint8", "float32"):
        x = rows(size, "numpy", dtype)
        for function, like in ((net, ((size, 10), np.float32)), (net.predict, ((size,), np.int64))):
            kept = [None] * 1000
            for again in (lambda: function(x), lambda: made(*like)):
                for _ in range(200):
                    again()
                before = shim.shim_calls()
                for i in range(1000):
                    kept[i] = again()
                print(shim.shim_calls() - before)
                kept = [None] * 1000
"""


def test_a_result_allocates_what_an_empty_array_does(shim: str) -> None:
    counts = run(shim, RESULTS)
    for ours, empty in zip(counts[::2], counts[1::2], strict=True):
        assert ours <= empty + 20  # of 2,000: arenas


def test_the_shim_sees_allocations(shim: str) -> None:
    code = """
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
live, calls = shim.shim_live_bytes(), shim.shim_calls()
block = libc.malloc(1_000_000)
print(shim.shim_live_bytes() - live, shim.shim_calls() - calls)
libc.free(block)
print(shim.shim_live_bytes() - live)
"""
    live, calls, after = run(shim, code)
    assert live >= 1_000_000
    assert calls >= 1
    assert abs(after) < 10_000


MEMORY = """
import os
fm.set_num_threads(1)
x = {size: pixels[:size] for size in (1, 32, 1024, 10_000)}
warm = fm.compile(quantized)  # modules, tables of NumPy's and torch's, Python's free lists
for function in (warm, warm.predict):
    for batch in x.values():
        for given in (batch, batch.float(), batch.numpy()):
            function(given)
del function, batch, given, warm
gc.collect()
before = shim.shim_live_bytes()
net = fm.compile(quantized)
for batch in x.values():
    for given in (batch, batch.float(), batch.numpy()):
        net(given)
        net.predict(given)
del batch, given
gc.collect()
print(shim.shim_live_bytes() - before, net.nbytes)
"""


def test_memory_of_a_compiled_network(shim: str) -> None:
    """Whatever it was called with: a packed network and less than 250 KB."""
    taken, weights = run(shim, MEMORY)
    assert weights < taken < weights + 250_000
