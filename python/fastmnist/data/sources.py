"""Where MNIST comes from: the folder that was named, known places, the cache, a download."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastmnist.data import download as downloads
from fastmnist.data.errors import DatasetError, DatasetWarning
from fastmnist.data.idx import parse_idx
from fastmnist.data.mnist import FILES, OTHER_SETS, find, read_verified
from fastmnist.files.cache import cache_folder

ENVIRONMENT = "FASTMNIST_DATA"
Arrays = dict[str, npt.NDArray[np.uint8]]


def mnist_arrays(root: str | os.PathLike[str] | None, download: bool) -> Arrays:
    """Give the four arrays of MNIST from the first place that has them.

    A folder named by `root` or, without it, by the environment is the only place looked at.
    Otherwise these, in order: torchvision's ``data/MNIST/raw`` in the working folder, the
    user's cache, a download into the cache.

    Returns
    -------
    dict
        "train_images" uint8 [60000, 28, 28], "train_labels" uint8 [60000], "test_images",
        "test_labels" (10,000).

    Raises
    ------
    NamedFolderError
        If a folder was named and has no good MNIST.
    DatasetError
        If no place has it; lists the places.
    """
    if root is not None:
        return _named(Path(root).expanduser(), "root")
    if named := os.environ.get(ENVIRONMENT):
        return _named(Path(named).expanduser(), ENVIRONMENT)
    looked = [f"- {ENVIRONMENT}: not set"]
    torchvision = Path("data", "MNIST", "raw")
    if _present(torchvision):
        try:
            return {key: read_verified(torchvision, file) for key, file in FILES.items()}
        except DatasetError as error:
            # The user did not point there, so another place may serve; but it must not go
            # unnoticed.
            warnings.warn(f"passed over: {error}", DatasetWarning, stacklevel=3)
            looked.append(f"- {torchvision} (torchvision's): {error}")
    else:
        looked.append(f"- {torchvision} (torchvision's), in {Path.cwd()}: not there")
    return _cached_or_downloaded(mnist_cache(), download, looked)


class NamedFolderError(DatasetError):
    """The folder that was named for MNIST has no good MNIST: nothing else is tried."""


def mnist_cache() -> Path | None:
    """Tell where downloads are kept on this platform; None where there is no home folder."""
    folder = cache_folder()
    return None if folder is None else folder / "mnist"


def _named(folder: Path, name: str) -> Arrays:
    """Read from a folder of IDX files, or one that torchvision calls `root`."""
    candidates = [folder, folder / "MNIST" / "raw", folder / "raw"]
    # The fullest first: a stray file beside a whole set in a subfolder must not hide it.
    best = max(candidates, key=_present)
    if not _present(best):
        reason = "has no MNIST file" if os.path.isdir(folder) else "is no folder"
        raise NamedFolderError(
            f"{name}: expected the folder of MNIST's files (train-images-idx3-ubyte.gz and three "
            f"more) or torchvision's root, got {folder}, which {reason}: correct it, or leave it "
            f"out to search the usual places and download; {OTHER_SETS}"
        )
    try:
        return {key: read_verified(best, file) for key, file in FILES.items()}
    except DatasetError as error:
        raise NamedFolderError(
            f"{name}: expected the folder of MNIST's files, got {best}: {error}"
        ) from error


def _present(folder: Path) -> int:
    return sum(bool(find(folder, file)) for file in FILES.values())


def _cached_or_downloaded(folder: Path | None, download: bool, looked: list[str]) -> Arrays:
    arrays: Arrays = {}
    mirrors = list(downloads.MIRRORS)
    for key, file in FILES.items():
        problem = "there is no home folder" if folder is None else ""
        if folder is not None:
            try:
                arrays[key] = read_verified(folder, file)
                continue
            except DatasetError as error:
                problem = str(error)
        looked.append(f"- {folder} (the cache): {problem}")
        if folder is not None and find(folder, file):
            then = "fetching it again" if download else "download=True would fetch it again"
            warnings.warn(f"{problem} In the cache: {then}.", DatasetWarning, stacklevel=4)
        if not download:
            looked.append("- no download, as download=False says")
            raise _nowhere(looked)
        try:
            content, mirror = downloads.fetch(file, folder, mirrors)
        except DatasetError as error:
            looked.append(f"- {error}")
            raise _nowhere(looked) from error
        # One that answered goes first, so that a dead one costs its timeout only once.
        mirrors.sort(key=lambda url: url != mirror)
        arrays[key] = parse_idx(content, file.download_name)
    return arrays


def _nowhere(looked: list[str]) -> DatasetError:
    places = "\n".join(looked)
    return DatasetError(
        f"MNIST was not found. Looked at:\n{places}\nPut its four files "
        "(train-images-idx3-ubyte.gz and so on) into a folder and name it by root= or "
        f'{ENVIRONMENT}, or use load_dataset("digits"), which needs no network.'
    )
