"""What a program without Python pays: start, opening a file, a call; and Python on the same rows.

    python -m benchmarks.library [--isa avx2] [--save]

Builds ``benchmarks/native/library.cpp`` and ``examples/cpp/classify.cpp`` against the libfastmnist
that the package uses. The digits network, int8, one row, one thread, plan by rule. A process is
timed from outside, from its start to its end, with one image, beside a program that does nothing.
The file of 100 MB is a float32 Linear(4400) network with its int8 one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fastmnist as fm
from benchmarks.command import Benchmark
from benchmarks.peers.torch_eager import chain
from benchmarks.workloads import digits
from fastmnist.display.tables import Table
from fastmnist.measuring.timing import time_interleaved

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(fm.__file__).parent


def built(source: Path, folder: Path, standard: str = "c++20") -> Path:
    """The program of one source file, against the package's library."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        raise RuntimeError("expected a C++ compiler, found none")
    program = folder / source.stem
    subprocess.run(
        [compiler, f"-std={standard}", "-O2", "-I", ROOT / "include", "-I", ROOT / "csrc", source,
         "-o", program, PACKAGE / "libfastmnist.so", f"-Wl,-rpath,{PACKAGE}"],
        check=True,
    )  # fmt: skip
    return program


def process_ms(*command: str | Path, times: int) -> float:
    """Median milliseconds from a process's start to its end."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        spent.append(1e3 * (time.perf_counter() - began))
    return statistics.median(spent)


def large_file(folder: Path, *, quick: bool) -> dict[str, float]:
    """Opening a file of 100 MB, and what it adds to the process."""
    from fastmnist.files.container import read

    width = 1000 if quick else 4400
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    path = folder / "large.safetensors"
    fm.save(path, {"original": model, "int8": fm.quantize(model, fm.Dynamic())})

    def held() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before, spent = held(), []
    for _ in range(20):
        began = time.perf_counter()
        file = read(path)
        spent.append(1e3 * (time.perf_counter() - began))
    opened = held()
    began = time.perf_counter()
    arrays = file.model("int8")[1]
    read_ms = 1e3 * (time.perf_counter() - began)
    assert len(arrays) > 4
    return {
        "file_mb": path.stat().st_size / 1e6,
        "open_ms": statistics.median(spent),
        "open_holds_mb": (opened - before) / 1e6,
        "read_int8_ms": read_ms,
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    workload = digits(options.data, options.threads)
    q = fm.quantize(
        chain(workload.network),
        fm.Static(torch.from_numpy(workload.network.calibration), mean=0.0, std=1.0),
    )
    os.environ["FASTMNIST_PLAN"] = "fixed"
    net = fm.compile(q)
    pixels = np.ascontiguousarray(workload.pixels[:1000].reshape(-1, 784))
    times = 20 if options.quick else 100
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fm.save(folder / "digits.safetensors", {"original": chain(workload.network), "int8": q})
        head = b"".join(n.to_bytes(4, "big") for n in (0x803, len(pixels), 28, 28))
        (folder / "images").write_bytes(head + pixels.tobytes())
        (folder / "image").write_bytes(head + pixels[:1].tobytes())
        (folder / "nothing.cpp").write_text("int main() {}\n")
        program = built(ROOT / "benchmarks" / "native" / "library.cpp", folder)
        classify = built(ROOT / "examples" / "cpp" / "classify.cpp", folder, "c++17")
        nothing = built(folder / "nothing.cpp", folder)
        file = folder / "digits.safetensors"
        inside = json.loads(subprocess.check_output([program, file, "int8", folder / "images"]))
        whole = process_ms(classify, file, "int8", folder / "image", times=times)
        empty = process_ms(nothing, times=times)
        large = large_file(folder, quick=options.quick)
    one, out = pixels[:1], np.empty((1, 10), np.float32)
    (python,) = time_interleaved(
        [[partial(net, one, out=out)]], rounds=25, calls_per_round=200, what="Python"
    )
    return {"data": workload.data, "inside": inside, "process_ms": whole, "nothing_ms": empty,
            "large": large, "python_ns": python.p50 * 1e9}  # fmt: skip


def table(report: dict[str, Any]) -> Table:
    """Lay a report out."""
    made = Table("libfastmnist beside its kernels and Python", ["what", "", "unit"])
    inside, large = report["inside"], report["large"]
    calls, kernels = inside["public"], inside["kernels"]
    for what, value, unit in (
        ("a process: start, file, one image, end", f"{report['process_ms']:.2f}", "ms"),
        ("a process that does nothing", f"{report['nothing_ms']:.2f}", "ms"),
        ("opening the file to the first answer", f"{inside['first_answer'] / 1e6:.2f}", "ms"),
        ("fastmnist_predict_u8, one row", f"{calls / 1e3:.3f}", "µs"),
        ("run_network, one row: the kernels", f"{kernels / 1e3:.3f}", "µs"),
        ("the public function costs", f"{(calls - kernels) / 1e3:+.3f}", "µs"),
        ("Python's net(x, out=y), one row", f"{report['python_ns'] / 1e3:.3f}", "µs"),
        (f"opening a file of {large['file_mb']:.0f} MB", f"{large['open_ms']:.2f}", "ms"),
        ("what that holds in memory", f"{large['open_holds_mb']:.2f}", "MB"),
        ("reading and verifying its int8 model", f"{large['read_int8_ms']:.1f}", "ms"),
    ):
        made.row(what, value, unit)
    made.note(f"784-96-256-10 trained on {report['data']}, int8, plan by rule, {inside['isa']}")
    return made


def main() -> int:
    benchmark = Benchmark("library", __doc__, "library")
    benchmark.parser.add_argument("--data", default="auto")
    return benchmark.main(run, lambda report: [table(report)])


if __name__ == "__main__":
    sys.exit(main())
