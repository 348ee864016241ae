"""An empty place for what the planner measures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmnist.runtime.measurements import SHARED


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Plans are measured, and remembered in an empty place; gives the file's path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("FASTMNIST_PLAN", "measured")
    SHARED.forget()
    yield tmp_path / "fastmnist" / "measurements.txt"
    SHARED.forget()
