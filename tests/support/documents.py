"""The Markdown that people read, and the examples in it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: .+ -->\n$")


@dataclass(frozen=True)
class Example:
    """A fenced block: its language, its text, the line where it begins."""

    language: str
    text: str
    line: int

    def commands(self) -> list[list[str]]:
        """Split a block of shell into the arguments of each command of ours."""
        lines = (shlex.split(line, comments=True) for line in self.text.splitlines())
        return [words[1:] for words in lines if words and words[0] == "fastmnist"]


def pages() -> list[Path]:
    """List the pages of docs/, but for copies that Sphinx lays there."""
    copies = {ROOT / "docs" / "project", ROOT / "docs" / "notebooks"}
    return sorted(p for p in (ROOT / "docs").rglob("*.md") if not copies & {*p.parents})


def examples(text: str) -> list[Example]:
    """Find the blocks that readers may run: Python, and shell; others say that they are not."""
    return [
        Example(match[1], match[2], text[: match.start()].count("\n") + 2)
        for match in _FENCE.finditer(text)
        if match[1] in ("python", "bash") and not _NOT_RUN.search(text[: match.start()])
    ]
