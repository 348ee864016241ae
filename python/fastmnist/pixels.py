"""What a uint8 pixel stands for: ``(p/255 - mean)/std``, per channel.

Free of torch at import: ``fastmnist.runtime`` uses it where torch is not installed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    Pixels = TypeVar("Pixels", torch.Tensor, npt.NDArray[Any])

_ATTRIBUTE = "fastmnist_pixels"
# Wrappers that hold the model itself: what belongs to the model is kept on the model.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "AveragedModel": "module",  # torch.optim.swa_utils; the next are timm's
    "ModelEma": "ema",
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
}


@dataclass(frozen=True)
class PixelNormalization:
    """What a uint8 pixel ``p`` stands for: ``(p/255 - mean)/std``.

    Parameters
    ----------
    mean, std : tuple of float
        One value for all channels, or one per channel (torchvision's ``Normalize``). Both of
        the same length; `mean` finite; `std` finite and above 0.

    Raises
    ------
    TypeError, ValueError
        If they are no tuples of numbers, or their lengths or values are outside of that.

    Examples
    --------
    >>> import numpy as np
    >>> PixelNormalization.of(0.5, 0.25).to_float(np.array([[0, 255]], dtype=np.uint8))
    array([[-2.,  2.]], dtype=float32)
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        # Through object: the class is frozen, and NumPy or torch numbers would not compare or
        # pickle as plain ones do.
        object.__setattr__(self, "mean", _numbers("mean", self.mean))
        object.__setattr__(self, "std", _numbers("std", self.std))
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean, std: expected the same length, got {len(self.mean)} and "
                f"{len(self.std)} values: give one per channel in both, or one number each"
            )
        with np.errstate(all="ignore"):
            if not all(np.isfinite(np.float32(m)) for m in self.mean):
                raise ValueError(
                    f"mean: expected numbers that are finite in float32, got {self.mean}"
                )
            if not all(0 < np.float32(s) < np.inf for s in self.std):
                raise ValueError(f"std: expected finite numbers above 0 in float32, got {self.std}")

    @classmethod
    def of(cls, mean: Any = 0.0, std: Any = 1.0) -> PixelNormalization:
        """Make one from numbers or sequences of numbers, such as torchvision's tuples.

        A single number stands for every channel of the other argument.

        Parameters
        ----------
        mean, std : float or sequence of float
            In units of the pixel range 0…1, as for torchvision's ``Normalize``.

        Raises
        ------
        TypeError, ValueError
            Naming the argument, if they are no numbers, not finite, `std` is not above 0, or
            the lengths differ.

        Examples
        --------
        >>> PixelNormalization.of((0.5, 0.5, 0.5), 0.25).std
        (0.25, 0.25, 0.25)
        """
        means, stds = _numbers("mean", mean), _numbers("std", std)
        if _is_scalar(mean):
            means = means * len(stds)
        elif _is_scalar(std):
            stds = stds * len(means)
        return cls(means, stds)

    @classmethod
    def of_range(cls, pixels: str) -> PixelNormalization:
        """Make one from the range that pixels 0…255 cover: "0..255", "0..1" or "-1..1".

        Parameters
        ----------
        pixels : str
            What a black and a white pixel stand for, as two numbers with two dots between;
            "0..255" is that of ``images.float()``, which stands for ``p`` itself.

        Raises
        ------
        TypeError, ValueError
            If it is no such text, or the first number is not below the second.

        Examples
        --------
        >>> import numpy as np
        >>> PixelNormalization.of_range("0..255").to_float(np.array([7], dtype=np.uint8))
        array([7.], dtype=float32)
        >>> PixelNormalization.of_range("-1..1")
        PixelNormalization(mean=(0.5,), std=(0.5,))
        """
        if not isinstance(pixels, str):
            raise TypeError(f'pixels: expected text like "0..255", got {type(pixels).__name__}')
        try:
            lo, hi = map(float, pixels.split(".."))
        except ValueError:
            lo, hi = 0.0, 0.0
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise ValueError(
                f'pixels: expected the range of the pixels, such as "0..255", "0..1" or "-1..1", '
                f"got {pixels!r}"
            )
        return cls((-lo / (hi - lo),), (1 / (hi - lo),))

    @property
    def channels(self) -> int:
        """Number of values in `mean` and `std`; 1 stands for any number of channels."""
        return len(self.mean)

    @property
    def is_identity(self) -> bool:
        """Whether a pixel stands for just ``p/255`` (mean 0, std 1), as from ``ToTensor``."""
        return all(m == 0 for m in self.mean) and all(s == 1 for s in self.std)

    @property
    def is_raw(self) -> bool:
        """Whether a pixel stands for ``p`` itself, 0…255, as ``images.float()`` gives it."""
        return all(m == 0 for m in self.mean) and all(s == 1 / 255 for s in self.std)

    @property
    def formula(self) -> str:
        """The rule in words: ``p/255``, ``p``, or ``(p/255 - 0.1307)/0.3081``."""
        if self.is_raw:
            return "p"
        if self.is_identity:
            return "p/255"
        mean, std = (
            f"{values[0]:g}"
            if len(set(values)) == 1
            else f"({', '.join(f'{v:g}' for v in values)})"
            for values in (self.mean, self.std)
        )
        return f"(p/255 - {mean})/{std}"

    def to_float(self, pixels: Pixels) -> Pixels:
        """Convert pixels to float32, bit for bit as ``ToTensor`` and ``Normalize`` do.

        Parameters
        ----------
        pixels : torch.Tensor or numpy.ndarray, uint8
            Shape ``[N, C, ...]``; ``[N, features]`` holds flattened images, channel after
            channel. With one mean and std any shape will do.

        Returns
        -------
        torch.Tensor or numpy.ndarray, float32
            A new array of the same shape, from the same library.

        Raises
        ------
        TypeError
            If `pixels` is no uint8 tensor or array.
        ValueError
            If the number of channels does not match.

        Examples
        --------
        >>> import numpy as np
        >>> PixelNormalization().to_float(np.array([0, 51, 255], dtype=np.uint8))
        array([0. , 0.2, 1. ], dtype=float32)
        """
        if isinstance(pixels, np.ndarray):
            if pixels.dtype != np.uint8:
                raise TypeError(f"pixels: expected uint8, got {pixels.dtype}")
            if self.is_raw:
                return pixels.astype(np.float32)
            # asarray: dividing a 0-d array would otherwise give a NumPy scalar.
            array: Any = np.asarray(pixels.astype(np.float32) / np.float32(255))
            if not self.is_identity:
                mean, std = self._broadcast(array.shape)
                array = np.asarray((array - mean) / std)
            return cast("Pixels", array)
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(pixels, torch.Tensor):
            raise TypeError(
                "pixels: expected a uint8 torch tensor or NumPy array, got "
                f"{type(pixels).__module__}.{type(pixels).__qualname__}"
            )
        if pixels.dtype != torch.uint8:
            raise TypeError(f"pixels: expected uint8, got {pixels.dtype}")
        if self.is_raw:
            return cast("Pixels", pixels.to(torch.float32))
        tensor = pixels.to(torch.float32).div_(255)
        if not self.is_identity and self.channels == 1:
            tensor.sub_(self.mean[0]).div_(self.std[0])
        elif not self.is_identity:
            mean, std = map(torch.from_numpy, self._broadcast(tensor.shape))
            tensor.sub_(mean.to(tensor.device)).div_(std.to(tensor.device))
        return cast("Pixels", tensor)

    def per_feature(self, features: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Give mean and std of every feature of a flattened image, channel after channel.

        Parameters
        ----------
        features : int
            Channels times height times width, as ``Flatten`` makes them.

        Returns
        -------
        mean, std : numpy.ndarray, float64, shape [features]

        Raises
        ------
        ValueError
            If `features` is below 1 or no multiple of the number of channels.

        Examples
        --------
        >>> PixelNormalization.of((0.0, 0.5), 1.0).per_feature(4)[0]
        array([0. , 0. , 0.5, 0.5])
        """
        if features < 1 or features % self.channels:
            raise ValueError(
                f"features: expected a positive multiple of the {self.channels} channels that mean "
                f"and std have, got {features}"
            )
        each = features // self.channels
        return (
            np.repeat(np.array(self.mean, dtype=np.float64), each),
            np.repeat(np.array(self.std, dtype=np.float64), each),
        )

    def _broadcast(
        self, shape: Sequence[int]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Give mean and std in float32, shaped to broadcast against pixels of `shape`."""
        if self.channels == 1:
            mean, std = np.array(self.mean), np.array(self.std)
        elif len(shape) == 2 and shape[1] and shape[1] % self.channels == 0:
            mean, std = self.per_feature(shape[1])
        elif len(shape) > 2 and shape[1] == self.channels:
            to = (self.channels,) + (1,) * (len(shape) - 2)
            mean, std = np.array(self.mean).reshape(to), np.array(self.std).reshape(to)
        else:
            raise ValueError(
                f"pixels: expected {self.channels} channels in dimension 1, as mean and std have, "
                f"got shape {tuple(shape)}: give one mean and std per channel, or one for all"
            )
        return mean.astype(np.float32), std.astype(np.float32)


def explicit_pixels(mean: Any, std: Any, pixels: str | None = None) -> PixelNormalization | None:
    """What a pixel stands for, where arguments say so: `mean` and `std`, or `pixels`."""
    if pixels is not None:
        if mean is not None or std is not None:
            raise ValueError("pixels: expected pixels= or mean= and std=, got both")
        return PixelNormalization.of_range(pixels)
    if mean is None and std is None:
        return None
    return PixelNormalization.of(0.0 if mean is None else mean, 1.0 if std is None else std)


def model_pixels(model: torch.nn.Module) -> PixelNormalization | None:
    """Tell which pixel normalization `model` was trained with, None if that is not known.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(784, 10)
    >>> set_model_pixels(model, PixelNormalization.of(0.1307, 0.3081))
    >>> model_pixels(model)
    PixelNormalization(mean=(0.1307,), std=(0.3081,))
    """
    value = getattr(unwrap(model), _ATTRIBUTE, None)
    return None if value is None else PixelNormalization(*value)


def set_model_pixels(model: torch.nn.Module, px: PixelNormalization | None) -> None:
    """Record on `model` what its pixels stand for; None forgets it.

    Kept as a plain attribute of tuples, so that the module still pickles and unpickles where
    fastmnist is not installed, and copies carry it.

    Raises
    ------
    TypeError
        If `px` is neither a PixelNormalization nor None.
    """
    if px is not None and not isinstance(px, PixelNormalization):
        raise TypeError(f"px: expected a PixelNormalization or None, got {type(px).__name__}")
    inner = unwrap(model)
    if px is not None:
        setattr(inner, _ATTRIBUTE, (px.mean, px.std))
    elif hasattr(inner, _ATTRIBUTE):
        delattr(inner, _ATTRIBUTE)


def unwrap(model: Any) -> Any:
    """Give the model inside DDP, DataParallel or torch.compile wrappers."""
    while (inside := _WRAPPERS.get(type(model).__name__)) and hasattr(model, inside):
        model = getattr(model, inside)
    return model


def _is_scalar(value: Any) -> bool:
    return bool(np.ndim(value) == 0)


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    """Read a number or a flat sequence of numbers, from any library."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    items = list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else [plain]
    if not items:
        raise ValueError(f"{name}: expected at least one value, got an empty sequence")
    numbers = []
    for item in items:
        item = item.tolist() if hasattr(item, "tolist") else item
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            raise TypeError(
                f"{name}: expected a number or a sequence of them, one per channel, got {value!r}"
            )
        try:
            number = float(item)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"{name}: expected finite numbers, got {value!r}")
        numbers.append(number)
    return tuple(numbers)
