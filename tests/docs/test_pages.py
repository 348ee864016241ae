"""Pages: links lead somewhere, every public name has its place, the front door is short."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from documents import README, ROOT, examples, pages

import fastmnist as fm

FILES = [README, *(ROOT / name for name in ("CONTRIBUTING.md", "csrc/README.md")), *pages()]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(path: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(path):
    for link in LINK.findall(path.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_a_front_door():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert next(i for i, line in enumerate(lines) if line == "```python") < 15


def test_every_public_name_has_one_place_in_the_api():
    text = "\n".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    names = Counter(re.findall(r"auto(?:class|function|exception):: (\w+)", text))
    names.subtract(["load", "DigitPad", "centred"])  # of fastmnist.runtime, .notebook, .data
    assert names == Counter({*fm.__all__} - {"__version__"})


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for path in pages():
        for block in re.findall(r"```\{toctree\}\n(.*?)```", path.read_text(), re.DOTALL):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    listed.add((path.parent / f"{line}.md").resolve())
    assert not {*pages()} - listed - {ROOT / "docs" / "index.md"}


def test_nothing_that_sphinx_copies_is_committed():
    if not (ROOT / ".git").exists():
        pytest.skip("not in a repository")
    command = ["git", "ls-files", "docs/notebooks", "docs/project"]
    assert not subprocess.check_output(command, cwd=ROOT, text=True)


# What a fence may say: others would be run by nobody, and no reader is told.
FENCES = {"python", "bash", "text", "cpp", "cmake", "c", "{toctree}", "{eval-rst}"}


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_example_is_one_that_is_run(path):
    text = path.read_text()
    opened = [line.strip() for line in text.splitlines() if line.strip().startswith(("```", "~~~"))]
    assert {line for line in opened[::2] if line[3:] not in FENCES} == set()
    assert {*opened[1::2]} <= {"```"}
    assert not re.search(r"^[ \t]+(```|~~~)", text, re.MULTILINE), "within a list it is not found"
    for example in examples(text):
        if example.language == "bash":
            lines = [line for line in example.text.splitlines() if line and line[0] != "#"]
            assert all(line.startswith("fastmnist ") for line in lines), example.text
