"""The program fastmnist-run, compiled against the library that is installed."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import fastmnist

REPO = Path(__file__).resolve().parents[2]
LIBRARY = Path(fastmnist.__file__).parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def _has_zlib(compiler: str) -> bool:
    # Quoted, so that a header is what is asked for, and not a library of that name.
    asked = subprocess.run(
        [compiler, "-E", "-x", "c++", "-"],
        input="#include <zlib.h>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.returncode == 0


def _build(compiler: str, program: Path) -> None:
    sources = sorted((REPO / "csrc" / "run").rglob("*.cpp"))
    zlib = ["-DFASTMNIST_ZLIB"] if _has_zlib(compiler) else []
    command: list[str | Path] = [
        compiler, "-std=c++20", "-O0", "-fno-exceptions", *zlib,
        "-I", REPO / "csrc", "-I", REPO / "include", *sources,
        "-L", LIBRARY, "-lfastmnist", f"-Wl,-rpath,{LIBRARY}", *(["-lz"] if zlib else []),
        "-o", program,
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=600)


@pytest.fixture(scope="session")
def compiler() -> str:
    """Give the C++ compiler; skip the test where there is none."""
    found = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if found is None:
        pytest.skip("no C++ compiler")
    return found


@pytest.fixture(scope="session")
def zlib(compiler: str) -> bool:
    """Whether the program reads .gz and PNG."""
    return _has_zlib(compiler)


@pytest.fixture(scope="session")
def program(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the program, built once for all of pytest-xdist's processes; some ten seconds.

    FASTMNIST_RUN names another one, built with sanitizers, say.
    """
    if "FASTMNIST_RUN" in os.environ:
        return Path(os.environ["FASTMNIST_RUN"]).resolve()
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    program = folder / "fastmnist-run"
    with open(folder / "fastmnist-run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            unfinished = program.with_suffix(".part")
            _build(compiler, unfinished)
            unfinished.rename(program)
    return program


@pytest.fixture
def run(program: Path, tmp_path: Path) -> Run:
    """Run the program, in a folder of its own."""

    def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
