"""Small pictures for pages that may load nothing: PNG files, written here, as data URIs."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB = 0, 2  # colour types of the format


def to_png(pixels: Any) -> bytes:
    """Give uint8 pixels, ``[height, width]`` or ``[height, width, 3]``, as a PNG file.

    Raises
    ------
    ValueError
        If they are no such array.

    Examples
    --------
    >>> to_png([[0, 255], [255, 0]])[1:4]
    b'PNG'
    """
    try:
        array = np.asarray(pixels)
    except ValueError:  # nested lists of several lengths
        array = np.empty(0)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not is_image or not array.size or array.dtype.kind not in "ui":
        raise ValueError(
            "pixels: expected integers [height, width] or [height, width, 3], got "
            f"{array.dtype} {[*array.shape]}"
        )
    if array.min() < 0 or array.max() > 255:
        raise ValueError(f"pixels: expected 0 to 255, got {array.min()} to {array.max()}")
    height, width = array.shape[:2]
    lines = array.astype(np.uint8).reshape(height, -1)
    # Each line begins with its filter: 0, none.
    data = np.pad(lines, ((0, 0), (1, 0))).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, _GRAY if array.ndim == 2 else _RGB, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data, 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def data_uri(png: bytes) -> str:
    """Give a PNG file as the address of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def image_of(row: Any) -> npt.NDArray[np.uint8] | None:
    """Give one input as a picture, its values from black to white; None if it is no image.

    Images are ``[height, width]`` or ``[channels, height, width]`` of 1 or 3 channels, and flat
    rows of as many values as a square of pixels has: 8 × 8 of uint8, 16 × 16 of floats, as fewer
    of them may be any table's columns.

    Examples
    --------
    >>> image_of(np.zeros((1, 8, 8))).shape, image_of(np.zeros(784)).shape, image_of(np.zeros(30))
    ((8, 8), (28, 28), None)
    """
    values = np.asarray(row)
    if values.dtype.kind not in "uif":
        return None
    if values.ndim == 1:
        side = round(len(values) ** 0.5)
        if side < (8 if values.dtype == np.uint8 else 16) or side * side != len(values):
            return None
        values = values.reshape(side, side)
    if values.ndim == 3 and values.shape[0] in (1, 3):
        values = values[0] if values.shape[0] == 1 else values.transpose(1, 2, 0)
    if values.ndim not in (2, 3) or not values.size or min(values.shape[:2]) < 4:
        return None
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = min(0.0, float(values.min())), max(float(values.max()), 1e-30)
    return np.rint((values - low) * (255.0 / max(high - low, 1e-30))).astype(np.uint8)
