"""`load_dataset`: the one way to data."""

from __future__ import annotations

import os
import warnings

import torch

from fastmnist.data.bundle import Data, Normalizer, Split
from fastmnist.data.digits import load_digits
from fastmnist.data.errors import DatasetError, DatasetFallbackWarning
from fastmnist.data.sources import NamedFolderError, mnist_arrays
from fastmnist.pixels import PixelNormalization


def load_dataset(
    name: str = "auto",
    root: str | os.PathLike[str] | None = None,
    *,
    mean: Normalizer = 0.0,
    std: Normalizer = 1.0,
    download: bool = True,
) -> Data:
    """Load handwritten digits: MNIST, or scikit-learn's where MNIST can't be had.

    Parameters
    ----------
    name : {"auto", "mnist", "digits"}
        "mnist" is the original, 60,000 and 10,000 images. "digits" are the 1,797 that come
        with scikit-learn, scaled to 28x28: no network needed. "auto" is MNIST if it is found or
        can be downloaded, else digits, with a warning.
    root : path, optional
        The folder of MNIST's four IDX files (plain or ``.gz``), or torchvision's root. If it is
        not given: the environment variable ``FASTMNIST_DATA``, torchvision's
        ``data/MNIST/raw``, the user's cache, a download. A folder that was named by either is
        the only place looked at.
    mean, std : float or sequence of one float
        Items are ``(p/255 - mean)/std`` of the pixels ``p``; the default gives 0…1.
    download : bool
        Whether MNIST may be downloaded (11 MB, checked, into the user's cache).

    Returns
    -------
    Data
        With ``name``, ``train``, ``test``, ``mean``, ``std``, ``pixels``. Each half is a torch
        Dataset of (float32 tensor [1, 28, 28], int), with ``images`` uint8 [N, 1, 28, 28] and
        ``labels`` int64 [N].

    Raises
    ------
    DatasetError
        A ValueError: MNIST was not found, or the folder that was named has no good MNIST: other
        data with its names (Fashion-MNIST), truncated or damaged files.
    TypeError, ValueError
        If an argument is none of the above.

    Warns
    -----
    DatasetFallbackWarning
        When "auto" takes the digits.

    Examples
    --------
    >>> data = load_dataset("digits")
    >>> data
    Data(digits: 1,437 train and 360 test images, mean=0.0, std=1.0)
    >>> image, label = data.train[0]
    >>> image.shape
    torch.Size([1, 28, 28])
    """
    if name not in ("auto", "mnist", "digits"):
        raise ValueError(f'name: expected "auto", "mnist" or "digits", got {name!r}')
    if root is not None and not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"root: expected a path or None, got {type(root).__name__}")
    if (channels := PixelNormalization.of(mean, std).channels) != 1:
        raise ValueError(f"mean, std: expected one value, as digits are grey, got {channels}")
    if name == "digits":
        if root is not None:
            raise ValueError(
                f'root: expected none with "digits", which come with scikit-learn, got {root}'
            )
        return load_digits(mean, std)
    try:
        arrays = mnist_arrays(root, download)
    except NamedFolderError:
        raise
    except DatasetError as error:
        if name == "mnist":
            raise
        warnings.warn(
            "USING SCIKIT-LEARN'S DIGITS INSTEAD OF MNIST: 1,797 small images, so accuracies can't "
            f"be compared with MNIST's. {error}",
            DatasetFallbackWarning,
            stacklevel=2,
        )
        return load_digits(mean, std)
    halves = {
        split: Split(
            torch.from_numpy(arrays[f"{split}_images"]).unsqueeze(1),
            torch.from_numpy(arrays[f"{split}_labels"]).to(torch.int64),
            mean=mean,
            std=std,
            name="mnist",
            split=split,
        )
        for split in ("train", "test")
    }
    return Data("mnist", halves["train"], halves["test"])
