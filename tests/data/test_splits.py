"""The halves of a dataset: what they hold, give and refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fastmnist.data import (
    Data,
    Split,
    load_dataset,
)
from fastmnist.data.digits import enlarge

# --- The halves


def test_real_mnist(mnist):
    assert (mnist.name, len(mnist.train), len(mnist.test)) == ("mnist", 60_000, 10_000)
    assert mnist.train.labels[:6].tolist() == [5, 0, 4, 1, 9, 2]
    assert mnist.train.labels.bincount().tolist()[:3] == [5923, 6742, 5958]
    assert mnist.train.images.float().div(255).mean().item() == pytest.approx(0.1307, abs=1e-4)


def test_digits(digits):
    assert digits.name == "digits"
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.shape[1:] == (1, 28, 28)
    assert digits.train.images.max() == 255
    counts = digits.test.labels.bincount()
    assert counts.min() >= 34
    assert counts.max() <= 38
    again = load_dataset("digits")
    assert torch.equal(again.train.images, digits.train.images)
    assert torch.equal(again.test.labels, digits.test.labels)
    rows = {image.numpy().tobytes() for image in digits.train.images}
    assert not any(image.numpy().tobytes() in rows for image in digits.test.images)


def test_enlarging_repeats_pixels():
    small = np.arange(64).reshape(1, 8, 8) % 17
    large = enlarge(small)
    assert large.shape == (1, 1, 28, 28)
    assert large.dtype == np.uint8
    for row in range(3):
        for column in range(3):
            part = large[:, 0, 2 + row : 26 : 3, 2 + column : 26 : 3]
            assert np.abs(part - small * 255 / 16).max() <= 0.5
    assert large[:, :, :2].max() == large[:, :, :, -2:].max() == 0


def test_items_are_what_totensor_and_normalize_give(digits):
    image, label = digits.train[3]
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.float32
    assert type(label) is int
    assert torch.equal(image, digits.train.images[3].float().div(255))
    assert torch.equal(digits.train[-1][0], digits.train[len(digits.train) - 1][0])
    scaled = load_dataset("digits", mean=(0.1307,), std=(0.3081,))
    assert scaled.mean == (0.1307,)
    assert scaled.pixels.std == (0.3081,)
    expected = digits.train[3][0].sub(torch.tensor(0.1307)).div(torch.tensor(0.3081))
    assert torch.equal(scaled.train[3][0], expected)
    for index, error in ((len(digits.train), IndexError), (slice(2), TypeError), ("0", TypeError)):
        with pytest.raises(error):
            digits.train[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_dataloader(digits, workers):
    half = digits.test.subset(40)
    x, y = next(iter(DataLoader(half, batch_size=32, num_workers=workers)))
    assert x.shape == (32, 1, 28, 28)
    assert x.dtype == torch.float32
    assert y.shape == (32,)
    assert y.dtype == torch.int64
    assert torch.equal(x, torch.stack([half[i][0] for i in range(32)]))


def test_subset_repr_and_pickle(digits):
    small = digits.train.subset(7, seed=1)
    assert len(small) == 7
    assert torch.equal(small.images, digits.train.subset(7, seed=1).images)
    assert not torch.equal(small.images, digits.train.subset(7, seed=2).images)
    copy = pickle.loads(pickle.dumps(Data("few", small, small)))
    assert torch.equal(copy.train.images, small.images)
    assert copy.pixels == digits.pixels
    assert "digits" in repr(digits)
    assert "1,437" in repr(digits)
    assert "train" in repr(small)
    for n in (0, 2000):
        with pytest.raises(ValueError, match="n: expected 1 to"):
            digits.train.subset(n)


def test_halves_refuse_what_they_cannot_hold():
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TypeError, match="images"):
        Split(images.float(), labels)
    with pytest.raises(TypeError, match="labels"):
        Split(images, [0, 1])
    with pytest.raises(ValueError, match="shape"):
        Split(images, labels[:1])
    with pytest.raises(ValueError, match="channels"):
        Split(images, labels, mean=(0, 0, 0), std=1)
    half = Split(images, labels)
    with pytest.raises(ValueError, match="same mean"):
        Data("x", half, Split(images, labels, mean=0.5))
    with pytest.raises(TypeError, match="test"):
        Data("x", half, None)


def test_pixels_in_place_of_mean_and_std(digits):
    raw = load_dataset("digits", pixels="0..255")
    assert raw.pixels.is_raw
    assert torch.equal(raw.train[3][0], digits.train.images[3].float())
    assert torch.equal(raw.train.subset(5).images.float(), _items(raw.train.subset(5)))
    signed, halves = (
        load_dataset("digits", pixels="-1..1"),
        load_dataset("digits", mean=0.5, std=0.5),
    )
    assert signed.pixels == halves.pixels
    assert (signed.mean, signed.std) == (0.5, 0.5)
    for arguments in ({"pixels": "0..255", "mean": 0.5}, {"pixels": "255"}):
        with pytest.raises(ValueError, match="pixels: expected"):
            load_dataset("digits", **arguments)


def _items(half):
    return torch.stack([half[i][0] for i in range(len(half))])


def test_names_of_classes():
    images, labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 2, 2])
    assert Split(images, labels).classes == ("0", "1", "2")
    named = Split(images, labels, classes=["a", "b", "c", "d"])
    assert named.classes == named.subset(1).classes == ("a", "b", "c", "d")
    assert Data("x", Split(images, labels), named).classes == named.classes
    with pytest.raises(ValueError, match="a name for each label up to 2, got 1"):
        Split(images, labels, classes=["a"])
    with pytest.raises(TypeError, match="classes: expected a sequence of names"):
        Split(images, labels, classes="abc")
