"""Copy the tables of benchmarks/results/ into the README, or check that they are there.

    python -m benchmarks.update_readme [--check]

No figure in the README is typed by hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from benchmarks.digits import table as digits_table
from fastmnist.report import Report, Row

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def compare_table() -> str:
    saved = json.loads((RESULTS / "compare.json").read_text())
    about = saved["about"]
    report = Report([Row(**row) for row in saved["rows"]], about)
    where = f"{about['cpu']}, torch {about['torch']}, Python {about['python']}"
    return f"{report.to_markdown()}\n`fastmnist compare --data mnist --threads 1` on {where}."


def benchmark_table() -> str:
    saved = json.loads((RESULTS / "digits.json").read_text())
    where = f"{saved['cpu']}, torch {saved['torch']}, Python {saved['python']}"
    command = "python -m benchmarks.digits --data mnist --threads 1"
    return f"{digits_table(saved).to_markdown()}\n`{command}` on {where}."


def main() -> int:
    path = ROOT / "README.md"
    before = path.read_text()
    text = before
    for mark, made in (("compare-table", compare_table()), ("benchmark-table", benchmark_table())):
        block = f"<!-- {mark} -->\n{made}\n<!-- /{mark} -->"
        pattern = f"<!-- {mark} -->.*?<!-- /{mark} -->"
        text = re.sub(pattern, lambda _, block=block: block, text, flags=re.DOTALL)
    if "--check" in sys.argv[1:]:
        if text != before:
            print("README.md is out of date: run  python -m benchmarks.update_readme")
            return 1
        return 0
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
