"""The IDX format of the MNIST files, and reading such a file, compressed or not."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastmnist.data.errors import DatasetError

_GZIP_MAGIC = b"\x1f\x8b"
LONGEST_HEADER = 4 + 4 * 255
# The type codes of the format, numbers in it being big-endian.
_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


@dataclass(frozen=True)
class IdxHeader:
    """What an IDX file says of itself: type and dimensions of its values, where they begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Bytes of the whole file, decompressed."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def read_header(content: bytes, name: str) -> IdxHeader:
    """Read the header that an IDX file begins with.

    Parameters
    ----------
    content : bytes
        The decompressed file, or its beginning: two zero bytes, the type code, the number of
        dimensions, each dimension as a big-endian uint32.
    name : str
        What to call the file in errors.

    Raises
    ------
    DatasetError
        If it begins otherwise.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or not content[3]:
        raise DatasetError(f"{name}: expected an IDX file, got bytes {bytes(content[:4])!r}")
    if content[2] not in _TYPES:
        raise DatasetError(
            f"{name}: expected an IDX type of {', '.join(map(str, _TYPES))}, got {content[2]}"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DatasetError(f"{name}: expected a whole IDX header, got {len(content)} bytes of it")
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    return IdxHeader(np.dtype(_TYPES[content[2]]), shape, start)


def parse_idx(content: bytes, name: str, types: tuple[str, ...] = ("uint8",)) -> npt.NDArray[Any]:
    """Read an IDX array, of unsigned bytes unless others are wanted too.

    Parameters
    ----------
    content : bytes
        A whole decompressed file: its header, then the values.
    name : str
        What to call the file in errors.
    types : tuple of str
        What its numbers may be: "uint8", "int8", "int16", "int32", "float32", "float64".

    Returns
    -------
    numpy.ndarray
        A writable copy with the file's dimensions, in the machine's byte order.

    Raises
    ------
    DatasetError
        If it is no such file, or longer or shorter than its header says.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), "two.idx")
    array([7, 9], dtype=uint8)
    """
    header = read_header(content, name)
    if header.dtype.name not in types:
        raise DatasetError(f"{name}: expected {' or '.join(types)}, got {header.dtype.name}")
    if len(content) != header.size:
        raise DatasetError(
            f"{name}: expected {math.prod(header.shape):,} values "
            f"({' x '.join(map(str, header.shape))}) of {header.dtype.name}, as its IDX header "
            f"says, so {header.size:,} bytes, got {len(content):,}"
        )
    values = np.frombuffer(content, dtype=header.dtype, offset=header.start)
    return values.reshape(header.shape).astype(header.dtype.newbyteorder("="), copy=True)


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
        raise DatasetError(f"{path}: expected a file that can be read, got {error}") from error


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
            f"{name}: expected whole gzip data, got some that ends early, as after a half-finished "
            "download: fetch it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{name}: expected gzip data, got a corrupt file: {error}") from None
