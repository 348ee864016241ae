"""Types of options, for argparse: each tells what was expected of its text."""

from __future__ import annotations

import difflib
import math
from argparse import ArgumentTypeError
from collections.abc import Sequence
from fractions import Fraction

from fastmnist.pixels import PixelNormalization

_SIGNED = ("--mean", "--std", "--pixels")


def count(text: str) -> int:
    """A number of at least 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected an integer of at least 1, got '{text}'")
    return int(text)


def thread_count(text: str) -> int:
    """A number of threads."""
    if not text.strip().isdecimal() or not 1 <= int(text) <= 1024:
        raise ArgumentTypeError(f"expected an integer from 1 to 1024, got '{text}'")
    return int(text)


def seed(text: str) -> int:
    """Where random numbers begin."""
    if not text.strip().isdecimal() or int(text) >= 2**63:
        raise ArgumentTypeError(f"expected an integer from 0 to 2**63 - 1, got '{text}'")
    return int(text)


def number(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"expected a number of at least 0, got '{text}'")
    return value


def numbers(text: str) -> float | tuple[float, ...]:
    """One number, or one per channel with commas between; "1/255" is one, too."""
    try:
        values = tuple(float(Fraction(part.strip())) for part in text.split(","))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ArgumentTypeError(
            f"expected a number, or one per channel as in 0.5,0.4,0.3, got '{text}'"
        ) from None
    return values if len(values) > 1 else values[0]


def pixel_range(text: str) -> str:
    """What pixels stand for: "0..255"."""
    try:
        PixelNormalization.of_range(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error).removeprefix("pixels: ")) from None
    return text


def data_name(text: str) -> str:
    """A data set that is known by name, or a reference to one."""
    names = ("auto", "mnist", "digits", "idx")
    if text not in names and ":" not in text and not text.endswith(".py"):
        near = difflib.get_close_matches(text, names, n=1)
        hint = f": did you mean '{near[0]}'?" if near else ""
        raise ArgumentTypeError(f"expected {', '.join(names)} or PKG.MOD:FN, got '{text}'{hint}")
    return text


def with_signs(arguments: Sequence[str]) -> list[str]:
    """Join options with values that begin with a minus, which argparse takes for options.

    Examples
    --------
    >>> with_signs(["--pixels", "-1..1", "--quick"])
    ['--pixels=-1..1', '--quick']
    """
    joined: list[str] = []
    for argument in arguments:
        is_value = argument[:1] == "-" and argument[1:2].isdigit()
        if is_value and joined and joined[-1] in _SIGNED:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
