"""Drawings become images like MNIST's: in a box of 20, centred by mass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmnist.data import centred


def drawing(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


def box_of(image: np.ndarray) -> tuple[int, int, int, int]:
    """First row, last row, first column, last column that hold ink."""
    rows, columns = image.nonzero()
    return rows.min(), rows.max(), columns.min(), columns.max()


def size_of(image: np.ndarray) -> tuple[int, int]:
    top, bottom, left, right = box_of(image)
    return bottom - top + 1, right - left + 1


def mass_of(image: np.ndarray) -> np.ndarray:
    where = np.indices(image.shape).reshape(2, -1)
    return where @ image.ravel().astype(float) / image.sum()


def test_images_of_mnist_stay_as_they_are(mnist):
    # They were made so; a pixel at most, where rounding put the centre of mass.
    images = mnist.test.images[:500, 0].numpy()
    same = [np.array_equal(centred(image), image) for image in images]
    assert np.mean(same) > 0.95
    for image in images:
        assert np.abs(np.subtract(box_of(centred(image)), box_of(image))).max() <= 1


def test_twice_is_once(digits):
    for image in digits.test.images[:50, 0]:
        once = centred(image)
        assert np.abs(mass_of(centred(once)) - mass_of(once)).max() <= 1
        assert np.abs(centred(once).astype(int) - once).mean() < 8


@pytest.mark.parametrize("corner", [(0, 0), (0, 60), (70, 0), (70, 60), (31, 17)])
def test_where_it_is_drawn_is_all_the_same(corner):
    digit = np.random.default_rng(0).integers(1, 256, (30, 20)).astype(np.uint8)
    image = drawing(100, 80)
    image[corner[0] : corner[0] + 30, corner[1] : corner[1] + 20] = digit
    assert np.array_equal(centred(image), centred(digit))
    assert size_of(centred(image)) == (20, 13)


def test_the_middle_is_that_of_mass():
    image = drawing(40, 40)
    image[:, :30] = 60
    image[:, 30:] = 255
    result = centred(image)
    assert np.abs(mass_of(result) - 14).max() <= 0.5
    assert box_of(result)[2] < 4  # the heavier side is nearer to the middle


def test_nothing_is_cut_off():
    image = drawing(200, 200)
    image[:, :10] = 1
    image[:, 10:] = 0
    image[0, :] = 255  # nearly all of its mass is in one row, at the edge
    image[199, 0] = 255
    top, bottom, left, right = box_of(centred(image))
    assert (bottom - top + 1, right - left + 1) == (20, 20)


@pytest.mark.parametrize("factor", [1, 3, 7])
def test_large_ones_become_their_means(factor):
    digit = np.random.default_rng(0).integers(1, 256, (20, 12)).astype(np.uint8)
    image = digit.repeat(factor, 0).repeat(factor, 1)
    top, bottom, left, right = box_of(centred(image))
    assert np.array_equal(centred(image)[top : bottom + 1, left : right + 1], digit)


def test_sizes():
    tiny = drawing(28, 28)
    tiny[5:8, 5:7] = 255
    assert size_of(centred(tiny)) == (20, 13)
    point = drawing(28, 28)
    point[3, 25] = 200
    assert size_of(centred(point)) == (20, 20)
    assert set(np.unique(centred(point))) == {0, 200}
    huge = drawing(3000, 2000)
    huge[100:2900, 995:1005] = 255
    assert size_of(centred(huge)) == (20, 1)
    assert centred(huge).max() == 255
    white = np.full((50, 100), 255, np.uint8)
    assert size_of(centred(white)) == (10, 20)
    assert set(np.unique(centred(white))) == {0, 255}


def test_edges_are_grey():
    disc = (np.hypot(*np.ogrid[-50:50, -50:50]) < 45).astype(np.uint8) * 255
    values = np.unique(centred(disc))
    assert len(values) > 5


def test_what_it_takes():
    image = drawing(30, 30)
    image[10:20, 12:18] = 255
    before = image.copy()
    result = centred(image)
    assert (result.dtype, result.shape) == (np.uint8, (28, 28))
    assert np.array_equal(image, before)
    assert np.array_equal(centred(torch.from_numpy(image)), result)
    assert np.array_equal(centred(image[::-1, ::-1].copy()[::-1, ::-1]), result)


@pytest.mark.parametrize(
    ("image", "error", "says"),
    [
        (drawing(28, 28), ValueError, "expected something drawn"),
        (drawing(0, 28), ValueError, "uint8 .H, W., got shape .0, 28."),
        (drawing(1, 28, 28), ValueError, "got shape .1, 28, 28."),
        (np.ones((28, 28)), TypeError, "got float64: floats from 0 to 1"),
        ([[1, 2]], TypeError, "got a list|got list"),
    ],
)
def test_what_it_refuses(image, error, says):
    with pytest.raises(error, match=f"^image: .*{says}"):
        centred(image)


def test_ink_that_would_vanish_is_refused():
    with pytest.raises(ValueError, match="too thin or faint"):
        centred(np.eye(3000, dtype=np.uint8))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.ones((9, 9), bool), r"got bool: give 255 \* np.uint8"),
        (np.ones((9, 9), np.int64), "got int64: give np.uint8"),
        (torch.ones(9, 9, requires_grad=True), "got float32: floats from 0 to 1"),
        (torch.ones(9, 9, dtype=torch.bfloat16), "expected uint8"),
        (torch.empty(9, 9, device="meta", dtype=torch.uint8), "expected uint8"),
    ],
)
def test_other_types_are_told_how_to_become_uint8(image, says):
    with pytest.raises(TypeError, match=says):
        centred(image)
