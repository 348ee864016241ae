"""scikit-learn's bundled 8x8 digits in MNIST's shape: real data that needs no network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from fastmnist.data.bundle import Data, Normalizer, Split
from fastmnist.data.errors import DatasetError

DIGITS = tuple("0123456789")
_SEED = 0
_EVERY = 5  # one of five goes to the test half: 360 of 1,797


def load_digits(
    mean: Normalizer | None = None, std: Normalizer | None = None, pixels: str | None = None
) -> Data:
    """Load the 1,797 digits of scikit-learn as 28x28 images: 1,437 to train, 360 to test.

    Each pixel of the 8x8 images (0…16) becomes 3x3 of 0…255, framed by 2 empty pixels; a network
    learns from that no worse than from a smooth enlargement. The split is shuffled, has every
    class in proportion, and is always the same.

    Raises
    ------
    DatasetError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ImportError as error:
        raise DatasetError(
            "digits: expected scikit-learn, which brings them, got none: pip install scikit-learn"
        ) from error
    source = sklearn_digits()
    images = torch.from_numpy(enlarge(source.images.astype(np.int64)))
    labels = torch.from_numpy(source.target.astype(np.int64))
    halves = {
        split: Split(
            images[chosen],
            labels[chosen],
            mean=mean,
            std=std,
            pixels=pixels,
            classes=DIGITS,
            name="digits",
            split=split,
        )
        for split, chosen in _split(source.target).items()
    }
    return Data("digits", halves["train"], halves["test"])


def enlarge(images: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Turn ``[N, 8, 8]`` of 0…16 into uint8 ``[N, 1, 28, 28]`` of 0…255."""
    pixels = ((images * 255 + 8) // 16).astype(np.uint8)  # rounded to the nearest
    large = pixels.repeat(3, axis=1).repeat(3, axis=2)
    return np.pad(large, ((0, 0), (2, 2), (2, 2)))[:, None]


def _split(labels: npt.NDArray[np.int64]) -> dict[str, torch.Tensor]:
    # RandomState, since NumPy promises that its numbers never change.
    order = np.random.RandomState(_SEED).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[by_class[::_EVERY]] = True
    return {
        "train": torch.from_numpy(order[~is_test[order]]),
        "test": torch.from_numpy(order[is_test[order]]),
    }
