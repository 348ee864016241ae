"""What `load_dataset` returns: a bundle of two halves, each a torch Dataset."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastmnist.pixels import PixelNormalization

Normalizer: TypeAlias = float | Sequence[float]


class Split(Dataset[tuple[Tensor, int]]):
    """One half of a data set, train or test: a torch Dataset held in memory as uint8.

    Parameters
    ----------
    images : torch.Tensor, uint8, shape [N, C, H, W]
        Pixels; ``[N, 1, 28, 28]`` for the data sets loaded here.
    labels : torch.Tensor, int64, shape [N]
        Classes, from 0.
    mean, std : float or sequence of float
        Items are ``(p/255 - mean)/std``; 0 and 1 give the 0…1 of ``ToTensor``.
    name : str
        The data set, such as "mnist".
    split : str
        Which half it is: "train" or "test".

    Raises
    ------
    TypeError, ValueError
        If a type, shape or length is another, or mean and std do not fit the channels.

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
        mean: Normalizer = 0.0,
        std: Normalizer = 1.0,
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
        self.pixels = PixelNormalization.of(mean, std)
        if self.pixels.channels not in (1, images.shape[1]):
            raise ValueError(
                f"mean, std: expected 1 or {images.shape[1]} values, as the images have "
                f"channels, got {self.pixels.channels}"
            )
        self.images = images
        self.labels = labels
        self.mean = mean
        self.std = std
        self.name = name
        self.split = split

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
        """Draw `n` samples at random, without repetition, the same ones for the same seed.

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
        chosen = torch.randperm(len(self), generator=generator)[:n]
        return Split(
            self.images[chosen],
            self.labels[chosen],
            mean=self.mean,
            std=self.std,
            name=self.name,
            split=self.split,
        )

    def __repr__(self) -> str:
        shape = "x".join(str(d) for d in self.images.shape[1:])
        what = " ".join(part for part in (self.name, self.split) if part)
        return f"Split({what}: {len(self):,} images {shape}, mean={self.mean}, std={self.std})"


class Data:
    """A data set in two halves: what `load_dataset` returns.

    Parameters
    ----------
    name : str
        "mnist" or "digits".
    train, test : Split
        With the same mean and std.

    Raises
    ------
    TypeError, ValueError
        If a half is none, or the two have different mean or std.

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
        """Mean of the pixel normalization, as it was given: a number or a sequence."""
        return self.train.mean

    @property
    def std(self) -> Any:
        """Standard deviation of the pixel normalization, as it was given."""
        return self.train.std

    @property
    def pixels(self) -> PixelNormalization:
        """What a uint8 pixel stands for in this data set."""
        return self.train.pixels

    def __repr__(self) -> str:
        return (
            f"Data({self.name}: {len(self.train):,} train and {len(self.test):,} test images, "
            f"mean={self.mean}, std={self.std})"
        )
