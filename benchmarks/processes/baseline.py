"""Another commit of fastmnist, built to be measured beside this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.masking.processes import TOLD
from benchmarks.processes.workers import ROOT

BUILD = ROOT / "build" / "baselines"
_MASK = ("LD_PRELOAD", "FASTMNIST_MASK_CPUID", "GLIBC_TUNABLES", TOLD)


def full_hash(commit: str) -> str:
    """Return a commit's whole hash."""
    return _run(["git", "rev-parse", "--verify", f"{commit}^{{commit}}"]).strip()


def build(commit: str) -> list[Path]:
    """Build a commit, once; return the folders that go first in its PYTHONPATH.

    Needs git, a compiler and what the build asks for (the extra ``dev``). Nothing of this
    environment is changed: the wheel is unpacked into a folder below ``build/``.
    """
    folder = BUILD / full_hash(commit)[:12]
    source, installed, done = folder / "source", folder / "installed", folder / "built"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        source.mkdir(parents=True)
        archive = folder / "source.tar"
        _run(["git", "archive", "--output", str(archive), commit])
        shutil.unpack_archive(archive, source)
        archive.unlink()
        pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
        _run([*pip, "--target", str(installed), str(source)])
        done.touch()
    return [installed, source]


def _run(command: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in _MASK}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        said = "\n".join((ran.stdout + ran.stderr).strip().splitlines()[-8:])
        raise RuntimeError(f"{' '.join(command)}: failed with {ran.returncode}\n{said}")
    return ran.stdout
