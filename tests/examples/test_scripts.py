"""The scripts of examples/ run as their README says, and without marked lines are PyTorch."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SEARCH_PATH = os.pathsep.join(os.path.abspath(path) for path in sys.path)
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def run(line: str, folder: Path) -> str:
    """Run a line of the README in a folder of its own; return what it printed."""
    words = [sys.executable, *shlex.split(line)[1:]]
    words = [str(EXAMPLES.parent / word) if word.endswith(".py") else word for word in words]
    environment = os.environ | {"PYTHONPATH": SEARCH_PATH}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_lines_of_the_readme_run(tmp_path):
    block = re.search(r"```bash\n(.*?)```", (EXAMPLES / "README.md").read_text(), re.DOTALL)
    printed = [run(line, tmp_path) for line in block[1].strip().splitlines()]
    assert "saved to digits.safetensors" in printed[0]
    assert "original: 9" in printed[1]
    assert "optimized, from pixels:" in printed[2]
    assert "compiled: F1 0.9" in printed[3]


@pytest.mark.slow
def test_four_bits_are_trained(tmp_path):
    printed = run("python examples/train.py --data digits --epochs 5 --qat", tmp_path)
    right = float(re.search(r"optimized: ([\d.]+)%", printed)[1])
    assert right > 85
    assert (tmp_path / "digits.safetensors").exists()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_without_the_marked_lines_nothing_of_ours_is_left(path):
    lines = path.read_text().splitlines()
    plain = "\n".join("" if re.search(r"# \+", line) else line for line in lines)
    assert not re.search(r"^import fastmnist|\bfm\.", plain, re.MULTILINE)
