"""The golden files, and the classes that they are loaded into."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import fastmnist as fm

FORMAT1 = Path(__file__).resolve().parents[1] / "golden" / "format1"
FORMAT2 = FORMAT1.parent / "format2"


def classes() -> dict[str, Any]:
    """What the files of models that are no chain are loaded into."""
    found: dict[str, Any] = {}
    for folder in (FORMAT1, FORMAT2):
        name = f"golden_nets_{folder.name}"
        spec = importlib.util.spec_from_file_location(name, folder / "nets.py")
        assert spec is not None
        assert spec.loader is not None
        nets = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = nets
        spec.loader.exec_module(nets)
        found |= nets.CLASSES
    return found


CLASSES = classes()


KINDS = sorted(
    path.name.removesuffix(".rows.safetensors")
    for folder in (FORMAT1, FORMAT2)
    for path in folder.glob("*.rows.safetensors")
    if not path.name.startswith("several")
)
# Of versions before files told of models that are no chains of layers; and what torch alone knows.
ONLY_TORCH = [
    kind
    for kind in KINDS
    if "program" not in kind
    and (kind in CLASSES or kind.startswith(("half", "recurrent", "module")))
]
RUNS = [kind for kind in KINDS if kind not in ONLY_TORCH]

# What runs in float, and how far it may be from what another CPU gave, relative to the largest.
FLOAT = {
    "chain-float": 1e-6, "chain-fused": 1e-6, "chain-fused-table": 1e-6, "chain-partly": 1e-6,
    "module-float": 1e-6, "module-partly": 1e-6, "pruned-float": 1e-6, "root-float": 1e-6,
    "structured": 1e-6, "structured-module": 1e-6, "half-bfloat16": 2e-2, "half-float16": 2e-3,
    "chain-low-rank-float": 1e-6, "module-low-rank-float": 1e-6, "pruned-low-rank-float": 1e-6,
    "root-low-rank-float": 1e-6, "half-recurrent": 2e-2, "recurrent-gru": 1e-6,
    "recurrent-lstm": 1e-6, "compressed-float": 1e-6, "clustered-float": 1e-6,
    "compressed-clustered": 1e-6, "checked-float": 1e-6, "program-float": 1e-6,
    "program-static": 1e-2, "compressed-program": 1e-2,
}  # fmt: skip


def folder_of(kind: str) -> Path:
    """Where the golden file of this kind is."""
    return FORMAT1 if (FORMAT1 / f"{kind}.safetensors").is_file() else FORMAT2


def load(kind: str, path: Path | None = None) -> Any:
    """Load a golden file of this kind, or what was made of it."""
    into = CLASSES[kind]().eval() if kind in CLASSES else None
    return fm.load(folder_of(kind) / f"{kind}.safetensors" if path is None else path, into=into)
