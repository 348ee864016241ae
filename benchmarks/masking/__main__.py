"""Run any command as on a CPU of a smaller instruction set.

python -m benchmarks.masking avx2 python -m pytest benchmarks/test_kernels.py -k linear
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.masking.processes import masked_command
from fastmnist import _core


def main() -> int:
    isas = [rung["isa"] for rung in _core.cpu_info()["ladder"]]
    if len(sys.argv) < 3 or sys.argv[1] not in isas:
        print(f"expected one of {', '.join(isas)}, then a command", file=sys.stderr)
        return 2
    try:
        command, environment = masked_command(sys.argv[1], sys.argv[2:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return subprocess.call(command, env=environment)


if __name__ == "__main__":
    sys.exit(main())
