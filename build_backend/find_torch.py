"""Find the torch to build against. Run by CMake; its check is also the build backend's.

The environment that is installed into comes first: the extension must match the torch it will be
loaded beside. An isolated build's own torch is on `sys.path`.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

MINIMUM = (2, 10)
ADVICE = "pip install torch==2.13.0"


def find(folders: Iterable[str]) -> Path | None:
    """Return torch's folder in the first of `folders` that has one, or None.

    Exits with one sentence if that torch is too old.
    """
    for folder in folders:
        version_file = Path(folder, "torch", "version.py")
        if not version_file.is_file():
            continue
        found = re.search(r"__version__ = '(\d+)\.(\d+)", version_file.read_text())
        if found and (int(found[1]), int(found[2])) < MINIMUM:
            sys.exit(
                f"fastmnist needs torch >= {MINIMUM[0]}.{MINIMUM[1]}, but {found[1]}.{found[2]} is "
                f"installed: upgrade it first with  {ADVICE}"
            )
        return version_file.parent
    return None


def target_folder() -> str:
    """Where packages of the environment that is installed into lie."""
    return sysconfig.get_path("platlib")


if __name__ == "__main__":
    torch = find([target_folder(), *sys.path])
    if torch is None:
        sys.exit(f"fastmnist needs torch to build: install it first with  {ADVICE}")
    print(torch)
