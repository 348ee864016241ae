"""The IDX format of the MNIST files, and reading such a file, compressed or not."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from fastmnist.data.errors import DatasetError

_GZIP_MAGIC = b"\x1f\x8b"
_UBYTE = 8


def parse_idx(content: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Read an IDX array of unsigned bytes.

    Parameters
    ----------
    content : bytes
        A whole decompressed file: two zero bytes, the type code 8, the number of dimensions,
        each dimension as a big-endian uint32, then the values.
    name : str
        What to call the file in errors.

    Returns
    -------
    numpy.ndarray, uint8
        A writable copy with the file's dimensions.

    Raises
    ------
    DatasetError
        If it is no such file, or longer or shorter than its header says.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "two.idx")
    array([7, 9], dtype=uint8)
    """
    if len(content) < 4 or content[:2] != b"\0\0" or not content[3]:
        raise DatasetError(f"{name}: expected an IDX file, got bytes {bytes(content[:4])!r}")
    if content[2] != _UBYTE:
        raise DatasetError(f"{name}: expected unsigned bytes (IDX type 8), got type {content[2]}")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DatasetError(f"{name}: expected a whole IDX header, got {len(content)} bytes of it")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) - start != math.prod(shape):
        raise DatasetError(
            f"{name}: expected {math.prod(shape):,} values, as its IDX header says, "
            f"got {len(content) - start:,}"
        )
    values: npt.NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8, offset=start)
    return np.array(values).reshape(shape)


def read_file(path: Path, limit: int) -> bytes:
    """Read a plain or gzip-compressed file, at most `limit` decompressed bytes of it.

    Which of the two it is, its first bytes tell and not its name: browsers decompress on the
    way and keep the ``.gz``.

    Raises
    ------
    DatasetError
        If it can't be read, or its gzip data is truncated or corrupt.
    """
    try:
        with path.open("rb") as file:
            return decompress(file, str(path), limit)
    except OSError as error:
        raise DatasetError(f"{path} can't be read: {error}") from error


def decompress(file: BinaryIO | io.BytesIO, name: str, limit: int) -> bytes:
    """Read at most `limit` bytes from an open file, through gzip if it begins so.

    Raises
    ------
    DatasetError
        If its gzip data is truncated or corrupt.
    """
    compressed = file.read(2) == _GZIP_MAGIC
    file.seek(0)
    if not compressed:
        return file.read(limit)
    try:
        # The limit is what makes a decompression bomb harmless: nothing beyond it is inflated.
        with gzip.GzipFile(fileobj=file) as stream:
            return stream.read(limit)
    except EOFError:
        raise DatasetError(
            f"{name} is truncated: its gzip data ends early, as in a half-finished download"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{name} is corrupt gzip data: {error}") from None
