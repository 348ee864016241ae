"""PNG files of our own against a reader of them; markup that stays text; rows that are images."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from fastmnist.display.markup import Markup, cut, escaped, joined, tag
from fastmnist.display.pictures import data_uri, image_of, to_png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1, 1), (28, 28), (5, 17), (7, 3, 3), (1, 400, 3)])
def test_a_reader_finds_the_same_pixels(shape):
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    found = imread(io.BytesIO(to_png(pixels)))
    assert np.array_equal(np.rint(found * 255).astype(np.uint8), pixels)
    assert to_png(pixels.tolist()) == to_png(pixels.astype(np.int64)) == to_png(pixels)
    assert data_uri(to_png(pixels)).startswith("data:image/png;base64,iVBOR")


@pytest.mark.parametrize(
    "pixels", [[], [1, 2], [[1, 2], [3]], [[0.5]], [[-1]], [[256]], np.zeros((2, 2, 4), np.uint8)]
)
def test_what_is_no_picture_is_refused(pixels):
    with pytest.raises(ValueError, match="pixels: expected"):
        to_png(pixels)


def test_which_rows_are_images():
    for shape, expected in [
        ((28, 28), (28, 28)), ((1, 28, 28), (28, 28)), ((3, 8, 9), (8, 9, 3)), ((784,), (28, 28)),
        ((64,), None), ((2, 8, 8), None), ((300,), None), ((), None), ((0, 0), None),
    ]:  # fmt: skip
        found = image_of(np.zeros(shape, np.float32))
        assert (None if found is None else found.shape) == expected, shape
    assert image_of(np.zeros(64, np.uint8)).shape == (8, 8)
    assert image_of(np.zeros((8, 8), np.complex64)) is None
    pixels = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    assert np.array_equal(image_of(pixels), pixels)
    assert image_of(np.linspace(-1, 1, 64).reshape(8, 8)).tolist()[0][0] == 0
    assert image_of(np.linspace(-1, 1, 64).reshape(8, 8)).max() == 255
    odd = np.full((8, 8), np.nan)
    odd[0, 0] = np.inf
    assert image_of(odd).max() == 0


def test_text_stays_text():
    text = "<b>\"&'</b>"
    assert tag("p", text) == "<p>&lt;b&gt;&quot;&amp;&#x27;&lt;/b&gt;</p>"
    assert tag("p", title=text) == '<p title="&lt;b&gt;&quot;&amp;&#x27;&lt;/b&gt;"></p>'
    assert tag("p", Markup("<br>"), 3, None, [1, "<"]) == "<p><br>31&lt;</p>"
    assert tag("img", alt="", hidden=True, src=None, open=False) == '<img alt="" hidden>'
    assert joined("<", tag("b")) == "&lt;<b></b>"
    assert isinstance(joined(), Markup)
    assert escaped("a\x00b\x85c\ud800") == "a b c?"
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
