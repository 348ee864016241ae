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
    spec = importlib.util.spec_from_file_location("golden_nets", FORMAT1 / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    nets = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = nets
    spec.loader.exec_module(nets)
    return nets.CLASSES


CLASSES = classes()


KINDS = sorted(
    path.name.removesuffix(".rows.safetensors")
    for folder in (FORMAT1, FORMAT2)
    for path in folder.glob("*.rows.safetensors")
    if not path.name.startswith("several")
)
# Of versions before files told of models that are no chains of layers; and what torch alone knows.
ONLY_TORCH = [
    kind for kind in KINDS if kind in CLASSES or kind.startswith(("half", "recurrent", "module"))
]
RUNS = [kind for kind in KINDS if kind not in ONLY_TORCH]


def folder_of(kind: str) -> Path:
    """Where the golden file of this kind is."""
    return FORMAT1 if (FORMAT1 / f"{kind}.safetensors").is_file() else FORMAT2


def load(kind: str, path: Path | None = None) -> Any:
    """Load a golden file of this kind, or what was made of it."""
    into = CLASSES[kind]().eval() if kind in CLASSES else None
    return fm.load(folder_of(kind) / f"{kind}.safetensors" if path is None else path, into=into)
