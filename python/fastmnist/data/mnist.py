"""The four files of MNIST: their names, sizes and checksums."""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastmnist.data.errors import DatasetError, DatasetWarning
from fastmnist.data.idx import parse_idx, read_file, read_header


@dataclass(frozen=True)
class MnistFile:
    """One of the original files; size and MD5 are those of the decompressed bytes."""

    stem: str
    dims: int
    size: int
    md5: str

    @property
    def download_name(self) -> str:
        """Name at the mirrors, and in the cache."""
        return f"{self.stem}-idx{self.dims}-ubyte.gz"

    @property
    def names(self) -> tuple[str, ...]:
        """Names under which the file is found: plain first, since it reads faster."""
        return tuple(
            f"{self.stem}{dot}idx{self.dims}-ubyte{ending}"
            for ending in ("", ".gz")
            for dot in ("-", ".")
        )


OTHER_SETS = 'load_dataset("idx", root=…) reads other sets'

FILES = {
    "train_images": MnistFile("train-images", 3, 47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train_labels": MnistFile("train-labels", 1, 60_008, "a25bea736e30d166cdddb491f175f624"),
    "test_images": MnistFile("t10k-images", 3, 7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "test_labels": MnistFile("t10k-labels", 1, 10_008, "27ae3e4e09519cfbb04c329615203637"),
}


def find(folder: Path, file: MnistFile) -> list[Path]:
    """List the files in `folder` that have one of the names of `file`."""
    # os.path's isfile, since that of Path raises where a folder may not be searched.
    return [folder / name for name in file.names if os.path.isfile(folder / name)]


def verify(content: bytes, file: MnistFile, name: str) -> None:
    """Check that `content`, decompressed and read up to `file.size` + 1 bytes, is MNIST's.

    Raises
    ------
    DatasetError
        Saying what seems to be wrong with it.
    """
    if hashlib.md5(content, usedforsecurity=False).hexdigest() == file.md5:
        return
    if (shape := _other_shape(content, file)) is not None:
        raise DatasetError(
            f"{name}: expected MNIST's, got an IDX file of {' x '.join(f'{n:,}' for n in shape)} "
            f"values: {OTHER_SETS}"
        )
    if len(content) < file.size:
        raise DatasetError(
            f"{name}: expected MNIST's {file.size:,} bytes (decompressed), got {len(content):,}: "
            "it is truncated or another file: fetch it again"
        )
    if len(content) > file.size:
        raise DatasetError(
            f"{name}: expected MNIST's {file.size:,} bytes (decompressed), got more: {OTHER_SETS}"
        )
    raise DatasetError(
        f"{name}: expected MNIST's checksum {file.md5}, got another, with its name and size: is it "
        f"Fashion-MNIST or KMNIST (their files have the same names), or damaged? {OTHER_SETS}; "
        "for MNIST put its own files there, or name their folder by root= or FASTMNIST_DATA"
    )


def _other_shape(content: bytes, file: MnistFile) -> tuple[int, ...] | None:
    """Dimensions of a sound IDX file that is another than MNIST's; None of anything else."""
    try:
        header = read_header(content, "")
    except DatasetError:
        return None
    # Of a longer file only so much was read.
    whole = len(content) == header.size or header.size > file.size < len(content)
    return header.shape if whole and header.size != file.size else None


def read_verified(folder: Path, file: MnistFile) -> npt.NDArray[np.uint8]:
    """Read one of the files from `folder`, whichever of its copies there is good.

    Raises
    ------
    DatasetError
        If it is missing, or no copy of it is good.
    """
    problem: DatasetError | None = None
    for path in find(folder, file):
        try:
            content = read_file(path, file.size + 1)
            verify(content, file, str(path))
        except DatasetError as error:
            problem = problem or error
            continue
        if problem is not None:
            warnings.warn(f"{problem} (Read {path.name} instead.)", DatasetWarning, stacklevel=2)
        return parse_idx(content, str(path))
    raise problem or DatasetError(f"{folder} has no {file.names[0]}, nor with .gz")
