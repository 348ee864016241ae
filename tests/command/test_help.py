"""What ``--help`` says at 80 columns and fewer, its examples, and what Tab completes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from fastmnist.cli import main
from fastmnist.command.parser import _EXAMPLES, parser

SEARCH_PATH = os.pathsep.join(os.path.abspath(path) for path in sys.path)
COMMANDS = [name for name in _EXAMPLES if name]


def help_of(command: str, capsys) -> list[str]:
    """Give the lines that a command's help prints."""
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("columns", [80, 64])
def test_help_keeps_to_the_terminal(command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = help_of(command, capsys)
    begin = lines.index("examples:")
    # Lines to copy are not wrapped; 80 columns are enough for all of them.
    assert all(len(line) <= columns for line in lines[:begin])
    assert all(len(line) <= 80 for line in lines)
    assert any(line.lstrip().startswith("fastmnist") for line in lines[begin:])


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_understood(command):
    for line in _EXAMPLES[command].strip().replace("\\\n", " ").splitlines():
        words = shlex.split(line.split("    ")[0].split("&&")[0])
        words = [word for word in words if "=" not in word]
        assert words[0] == "fastmnist"
        # Another command may lead to this one.
        assert parser().parse_args(words[1:]).command.split()[0] in (command.split()[0], "compare")


def test_every_command_has_examples():
    made = parser()
    names = {action.dest: action for action in made._actions if action.choices}
    commands = [name for action in names.values() for name in action.choices or ()]
    assert {"compare", "train", "recipes", "optimize", "search", "report", "info"} <= {*commands}
    assert {*COMMANDS} >= {"compare", "train", "recipes", "optimize", "search", "report", "info"}


def test_completion_for_bash_is_a_script(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", "bash"])
    assert ended.value.code == 0
    script = tmp_path / "fastmnist.bash"
    script.write_text(capsys.readouterr().out)
    # What bash offers behind "fastmnist com".
    ask = (
        f'source {script}; COMP_WORDS=(fastmnist com); COMP_CWORD=1; COMP_LINE="fastmnist com"; '
        '_shtab_fastmnist; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["compare"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("command", ["", "compare"])
def test_help_needs_no_unicode(command, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": SEARCH_PATH}
    words = [sys.executable, "-m", "fastmnist", *command.split(), "--help"]
    done = subprocess.run(words, capture_output=True, env=environment, check=True)
    assert b"usage: fastmnist" in done.stdout


@pytest.mark.parametrize("option", ["--help", "--print-completion=bash"])
def test_a_reader_that_leaves_is_no_error(option):
    environment = os.environ | {"PYTHONPATH": SEARCH_PATH}
    line = f"{sys.executable} -m fastmnist {option} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode in (0, 141)
    assert not done.stderr
