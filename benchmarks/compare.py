"""``fastmnist compare``, kept with the other results of this machine.

    python -m benchmarks.compare [--threads 1] [--quick] [--isa avx2] [--save]

The very command on MNIST; what is added is where it ran.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import Benchmark
from fastmnist.cli import main as fastmnist
from fastmnist.comparison.report import Report


def main() -> int:
    benchmark = Benchmark("compare", __doc__, "compare")
    benchmark.parser.add_argument("--data", default="mnist", choices=("mnist", "digits"))
    return benchmark.main(run, lambda report: [])  # the command has printed it


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Call the command, and read what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "compare.json")
        command = ["compare", "--data", options.data, "--threads", str(options.threads)]
        command += ["--quick"] if options.quick else []
        code = fastmnist([*command, "--json", str(path)])
        if code:
            raise SystemExit(code)
        saved: dict[str, Any] = json.loads(path.read_text())
    for row in saved["rows"]:
        row["flips"] = []  # images are for pages, not for a folder of figures
    return saved


def report_of(saved: dict[str, Any]) -> Report:
    """Make the report again from what its file holds."""
    return Report.from_json(json.dumps(saved))


if __name__ == "__main__":
    sys.exit(main())
