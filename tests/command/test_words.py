"""Messages of the library in the words of a command line, and options' texts."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from fastmnist.command.arguments import data_name, numbers, pixel_range, with_signs
from fastmnist.command.words import in_options, one_line, told
from fastmnist.measuring.readings import _sentence


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("root: expected a folder, got x", "--root: expected a folder, got x"),
        ("mean, std: expected one value", "--mean, --std: expected one value"),
        ('use load_dataset("digits")', "use --data digits"),
        ('load_dataset("idx", root=…) reads it', "--data idx --root DIR reads it"),
        ("name it by root= or FASTMNIST_DATA", "name it by --root or FASTMNIST_DATA"),
        ("with mean=0.1307, std=0.3081 it is", "with --mean 0.1307, --std 0.3081 it is"),
        ('pixels="0..255" (or std=1/255)', "--pixels 0..255 (or --std 1/255)"),
        ("give greater_is_better=True or", "give --greater-is-better yes or"),
        ("give batch_fn=, a function", "give --batch-fn, a function"),
        ("say which, key='ema.net'", "say which, --weights-key ema.net"),
        ("the mean of std and root", "the mean of std and root"),
    ],
)
def test_in_options(said, wanted):
    assert in_options(said) == wanted


def test_the_advice_on_pixels_is_that_of_a_command():
    found = "under which 9% of 256 rows are right; with mean=0.5, std=0.5 it is 80%"
    said = _sentence(found, "mean=0.5, std=0.5")  # as the library says it
    assert in_options(said).endswith(
        "with --mean 0.5, --std 0.5 it is 80%: give --mean and --std, or --pixels, as in the "
        "model's training"
    )


def test_one_line():
    assert one_line("a\n\n  b\tc\x1b[1md\x1b[0m\x1b]e") == "a b cde"
    assert told(ValueError("x\ny")) == "x y"
    assert told(KeyError("no 'a'")) == "KeyError: no 'a'"
    assert told(AssertionError()) == "AssertionError"
    assert told(RuntimeError()) == "RuntimeError"


def test_numbers():
    assert numbers("0.5") == 0.5
    assert numbers("1/255") == 1 / 255
    assert numbers("0.5, 0.4,0.3") == (0.5, 0.4, 0.3)
    for text in ("", "a", "0.5;0.4", "1/0", "nan"):
        with pytest.raises(ArgumentTypeError, match="expected a number, or one per channel"):
            numbers(text)


def test_ranges_and_names():
    assert pixel_range("-1..1") == "-1..1"
    with pytest.raises(ArgumentTypeError, match="expected the range of the pixels"):
        pixel_range("255")
    assert data_name("rows.py:load") == "rows.py:load"
    with pytest.raises(ArgumentTypeError, match="did you mean 'mnist'"):
        data_name("minst")


def test_values_that_begin_with_a_minus():
    given = ["--mean", "-0.5,0.4", "--pixels", "-1..1", "--quick", "--seed", "-1"]
    assert with_signs(given) == ["--mean=-0.5,0.4", "--pixels=-1..1", "--quick", "--seed", "-1"]
