"""On which machine a benchmark runs, and the folder that keeps what was measured there.

Every machine has a folder of its own in ``benchmarks/results/``: the CPU's model and the best
instruction set of ours that it has (a virtual machine's model alone tells little), and what it was
capped to, if it was. A run never writes into another's. What no machine changes lies beside them,
in the folders of ``ANYWHERE``.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import fastmnist as fm
from benchmarks.masking.processes import native_isa, told

RESULTS = Path(__file__).resolve().parent / "results"
ANYWHERE = frozenset({"compression"})
_SHORT = {"amx_int8": "amx", "avx512_vnni": "avx512-vnni"}
_NOISE = re.compile(r"\((r|tm|c)\)|\b(processor|cpu|\d+-core)\b|@.*|[®™]", re.IGNORECASE)


def machine() -> dict[str, Any]:
    """Return what a report says of where it was measured.

    Returns
    -------
    dict
        ``cpu``, the model; ``isa``, the set that fastmnist took; ``native``, the one that it would
        take uncapped; ``capped``, empty or ``as`` which set and ``by`` what.
    """
    info, mask = fm.cpu_info(), told()
    by_hand = os.environ.get("FASTMNIST_ISA")
    capped: dict[str, str] = {}
    if mask:
        capped = {"as": mask["as"], "by": mask["by"]}
    elif by_hand and info["isa"] != native_isa():
        capped = {"as": info["isa"], "by": f"FASTMNIST_ISA={by_hand}, which only fastmnist heeds"}
    return {
        "cpu": info["model"],
        "isa": info["isa"],
        "native": mask.get("native") or native_isa(),
        "capped": capped,
    }


def slug(about: dict[str, Any]) -> str:
    """Name the folder of a report's machine: ``intel-xeon-amx``, ``intel-xeon-amx-as-avx2``."""
    model = _words(_NOISE.sub(" ", about["cpu"])) or "unknown"
    name = f"{model}-{_isa(about.get('native', about['isa']))}"
    capped = about.get("capped")
    return f"{name}-as-{_isa(capped['as'])}" if capped else name


def title(about: dict[str, Any]) -> str:
    """Name a report's machine for people."""
    capped = about.get("capped")
    what = f"{about['cpu']}, {about.get('native', about['isa'])}"
    return f"{what}, run as a CPU with {capped['as']} at best" if capped else what


def short_title(about: dict[str, Any]) -> str:
    """Name it within a column's head: ``Intel Xeon (AMX)``, ``Intel Xeon as AVX2``."""
    model = " ".join(_NOISE.sub(" ", about["cpu"]).split()) or "unknown"
    capped = about.get("capped")
    isa = _isa(capped["as"] if capped else about.get("native", about["isa"])).upper()
    return f"{model} as {isa}" if capped else f"{model} ({isa})"


def save(report: dict[str, Any], name: str, results: Path = RESULTS) -> Path:
    """Write a report into the folder of its machine."""
    folder = results / slug(report["about"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write(report, path)
    return path


def write(report: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(report, indent=2) + "\n")


def folders(results: Path = RESULTS) -> list[Path]:
    """List the machines' folders: whole machines first, capped ones after them."""
    inside = (path for path in results.iterdir() if path.name not in ANYWHERE)
    found = [path for path in inside if any(path.glob("*.json"))]
    return sorted(found, key=lambda path: ("-as-" in path.name, path.name))


def _isa(name: str) -> str:
    return _SHORT.get(name, name.replace("_", "-"))


def _words(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))
