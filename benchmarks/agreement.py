"""One model in all its forms on the same test rows: where they differ.

    python -m benchmarks.agreement [--program fastmnist-run] [--data mnist] [--save]

The digits network, original and int8: the module, compiled, the C++ library, ``fastmnist-run``
(named by ``--program``, or found on the PATH), and exported to ONNX in the runtimes that there are.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import fastmnist as fm
from benchmarks.command import Benchmark
from benchmarks.workloads import digits_model
from fastmnist.comparison.agreement import (
    Agreement,
    agreement_table,
    agreements,
    of_library,
    of_onnx,
    of_program,
    of_python,
)
from fastmnist.display.tables import Table


def run(options: argparse.Namespace) -> dict[str, Any]:
    data = fm.load_dataset(options.data)
    model = digits_model(data).eval()
    models = {"original": model, "int8": fm.quantize(model, fm.Static(data.train))}
    images = data.test.images.numpy()
    floats = data.test.pixels.to_float(images)
    program = options.program or shutil.which("fastmnist-run")
    if program is None:
        raise ValueError("program: expected fastmnist-run, got none: see docs/fastmnist-run.md")
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "digits.safetensors"
        fm.save(path, models)
        for name, one in models.items():
            exported = fm.export_onnx(one, Path(path.parent, f"{name}.onnx"))
            forms = [
                of_python("module", one),
                of_python("compiled", fm.compile(one)),
                of_python("loaded from the file", fm.load(path)[name]),
                of_library("libfastmnist", path, name),
                of_program("fastmnist-run", program, path, name),
                *of_onnx(exported),
            ]
            found, rows = agreements(forms, images, floats)
            told[name] = [one.to_json() for one in found]
    return {"models": told, "rows": rows, "data": data.name}


def tables(report: dict[str, Any]) -> list[Table]:
    """Lay a report out: a table a model."""
    return [
        agreement_table(
            f"{name}, {report['data']}", [Agreement(**one) for one in found], report["rows"]
        )
        for name, found in report["models"].items()
    ]


def main() -> int:
    benchmark = Benchmark("agreement", __doc__, "agreement")
    benchmark.parser.add_argument("--data", default="auto")
    benchmark.parser.add_argument("--program", metavar="FILE", help="fastmnist-run")
    return benchmark.main(run, tables)


if __name__ == "__main__":
    sys.exit(main())
