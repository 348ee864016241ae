"""Every example of the documentation runs as printed; on the digits set, which needs no network.

A page's blocks run one after the other, as a reader would, after the first lines of the quick
start, in an empty folder where ``net.py`` and ``net.pt`` lie as people have them.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from documents import README, ROOT, examples, pages

import fastmnist as fm
from fastmnist.cli import main

QUICK_START = ROOT / "docs" / "quickstart.md"
NET = """
import torch
import fastmnist as fm


class Net(fm.NeuralNetwork):
    pass


def data():
    digits = fm.load_dataset("digits")
    return digits.train, digits.test
"""
PAGES = [page for page in pages() if examples(page.read_text())]


def run(code: str, names: dict[str, Any], path: Path, line: int) -> None:
    """Run a block so that an error names the page and its line."""
    code = code.replace('load_dataset("auto")', 'load_dataset("digits")')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile("\n" * (line - 1) + code, str(path), "exec"), names)


@pytest.fixture(scope="module")
def first_lines() -> dict[str, Any]:
    """Give what the quick start's lines up to its own loader make."""
    names: dict[str, Any] = {}
    for example in examples(QUICK_START.read_text())[:2]:
        run(example.text, names, QUICK_START, example.line)
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch, first_lines) -> Path:
    """Work in an empty folder with a network and its weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "net.py").write_text(NET)
    torch.save(first_lines["model"].state_dict(), tmp_path / "net.pt")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_the_examples_of_a_page_run(page, folder, first_lines, capsys):
    names = {**first_lines, "model": copy.deepcopy(first_lines["model"])}
    for example in examples(page.read_text()):
        if example.language == "python":
            run(example.text, names, page, example.line)
        for command in example.commands() if example.language == "bash" else []:
            assert main(command) == 0, (command, capsys.readouterr().err)


def test_most_pages_have_examples():
    assert len(PAGES) > 15


@pytest.mark.slow
def test_the_readmes_lines_run(folder, capsys):
    lines = next(e for e in examples(README.read_text()) if e.language == "python")
    run(lines.text, {}, README, lines.line)
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("original", "int8", "compiled", "accuracy"))


def test_the_readmes_commands_are_there(folder):
    """The two commands are CI's; what ``fastmnist`` is called with there must be understood."""
    text = README.read_text()
    commands = [e.text for e in examples(text) if e.language == "bash"]
    assert any("fastmnist compare" in command for command in commands)
    assert any("pytest" in command for command in commands)
    assert "<!-- main-command -->\n```bash" in text
    assert "<!-- test-command -->\n```bash" in text
    assert fm.__version__
