"""Make drawings like MNIST's images: of one size, and centred by their mass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist.display.words import kind_of

Image = npt.NDArray[np.uint8]

_SIDE = 28  # of an image of MNIST
_BOX = 20  # what a digit is made to fit
_AS_UINT8 = {
    "f": "floats from 0 to 1 are np.uint8(np.rint(255 * image))",
    "b": "give 255 * np.uint8(image)",
    "i": "give np.uint8(image), where it holds 0 to 255",
    "u": "give np.uint8(image), where it holds 0 to 255",
}


def centred(image: Any) -> Image:
    """Convert a drawing to an image as MNIST's were made (Y. LeCun et al., 1998).

    The drawing is scaled to fit 20 × 20, with its aspect ratio kept and its edges antialiased, and
    is placed so that its centre of mass is the middle of 28 × 28, but never beyond the edge.

    Parameters
    ----------
    image : array or tensor, uint8 [H, W]
        Ink is bright, paper 0; for black ink on white paper, pass ``255 - image``. Any size.

    Returns
    -------
    numpy.ndarray
        uint8 [28, 28].

    Raises
    ------
    TypeError, ValueError
        If it is not such an image, or nothing is drawn, or too faintly to be seen when it is that
        small: a model would still give some answer.

    Examples
    --------
    >>> import numpy as np
    >>> drawing = np.zeros((200, 300), np.uint8)
    >>> drawing[10:110, 250:270] = 255  # a stroke, in a corner
    >>> image = centred(drawing)
    >>> rows, columns = image.nonzero()
    >>> print(rows.min(), rows.max(), columns.min(), columns.max())
    4 23 12 15
    """
    drawn = _ink_of(checked_image(image))
    height, width = (int(length) for length in drawn.shape)
    scale = _BOX / max(height, width)
    small = resized(drawn, max(1, round(height * scale)), max(1, round(width * scale)))
    if not small.any():
        raise ValueError(
            f"image: expected ink that is seen at {_SIDE} × {_SIDE}, got strokes too thin or faint "
            "for that: draw them thicker or brighter"
        )
    result = np.zeros((_SIDE, _SIDE), np.uint8)
    top, left = (_start(small.sum(axis=1 - axis)) for axis in (0, 1))
    result[top : top + small.shape[0], left : left + small.shape[1]] = small
    return result


def resized(image: Image, height: int, width: int) -> Image:
    """Scale an image: each new pixel is the mean of the old pixels that it covers.

    Examples
    --------
    >>> import numpy as np
    >>> resized(np.array([[0, 100], [100, 200]], np.uint8), 1, 1)
    array([[100]], dtype=uint8)
    """
    down, across = _shares(image.shape[0], height), _shares(image.shape[1], width)
    means: npt.NDArray[np.float64] = down @ image.astype(np.float64) @ across.T
    return np.rint(means).astype(np.uint8)


def checked_image(image: Any) -> Image:
    """Return `image` as an array, or raise an error that says what it should be."""
    hint = 'as an array: PIL\'s are np.asarray(image.convert("L"))'
    if not hasattr(image, "__array__"):
        raise TypeError(f"image: expected uint8 [H, W], got {kind_of(image)}: give it {hint}")
    try:
        array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise TypeError(f"image: expected uint8 [H, W], got {kind_of(image)}: {error}") from None
    if array.dtype != np.uint8:
        raise TypeError(
            f"image: expected uint8 [H, W], 0 for paper and 255 for ink, got {array.dtype}: "
            f"{_AS_UINT8.get(array.dtype.kind, 'convert it')}"
        )
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"image: expected uint8 [H, W], got shape {[*array.shape]}: give one image, of one "
            "channel"
        )
    return array


def _ink_of(image: Image) -> Image:
    """Crop the empty margins."""
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    if not len(rows):
        raise ValueError(
            "image: expected something drawn, got zeros alone: ask image.any() before, where a "
            "drawing may be empty"
        )
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _start(masses: npt.NDArray[Any]) -> int:
    """Where a digit begins along one axis, of the masses of its rows or columns."""
    total = float(masses.sum())
    middle = float(masses @ np.arange(len(masses))) / total
    # In MNIST itself the centre of mass is at 14, from 13.5 to 14.5, and not at 13.5.
    return int(np.clip(np.ceil(_SIDE / 2 - middle - 0.5), 0, _SIDE - len(masses)))


def _shares(old: int, new: int) -> npt.NDArray[np.float64]:
    """Of each new pixel, the share that each old one has in it: [new, old]."""
    edges = np.arange(new + 1) * (old / new)
    begins, ends = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)
    covered = np.minimum(ends, pixels + 1) - np.maximum(begins, pixels)
    shares: npt.NDArray[np.float64] = np.maximum(covered, 0.0) * (new / old)
    return shares
