"""Run the README's first lines as they stand, and keep what they print.

    python -m benchmarks.first_lines [--save]

As in a terminal of 96 columns, which is what the README shows.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.command import Benchmark

README = Path(__file__).resolve().parent.parent / "README.md"
COLUMNS = 96
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def lines() -> str:
    """Return the code between the README's marks."""
    found = re.search(r"<!-- first-lines -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found, "README.md: expected a block of Python behind <!-- first-lines -->, got none"
    return found[1]


def main() -> int:
    """Run it from a command line."""
    return Benchmark("first_lines", __doc__, "first_lines").main(run, lambda report: [])


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Run them in a terminal of their own: bars are drawn there, and wiped."""
    printed = bytearray()

    def read(terminal: int) -> bytes:
        got = os.read(terminal, 65536)
        printed.extend(got)
        return got

    code = (
        f"import torch; torch.set_num_threads({options.threads}); torch.manual_seed(0)\n{lines()}"
    )
    os.environ |= {"COLUMNS": str(COLUMNS), "FASTMNIST_NUM_THREADS": str(options.threads)}
    status = pty.spawn([sys.executable, "-c", code], read)
    if status:
        raise SystemExit(f"the first lines ended with {status}")
    return {"output": shown(printed.decode())}


def shown(printed: str) -> list[str]:
    """Return the lines of what was printed from the table on, without bars and colours."""
    plain = [_ESCAPES.sub("", line).rstrip("\r") for line in printed.split("\n")]
    plain = [line.split("\r")[-1].rstrip() for line in plain]
    start = max(i for i, line in enumerate(plain) if ", n = " in line)
    return "\n".join(plain[start:]).strip("\n").split("\n")


if __name__ == "__main__":
    sys.exit(main())
