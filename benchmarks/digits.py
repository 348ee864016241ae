"""784-96-256-10 against NumPy, torch, torch.ao and ONNX Runtime, in one process.

    python -m benchmarks.digits [--data mnist|digits|auto] [--threads 1] [--json FILE]

Needs the extra ``peers``; a peer that is not installed is left out and named. Every case's answers
are checked against the float network before it is timed; times are medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fastmnist as fm
from benchmarks.networks import Case, numpy_float32, onnx_runtime, ours, torch_ao, torch_float32
from fastmnist.tables import Table
from fastmnist.timing import time_interleaved

BATCHES = (1, 32, 1024)
# Classes that an int8 variant may decide otherwise than the float network.
MAX_DISAGREEMENT = 0.02


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="auto", choices=("auto", "mnist", "digits"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    fm.set_num_threads(options.threads)
    data = fm.load_dataset(options.data)
    torch.manual_seed(0)
    model = fm.NeuralNetwork()
    fm.train(model, data, epochs=2)
    model.eval()

    cases, missing = make_cases(model, data, options.threads)
    pixels = data.test.images.reshape(-1, 784).numpy()
    check(cases, model, pixels[:512])
    batches = [batch for batch in BATCHES if batch <= len(pixels)]
    results = {batch: measure(cases, pixels, batch, options.rounds) for batch in batches}
    report = {
        "network": "784-96-256-10",
        "data": data.name,
        "threads": options.threads,
        "cpu": fm.cpu_info()["model"],
        "isa": fm.cpu_info()["isa"],
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "missing": missing,
        "microseconds": {
            case.name: {str(batch): results[batch][i].p50 * 1e6 for batch in batches}
            for i, case in enumerate(cases)
        },
        # Median over rounds of the ratio within a round: how many times faster ours is.
        "slower_than_ours": {
            case.name: {str(batch): 1 / results[batch][i].ratio for batch in batches}
            for i, case in enumerate(cases)
        },
    }
    print(table(report))
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0


def make_cases(model: Any, data: Any, threads: int) -> tuple[list[Case], list[str]]:
    calibration = data.train.subset(512)
    rows = calibration.images.reshape(-1, 784).float() / 255
    cases = [*ours(model, calibration), numpy_float32(model), torch_float32(model)]
    missing = []
    for name, make in (
        ("torch.ao", lambda: torch_ao(model, rows)),
        ("ONNX Runtime", lambda: onnx_runtime(model, rows.numpy(), threads)),
    ):
        try:
            cases += make()
        except (ImportError, AttributeError) as error:
            missing.append(f"{name} ({error})")
    return cases, missing


def check(cases: list[Case], model: Any, pixels: np.ndarray) -> None:
    """Every case must decide as the float network does, but for a few rows."""
    with torch.inference_mode():
        expected = model(torch.from_numpy(pixels).float() / 255).argmax(1).numpy()
        for case in cases:
            got = np.asarray(case.run(case.rows(pixels))).argmax(1)
            disagreement = float((got != expected).mean())
            if disagreement > MAX_DISAGREEMENT:
                raise SystemExit(f"{case.name}: {disagreement:.1%} of its answers are wrong")


def measure(cases: list[Case], pixels: np.ndarray, batch: int, rounds: int) -> list[Any]:
    starts = np.linspace(0, len(pixels) - batch, 8 if batch < 100 else 2).astype(int)

    def calls(case: Case) -> list[Any]:
        rows = [case.rows(np.ascontiguousarray(pixels[s : s + batch])) for s in starts]
        return [lambda x=x: case.run(x) for x in rows]

    with torch.inference_mode():
        return time_interleaved(
            [calls(case) for case in cases],
            rounds=rounds,
            calls_per_round=64 if batch == 1 else 16 if batch < 100 else 4,
            what=f"batch {batch:,}",
        )


def table(report: dict[str, Any]) -> Table:
    """µs per call, and in brackets how many times slower than our uint8 call."""
    batches = [*next(iter(report["microseconds"].values()))]
    result = Table(
        f"{report['network']}, {report['data']}, {report['threads']} thread(s), {report['isa']}: "
        "µs per call (times slower than the first row)",
        ["", *(f"batch {int(batch):,}" for batch in batches)],
    )
    for name, times in report["microseconds"].items():
        ratios = report["slower_than_ours"][name]
        result.row(
            name,
            *(f"{times[b]:.1f} ({ratios[b]:.1f} ×)" for b in batches),
        )
    if report["missing"]:
        result.note("not installed: " + ", ".join(report["missing"]))
    return result


if __name__ == "__main__":
    sys.exit(main())
