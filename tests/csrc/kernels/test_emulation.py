"""Kernels are emulated on processors that lack their instructions: no instruction goes unchecked.

`tests/native/test_instructions.cpp` holds samples of each against what processors make of them.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
X86 = ROOT / "csrc" / "kernels" / "x86"
NATIVE = ROOT / "tests" / "native"
INTRINSIC = re.compile(r"\b_(?:mm\d*|cvtu64|k\w+)_\w+")
# Moves, constants and other names for the same bits: there is nothing to get wrong.
PLAIN = re.compile(
    r"_mm\d*_(load[ul]?_|loadl_|loadu_|store[ul]?_|set1_|setr?_|setzero_|cast|undefined_|prefetch)"
)


def used_in(folder: Path) -> set[str]:
    text = "\n".join(path.read_text() for path in sorted(folder.rglob("*.[hc]*")))
    return set(INTRINSIC.findall(re.sub(r"//.*", "", text)))


def test_every_intrinsic_has_a_sample() -> None:
    sampled = set()
    for path in NATIVE.glob("samples_*.cpp"):
        sampled |= set(INTRINSIC.findall(path.read_text()))
    used = {name for name in used_in(X86) if not PLAIN.match(name)}
    assert len(used) > 40  # or the pattern finds nothing
    assert used - sampled == set(), "give it a sample in tests/native/samples_*.cpp"


def test_every_sample_has_a_digest() -> None:
    digests = (NATIVE / "instruction_digests.h").read_text()
    for path in NATIVE.glob("samples_*.cpp"):
        for name in INTRINSIC.findall(path.read_text()):
            if not PLAIN.match(name) and not name.startswith("_cvtu64"):
                assert f'"{name}"' in digests, name


def test_intrinsics_come_from_one_header() -> None:
    for path in (ROOT / "csrc").rglob("*.[hc]*"):
        if path.name != "intrinsics.h":
            assert "immintrin.h>" not in path.read_text(), f"{path}: include intrinsics.h"
    for path in X86.glob("*"):
        text = path.read_text()
        if "__asm__" in text:
            assert "FASTMNIST_EMULATED" in text, f"{path}: assembly needs a twin that is emulated"
