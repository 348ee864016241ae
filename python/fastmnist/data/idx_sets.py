"""Sets of IDX files other than MNIST: found in a folder, held against each other, named.

A set is four files: images and labels to train on, and to test on. Which file is which, its name
says ("train" or "t10k", "test", "val"; "images" or "labels"), and where that is silent on the
latter, its number of dimensions. What stands before "train" is the name of the set, so that one
folder may hold several, as EMNIST's does.
"""

from __future__ import annotations

import hashlib
import os
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fastmnist.data.bundle import Data, Normalizer, Split
from fastmnist.data.errors import DatasetError
from fastmnist.data.idx import LONGEST_HEADER, IdxHeader, parse_idx, read_file, read_header

_HALF = re.compile(r"(?<![A-Za-z])(?:(?P<train>train)|t10k|test|val)", re.IGNORECASE)
_LABELS, _IMAGES = re.compile(r"label", re.IGNORECASE), re.compile(r"image|data", re.IGNORECASE)
_IDX_NAME = re.compile(r"idx\d|ubyte", re.IGNORECASE)
_LABEL_TYPES = ("uint8", "int8", "int16", "int32")
_MOST_BYTES = 1 << 34
_KINDS = ("train_images", "train_labels", "test_images", "test_labels")

_MERGED = "abdefghnqrt"  # lower-case letters that EMNIST keeps apart from upper-case ones
_EMNIST = {
    "byclass": (*string.digits, *string.ascii_uppercase, *string.ascii_lowercase),
    "bymerge": (*string.digits, *string.ascii_uppercase, *_MERGED),
    "balanced": (*string.digits, *string.ascii_uppercase, *_MERGED),
    "letters": ("N/A", *string.ascii_lowercase),  # its labels begin with 1
    "digits": tuple(string.digits),
    "mnist": tuple(string.digits),
}
# By the MD5 of both compressed files of labels, as their authors publish them.
_KNOWN = {
    ("25c81989df183df01b3e8a0aad5dffbe", "bb300cfdad3c16e7a12a480ee83cd310"): (
        "fashion-mnist",
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    ("e144d726b3acfaa3e44228e80efcd344", "7320c461ea6c1c855c0b718fb2a4b134"): (
        "kmnist",
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
}


def load_idx(
    root: str | os.PathLike[str],
    mean: Normalizer | None = None,
    std: Normalizer | None = None,
    pixels: str | None = None,
) -> Data:
    """Load the set of IDX files in a folder.

    Parameters
    ----------
    root : path
        The folder (or torchvision's root above it), or, of one that holds several sets, the folder
        and the beginning of the files' names: ``emnist/emnist-letters``.
    mean, std, pixels
        As for :func:`fastmnist.load_dataset`.

    Returns
    -------
    Data
        Images as they are stored: EMNIST's lie on their side. Labels as they are stored, too.

    Raises
    ------
    DatasetError
        If there is no whole set, there are several, or a file is broken: which, and how.
    """
    folder, start = _folder(Path(root).expanduser())
    name, files = _one_set(folder, start)
    arrays = {kind: _read(kind, paths) for kind, paths in files.items()}
    for half in ("train", "test"):
        images, labels = len(arrays[f"{half}_images"]), len(arrays[f"{half}_labels"])
        if images != labels or not images:
            raise DatasetError(
                f"{folder}: expected as many {half} labels as images, and at least one, got "
                f"{labels:,} and {images:,}: {_names(files, half)} do not belong together"
            )
    shapes = [arrays[f"{half}_images"].shape[1:] for half in ("train", "test")]
    if shapes[0] != shapes[1]:
        raise DatasetError(
            f"{folder}: expected images of one size, got {_by(shapes[0])} to train on and "
            f"{_by(shapes[1])} to test on"
        )
    most = max(int(arrays[f"{half}_labels"].max()) for half in ("train", "test"))
    known, classes = _classes(name, files, most)
    halves = [
        Split(
            torch.from_numpy(arrays[f"{half}_images"]),
            torch.from_numpy(arrays[f"{half}_labels"]).to(torch.int64),
            mean=mean,
            std=std,
            pixels=pixels,
            classes=classes,
            name=known,
            split=half,
        )
        for half in ("train", "test")
    ]
    return Data(known, *halves)


def _folder(root: Path) -> tuple[Path, str]:
    """The folder with the files, and how their names begin."""
    if os.path.isdir(root):
        # torchvision keeps FashionMNIST's in FashionMNIST/raw of what it calls root.
        below = [p for pattern in ("raw", "*/raw", "gzip") for p in sorted(root.glob(pattern))]
        found = [folder for folder in (root, *below) if any(_candidates(folder, ""))]
        if len(found) > 1 and found[0] != root:
            raise DatasetError(
                f"root: expected one set of IDX files, got {root}, which has "
                f"{' and '.join(str(folder.relative_to(root)) for folder in found)}: name one"
            )
        if found:
            return found[0], ""
        raise DatasetError(
            f"root: expected a folder of IDX files (train-images-idx3-ubyte, plain or .gz, and so "
            f"on), got {root}, which has none: correct it"
        )
    if os.path.isdir(root.parent) and any(_candidates(root.parent, root.name)):
        return root.parent, root.name
    raise DatasetError(f"root: expected a folder of IDX files, got {root}, which is no folder")


def _candidates(folder: Path, start: str) -> Iterator[Path]:
    if not os.path.isdir(folder):
        return
    for name in sorted(os.listdir(folder)):
        path = folder / name
        if name.startswith(".") or not name.startswith(start):
            continue
        if os.path.isfile(path) and (_IDX_NAME.search(name) or _header(path) is not None):
            yield path


def _header(path: Path) -> IdxHeader | None:
    try:
        return read_header(read_file(path, LONGEST_HEADER), str(path))
    except DatasetError:
        return None


def _one_set(folder: Path, start: str) -> tuple[str, dict[str, list[Path]]]:
    """The files of the one set that there is: kind to its copies, the plain one first."""
    sets: dict[str, dict[str, list[Path]]] = {}
    for path in _candidates(folder, start):
        half = _HALF.search(path.name)
        role = _role(path)
        if half is not None and role is not None:
            key = path.name[: half.start()].strip("-_. ")
            kind = f"{'train' if half['train'] else 'test'}_{role}"
            sets.setdefault(key, {}).setdefault(kind, []).append(path)
    if not sets:
        raise DatasetError(
            f"{folder}: expected files whose names say what they are, such as "
            "train-images-idx3-ubyte and t10k-labels-idx1-ubyte, got "
            f"{', '.join(path.name for path in _candidates(folder, start))}: rename them"
        )
    whole = {key: files for key, files in sets.items() if len(files) == len(_KINDS)}
    if len(whole) > 1:
        named = " or ".join(f"{folder / key}" for key in whole if key)
        raise DatasetError(f"root: expected one set of IDX files, got {folder}: name {named}")
    if not whole:
        key, files = max(sets.items(), key=lambda item: len(item[1]))
        missing = [kind.replace("_", " ") for kind in _KINDS if kind not in files]
        raise DatasetError(
            f"{folder}: expected images and labels to train and to test on, got no "
            f"{' and no '.join(missing)}: add them, under names as train-images-idx3-ubyte and "
            "t10k-labels-idx1-ubyte"
        )
    key, files = next(iter(whole.items()))
    parent = folder.parent if folder.name == "raw" else folder
    return key or parent.resolve().name or "idx", {kind: files[kind] for kind in _KINDS}


def _role(path: Path) -> str | None:
    if _LABELS.search(path.name):
        return "labels"
    if _IMAGES.search(path.name):
        return "images"
    header = _header(path)
    return None if header is None else "labels" if len(header.shape) == 1 else "images"


def _read(kind: str, paths: list[Path]) -> npt.NDArray[Any]:
    """Read whichever copy is sound."""
    problem: DatasetError | None = None
    for path in sorted(paths, key=lambda path: path.suffix == ".gz"):
        try:
            return _read_one(kind, path)
        except DatasetError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _read_one(kind: str, path: Path) -> npt.NDArray[Any]:
    header = read_header(read_file(path, LONGEST_HEADER), str(path))
    if header.size > _MOST_BYTES:
        raise DatasetError(f"{path}: expected at most 16 GB, got {_by(header.shape)} values")
    is_labels = kind.endswith("labels")
    types = _LABEL_TYPES if is_labels else ("uint8",)
    array = parse_idx(read_file(path, header.size + 1), str(path), types)
    if is_labels:
        if array.ndim != 1:
            raise DatasetError(
                f"{path}: expected labels of one dimension, got {_by(array.shape)}: keep the "
                "column of classes"
            )
        if len(array) and int(array.min()) < 0:
            raise DatasetError(f"{path}: expected labels from 0, got {int(array.min())}")
        return array
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4 and array.shape[1] in (1, 3):
        return array
    if array.ndim == 4 and array.shape[3] in (1, 3):
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    raise DatasetError(
        f"{path}: expected images [N, height, width], or with 1 or 3 channels, got "
        f"{_by(array.shape)}"
    )


def _classes(
    name: str, files: dict[str, list[Path]], most: int
) -> tuple[str, tuple[str, ...] | None]:
    """Name of the set and of its classes, where it is one that is known."""
    letters = re.fullmatch(r"emnist-(\w+)", name, re.IGNORECASE)
    classes = _EMNIST.get(letters[1].lower()) if letters else None
    if classes is not None and most < len(classes):
        return name.lower(), classes
    checksums = [_checksum(files[f"{half}_labels"]) for half in ("train", "test")]
    return _KNOWN.get((checksums[0], checksums[1]), (name, None))


def _checksum(paths: list[Path]) -> str:
    compressed = [path for path in paths if path.suffix == ".gz"]
    if not compressed:
        return ""
    return hashlib.md5(compressed[0].read_bytes(), usedforsecurity=False).hexdigest()


def _names(files: dict[str, list[Path]], half: str) -> str:
    return " and ".join(files[f"{half}_{role}"][0].name for role in ("images", "labels"))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{n:,}" for n in shape)
