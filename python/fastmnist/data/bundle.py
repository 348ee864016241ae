"""What `load_dataset` returns: a bundle of two halves, each a torch Dataset."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastmnist.pixels import PixelNormalization, explicit_pixels

Normalizer: TypeAlias = float | Sequence[float]


class Split(Dataset[tuple[Tensor, int]]):
    """One half of a data set, train or test: an in-memory torch Dataset of uint8 images.

    Parameters
    ----------
    images : torch.Tensor, uint8, shape [N, C, H, W]
        Pixels; ``[N, 1, 28, 28]`` for the data sets loaded here.
    labels : torch.Tensor, int64, shape [N]
        Classes, from 0.
    mean, std : float or sequence of float, optional
        Items are ``(p/255 - mean)/std``; 0 and 1, the default, give the 0…1 of ``ToTensor``.
    pixels : str, optional
        The same, given as the range of the items: "0..255" returns the pixels themselves, "-1..1"
        equals a mean and std of 0.5.
    classes : sequence of str, optional
        Names of the classes: ``classes[label]``. Default: "0", "1", … up to the largest label.
    name : str
        Name of the data set, such as "mnist".
    split : str
        Which half it is: "train" or "test".

    Raises
    ------
    TypeError, ValueError
        If a type, shape or length is wrong, mean and std do not match the channels, or a label has
        no name in `classes`.

    Examples
    --------
    >>> half = Split(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.arange(4))
    >>> image, label = half[3]
    >>> image.shape, image.dtype, label
    (torch.Size([1, 28, 28]), torch.float32, 3)
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        mean: Normalizer | None = None,
        std: Normalizer | None = None,
        pixels: str | None = None,
        classes: Sequence[str] | None = None,
        name: str = "custom",
        split: str = "",
    ) -> None:
        for what, value, dtype in (
            ("images", images, torch.uint8),
            ("labels", labels, torch.int64),
        ):
            if not isinstance(value, Tensor) or value.dtype != dtype:
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{what}: expected a tensor of {dtype}, got {got}")
        if images.ndim != 4 or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(
                "images, labels: expected shapes [N, C, H, W] and [N], "
                f"got {list(images.shape)} and {list(labels.shape)}"
            )
        self.pixels = explicit_pixels(mean, std, pixels) or PixelNormalization()
        if self.pixels.channels not in (1, images.shape[1]):
            raise ValueError(
                f"mean, std: expected 1 or {images.shape[1]} values, as the images have "
                f"channels, got {self.pixels.channels}"
            )
        self.images = images
        self.labels = labels
        self.mean = self.pixels.mean[0] if mean is None else mean
        self.std = self.pixels.std[0] if std is None else std
        self._classes = None if classes is None else _names(classes, labels)
        self.name = name
        self.split = split

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: ``classes[label]``."""
        if self._classes is not None:
            return self._classes
        return tuple(map(str, range(_largest(self.labels) + 1)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: SupportsIndex) -> tuple[Tensor, int]:
        if isinstance(index, slice):
            raise TypeError("index: expected an integer, got a slice: use subset or images[…]")
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"index: expected one below {len(self)}, got {i}")
        # A batch of one, so that channels lie where they do in a batch.
        i %= len(self)
        return self.pixels.to_float(self.images[i : i + 1])[0], int(self.labels[i])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Give many items at once: DataLoader asks for this, and it is several times faster."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        images = self.pixels.to_float(self.images[index])
        return list(zip(images.unbind(0), self.labels[index].tolist(), strict=True))

    def subset(self, n: int, seed: int = 0) -> Split:
        """Draw `n` random samples without replacement; the same seed gives the same samples.

        Raises
        ------
        ValueError
            If `n` is below 1 or above the number of samples.

        Examples
        --------
        >>> half = Split(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.arange(4))
        >>> len(half.subset(2))
        2
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"n: expected 1 to {len(self)}, the number of samples, got {n}")
        generator = torch.Generator().manual_seed(seed)
        return self.at(torch.randperm(len(self), generator=generator)[:n])

    def at(self, index: Tensor) -> Split:
        """Return the samples at these indices, an int64 tensor, as a new Split."""
        return Split(
            self.images[index],
            self.labels[index],
            mean=self.mean,
            std=self.std,
            classes=self._classes,
            name=self.name,
            split=self.split,
        )

    def __repr__(self) -> str:
        shape = "x".join(str(d) for d in self.images.shape[1:])
        what = " ".join(part for part in (self.name, self.split) if part)
        return f"Split({what}: {len(self):,} images {shape}, mean={self.mean}, std={self.std})"


class Data:
    """A data set with a training half and a test half, as `load_dataset` returns it.

    Parameters
    ----------
    name : str
        "mnist", "digits", "idx" or the name of a known set.
    train, test : Split
        With the same mean and std.

    Raises
    ------
    TypeError, ValueError
        If a half is not a Split, or the two differ in mean or std.

    Examples
    --------
    >>> half = Split(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.arange(4))
    >>> data = Data("tiny", half, half)
    >>> data.name, data.mean, data.std
    ('tiny', 0.0, 1.0)
    """

    def __init__(self, name: str, train: Split, test: Split) -> None:
        for what, half in (("train", train), ("test", test)):
            if not isinstance(half, Split):
                raise TypeError(f"{what}: expected a Split, got {type(half).__name__}")
        if train.pixels != test.pixels:
            raise ValueError(
                f"train, test: expected the same mean and std, got {train.pixels} and {test.pixels}"
            )
        self.name = name
        self.train = train
        self.test = test

    @property
    def mean(self) -> Any:
        """Mean of the pixel normalization as given: a number or a sequence."""
        return self.train.mean

    @property
    def std(self) -> Any:
        """Standard deviation of the pixel normalization as given."""
        return self.train.std

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by label, from whichever half has more."""
        return max(self.train.classes, self.test.classes, key=len)

    @property
    def pixels(self) -> PixelNormalization:
        """What a uint8 pixel means in this data set."""
        return self.train.pixels

    def __repr__(self) -> str:
        return (
            f"Data({self.name}: {len(self.train):,} train and {len(self.test):,} test images, "
            f"mean={self.mean}, std={self.std})"
        )


def _names(classes: Sequence[str], labels: Tensor) -> tuple[str, ...]:
    if isinstance(classes, str) or not all(isinstance(name, str) for name in classes):
        raise TypeError(f"classes: expected a sequence of names, got {classes!r}")
    if len(classes) <= _largest(labels):
        raise ValueError(
            f"classes: expected a name for each label up to {_largest(labels)}, got "
            f"{len(classes)} names: give one for each"
        )
    return tuple(classes)


def _largest(labels: Tensor) -> int:
    return int(labels.max()) if len(labels) else -1
