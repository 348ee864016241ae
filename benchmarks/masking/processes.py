"""What a child process needs so that everybody in it believes in a smaller instruction set.

Best by CPUID itself (``mask_cpuid.c``, compiled when first needed): NumPy, torch, MKL, oneDNN,
ONNX Runtime, OpenVINO and fastmnist all ask it. Where the system cannot do that, by environment
variables, which not everybody knows; the report says which of the two it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import fastmnist as fm

SOURCE = Path(__file__).with_name("mask_cpuid.c")
BUILD = Path(__file__).resolve().parents[2] / "build" / "masking"
BY_CPUID = ("avx2", "avx512_vnni")  # what mask_cpuid.c can answer as
# How a child learns what its parent did; read by benchmarks/machine.py.
TOLD = "FASTMNIST_BENCHMARK_MASK"
# The C library's own memcpy is chosen before anything is preloaded.
TUNABLES = {"avx2": "glibc.cpu.hwcaps=-AVX512F,-AVX512BW,-AVX512CD,-AVX512DQ,-AVX512VL"}
VARIABLES = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    }
}


def native_isa() -> str:
    """Return the best set that fastmnist has for this CPU, were it not capped."""
    ladder = fm.cpu_info()["ladder"]
    able = (r["isa"] for r in ladder if not r["why_not"] or r["why_not"].startswith("capped"))
    return str(next(able))


@cache
def refusal() -> str:
    """Say why CPUID cannot be masked here, or nothing if it can."""
    try:
        library = _library()
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        return f"mask_cpuid.c cannot be compiled here: {detail.strip().splitlines()[-1]}"
    tried = subprocess.run(
        [sys.executable, "-c", ""],
        env=os.environ | _preload(library, "avx2"),
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode == 0 and not tried.stderr:
        return ""
    lines = tried.stderr.strip().splitlines() or [f"a process under it ends by {tried.returncode}"]
    return lines[-1]


def masked_environment(isa: str) -> dict[str, str]:
    """Return the variables to set for a process that is to take `isa` at best.

    Raises
    ------
    ValueError
        If `isa` is more than this CPU has.
    """
    names = [rung["isa"] for rung in fm.cpu_info()["ladder"]]
    native = native_isa()
    if names.index(isa) < names.index(native):
        raise ValueError(f"--isa: expected {native} or less, which this CPU has, got {isa}")
    if isa == native:
        return {}
    why_not = refusal() if isa in BY_CPUID else f"it cannot answer as {isa}"
    if not why_not:
        made = _preload(_library(), isa)
        if isa in TUNABLES:
            made["GLIBC_TUNABLES"] = TUNABLES[isa]
        by = "CPUID, answered for all libraries alike"
    else:
        made = {"FASTMNIST_ISA": isa, **VARIABLES.get(isa, {})}
        known = " ".join(f"{name}={value}" for name, value in made.items())
        by = f"{known}, which the other libraries do not heed (CPUID is not masked: {why_not})"
    return made | {TOLD: json.dumps({"as": isa, "by": by, "native": native})}


def masked_command(isa: str, command: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return a command and the whole environment in which it takes `isa` at best."""
    return command, os.environ | masked_environment(isa)


def told() -> dict[str, Any]:
    """Return what the parent process masked here: ``as``, ``by``, ``native``; or nothing."""
    found: dict[str, Any] = json.loads(os.environ.get(TOLD, "{}"))
    return found


def call_masked(isa: str | None, module: str, arguments: list[str]) -> int | None:
    """Run ``python -m module`` again under `isa`; None where this process is to go on itself."""
    if isa is None or TOLD in os.environ or isa == native_isa():
        return None
    command, environment = masked_command(isa, [sys.executable, "-m", module, *arguments])
    return subprocess.call(command, env=environment)


def _preload(library: Path, isa: str) -> dict[str, str]:
    others = os.environ.get("LD_PRELOAD", "")
    return {
        "LD_PRELOAD": f"{library} {others}".strip(),
        "FASTMNIST_MASK_CPUID": isa,
    }


def _library() -> Path:
    """Compile the library, once per version of its source."""
    if not sys.platform.startswith("linux"):
        raise OSError(f"expected Linux, got {sys.platform}")
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = BUILD / f"mask_cpuid-{digest}.so"
    if not made.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        fresh = made.with_suffix(f".{os.getpid()}")
        flags = ["-O2", "-shared", "-fPIC", "-Wl,-z,initfirst"]
        command = [os.environ.get("CC", "cc"), *flags, str(SOURCE), "-o", str(fresh), "-ldl"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        fresh.replace(made)  # two benchmarks at once must not read half a file
    return made
