"""`load_dataset`: the one way to data."""

from __future__ import annotations

import difflib
import os
import warnings

import torch

from fastmnist.data.bundle import Data, Normalizer, Split
from fastmnist.data.digits import DIGITS, load_digits
from fastmnist.data.errors import DatasetError, DatasetFallbackWarning
from fastmnist.data.idx_sets import load_idx
from fastmnist.data.sources import ENVIRONMENT, NamedFolderError, mnist_arrays
from fastmnist.pixels import PixelNormalization, explicit_pixels

NAMES = ("auto", "mnist", "digits", "idx")


def load_dataset(
    name: str = "auto",
    root: str | os.PathLike[str] | None = None,
    *,
    mean: Normalizer | None = None,
    std: Normalizer | None = None,
    pixels: str | None = None,
    download: bool = True,
) -> Data:
    """Load handwritten digits (MNIST, or scikit-learn's if it is not available), or any IDX set.

    Parameters
    ----------
    name : {"auto", "mnist", "digits", "idx"}
        "mnist" is the original: 60,000 and 10,000 images. "digits" is the set of 1,797 images that
        comes with scikit-learn, scaled to 28x28; it needs no network. "auto" is MNIST if it is
        found or can be downloaded, else digits, with a warning. "idx" is any other set of four
        files in MNIST's format (Fashion-MNIST, KMNIST, EMNIST, your own), with any image size and
        number of classes.
    root : path, optional
        The folder with MNIST's four IDX files (plain or ``.gz``), or torchvision's root. Default:
        the environment variable ``FASTMNIST_DATA``, torchvision's ``data/MNIST/raw``, the user's
        cache, then a download. A folder given by argument or variable is the only place searched.
        "idx" needs a folder; if it holds several sets, append the prefix of the file names:
        ``emnist/emnist-letters``.
    mean, std : float or sequence of float, one per channel, optional
        Items are ``(p/255 - mean)/std`` for a pixel ``p``; the default gives 0…1.
    pixels : str, optional
        The same, given as the range of the items: "0..255" returns ``p`` itself.
    download : bool
        Whether MNIST may be downloaded (11 MB, verified, into the user's cache).

    Returns
    -------
    Data
        With ``name``, ``train``, ``test``, ``classes`` (their names, by label), ``mean``, ``std``,
        ``pixels``. Each half is a torch Dataset of (float32 tensor [1, 28, 28], int), with
        ``images`` uint8 [N, 1, 28, 28] and ``labels`` int64 [N]; "idx" sets keep their own image
        size.

    Raises
    ------
    DatasetError
        A ValueError: MNIST was not found, or the given folder does not contain valid MNIST: other
        data under its file names (Fashion-MNIST), truncated or damaged files. For "idx", the
        message says which file is missing or wrong.
    TypeError, ValueError
        If an argument is invalid.

    Warns
    -----
    DatasetFallbackWarning
        When "auto" falls back to the digits.

    Examples
    --------
    >>> data = load_dataset("digits")
    >>> data
    Data(digits: 1,437 train and 360 test images, mean=0.0, std=1.0)
    >>> image, label = data.train[0]
    >>> image.shape
    torch.Size([1, 28, 28])
    """
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1)
        hint = f': did you mean "{near[0]}"?' if near else ""
        raise ValueError(f'name: expected "auto", "mnist", "digits" or "idx", got {name!r}{hint}')
    if root is not None and not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"root: expected a path or None, got {type(root).__name__}")
    normalization = explicit_pixels(mean, std, pixels) or PixelNormalization()
    if name == "idx":
        root = root if root is not None else os.environ.get(ENVIRONMENT) or None
        if root is None:
            raise ValueError('root: expected a folder of IDX files with "idx", got none: name it')
        return load_idx(root, mean, std, pixels)
    if (channels := normalization.channels) != 1:
        raise ValueError(f"mean, std: expected one value, as digits are grey, got {channels}")
    if name == "digits":
        if root is not None:
            raise ValueError(
                f'root: expected none with "digits", which come with scikit-learn, got {root}'
            )
        return load_digits(mean, std, pixels)
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
        return load_digits(mean, std, pixels)
    halves = {
        split: Split(
            torch.from_numpy(arrays[f"{split}_images"]).unsqueeze(1),
            torch.from_numpy(arrays[f"{split}_labels"]).to(torch.int64),
            mean=mean,
            std=std,
            pixels=pixels,
            classes=DIGITS,
            name="mnist",
            split=split,
        )
        for split in ("train", "test")
    }
    return Data("mnist", halves["train"], halves["test"])
