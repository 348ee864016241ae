"""The library's messages in the words of a command line: options, and one line each."""

from __future__ import annotations

import re

# Escape sequences of terminals, which libraries put into some messages.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]")
# Arguments of the library that are options here; others are not touched.
_OPTIONS = {
    **{name: name for name in ("root", "mean", "std", "pixels", "metric", "data", "epochs")},
    "batch_fn": "batch-fn",
    "loss_fn": "loss",
    "greater_is_better": "greater-is-better",
    "key": "weights-key",
}
_VALUES = {"True": "yes", "False": "no"}
_NAME = "|".join(_OPTIONS)
# A command has one place for what pixels are; the library, several.
_WHERE = re.compile(r": if the model was trained on such values, give .* made as for training$")
_DATASET = re.compile(r'load_dataset\("(\w+)"(, root=…)?\)')
_GIVEN = re.compile(rf"""\b({_NAME})=(?:"([^"]*)"|'([^']*)'|([\w./-]*\w))?""")
_NAMED = re.compile(rf"^((?:{_NAME})(?:, (?:{_NAME}))*)(?=: )")


def in_options(text: str) -> str:
    """Say in options what the library says of its arguments.

    Examples
    --------
    >>> in_options('root: expected a folder: name it by root=, or use load_dataset("digits")')
    '--root: expected a folder: name it by --root, or use --data digits'
    >>> in_options('give pixels="0..255" (or std=1/255)')
    'give --pixels 0..255 (or --std 1/255)'
    """
    text = _WHERE.sub(": give --mean and --std, or --pixels, as in the model's training", text)
    text = _DATASET.sub(lambda m: f"--data {m[1]}" + (" --root DIR" if m[2] else ""), text)
    text = _GIVEN.sub(_option, text)
    return _NAMED.sub(lambda m: ", ".join(f"--{_OPTIONS[name]}" for name in m[1].split(", ")), text)


def _option(match: re.Match[str]) -> str:
    value = next((part for part in match.groups()[1:] if part is not None), "")
    return f"--{_OPTIONS[match[1]]} {_VALUES.get(value, value)}".rstrip()


def one_line(text: str) -> str:
    """Give a message as one line without escape codes.

    Examples
    --------
    >>> one_line("Weights \\x1b[1monly\\x1b[0m:\\n  failed")
    'Weights only: failed'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in _ESCAPES.sub("", text)).split())


def told(error: BaseException) -> str:
    """What an exception says, in one line: its type too, where that says more than the text."""
    # str of a KeyError is the repr of its text.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    usual = isinstance(error, (ImportError, OSError, RuntimeError, TypeError, ValueError))
    line = one_line(text)
    usual = usual or "expected" in line  # ours, whatever the type that was kept
    return line if usual and line else f"{type(error).__name__}: {line}".rstrip(": ")
