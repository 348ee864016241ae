"""What observers have in common: factories, and a scale and zero point from a range.

The rules are those of torch.ao's ``UniformQuantizationObserverBase``, so that an observer that a
qconfig names gives the very numbers that it gave there.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

SIGNED = ("torch.qint8", "torch.int8")
UNSIGNED = ("torch.quint8", "torch.uint8")
# By name: torch's own quantized dtypes go away with torch.ao.quantization.
_RANGES = {
    **dict.fromkeys(SIGNED, (-128, 127)),
    **dict.fromkeys(UNSIGNED, (0, 255)),
    "torch.quint4x2": (0, 15),
    "torch.uint16": (0, 2**16 - 1),
    "torch.int16": (-(2**15), 2**15 - 1),
    **dict.fromkeys(("torch.qint32", "torch.int32"), (-(2**31), 2**31 - 1)),
}
_SCHEMES = (
    "torch.per_tensor_affine",
    "torch.per_tensor_symmetric",
    "torch.per_channel_affine",
    "torch.per_channel_symmetric",
    "torch.per_channel_affine_float_qparams",
)
EPS = torch.finfo(torch.float32).eps


class Factory:
    """A constructor and some of its arguments: each call makes a new object.

    Attributes
    ----------
    p : functools.partial
        Of the class, with the keywords given so far; what code for torch.ao reads.
    callable_args : dict
        Arguments that are computed anew at each call.
    """

    def __init__(self, p: Callable[..., Any]) -> None:
        self.p = p
        self.callable_args: dict[str, Callable[[], Any]] = {}

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        computed = {k: make() for k, make in self.callable_args.items() if k not in keywords}
        return self.p(*args, **keywords, **computed)

    def with_args(self, **keywords: Any) -> Factory:
        """Return a factory with these keywords as well; later ones win."""
        made = Factory(partial(self.p, **keywords))
        made.callable_args = {k: v for k, v in self.callable_args.items() if k not in keywords}
        return made

    def with_callable_args(self, **makers: Callable[[], Any]) -> Factory:
        """Return a factory that also computes these keywords, at each call."""
        made = Factory(self.p)
        made.callable_args = {**self.callable_args, **makers}
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Factory):
            return NotImplemented
        return _parts(self) == _parts(other)

    def __hash__(self) -> int:
        return hash(_parts(self)[0])

    def __repr__(self) -> str:
        made, keywords, _ = _parts(self)
        told = ", ".join(f"{key}={value}" for key, value in keywords.items())
        return f"{getattr(made, '__name__', made)}({told})"


def _parts(factory: Factory) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    p = factory.p
    if isinstance(p, partial):
        return p.func, dict(p.keywords), factory.callable_args
    return p, {}, factory.callable_args


class Makes:
    """``with_args`` and ``with_callable_args`` of a class."""

    @classmethod
    def with_args(cls, **keywords: Any) -> Factory:
        """Return a factory of this class with these arguments."""
        return Factory(partial(cls, **keywords))

    @classmethod
    def with_callable_args(cls, **makers: Callable[[], Any]) -> Factory:
        """Return a factory that computes these arguments at each call."""
        return Factory(partial(cls)).with_callable_args(**makers)


class ObserverBase(Makes, nn.Module):
    """Base class of all observers: called on tensors, it provides ``calculate_qparams``.

    Your own subclass provides the scale and zero point of the layers whose qconfig names it.

    Parameters
    ----------
    dtype : torch.dtype
    is_dynamic : bool
    """

    def __init__(self, dtype: Any, is_dynamic: bool = False) -> None:
        super().__init__()
        self.dtype, self.is_dynamic = dtype, is_dynamic

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Watch `x` and return it."""

    @abstractmethod
    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return scale and zero point."""


def range_of(
    dtype: Any, quant_min: int | None, quant_max: int | None, reduce_range: bool
) -> tuple[int, int]:
    """Return the range of codes: that of the dtype, or the given one; one bit less if reduced.

    Raises
    ------
    ValueError
        For an unsupported dtype, or a range of codes without 0 or with too many codes.
    """
    if str(dtype) not in _RANGES:
        known = ", ".join(name.removeprefix("torch.") for name in _RANGES)
        raise ValueError(f"dtype: expected one of {known}, got {dtype}")
    lo, hi = _RANGES[str(dtype)]
    if quant_min is not None and quant_max is not None:
        if not quant_min <= 0 <= quant_max or quant_min == quant_max:
            raise ValueError(
                f"quant_min, quant_max: expected a range around 0, got {quant_min} and {quant_max}"
            )
        if quant_max - quant_min > hi - lo:
            raise ValueError(
                f"quant_min, quant_max: expected at most {hi - lo + 1} codes, those of {dtype}, "
                f"got {quant_max - quant_min + 1}"
            )
        lo, hi = quant_min, quant_max
    return (lo // 2, hi // 2) if reduce_range else (lo, hi)


def codes_of(dtype: Any) -> int:
    """Return how many codes a dtype has."""
    lo, hi = _RANGES[str(dtype)]
    return hi - lo + 1


class UniformQuantizationObserverBase(ObserverBase):
    """An observer whose codes are evenly spaced.

    Parameters
    ----------
    dtype : torch.dtype
    qscheme : torch.qscheme
        One scale, or one per channel; affine, or symmetric around zero.
    reduce_range : bool
        Use half of the codes.
    quant_min, quant_max : int, optional
        The range of codes. Default: that of `dtype`.
    eps : float
        The smallest scale.

    Raises
    ------
    ValueError
        For an unsupported dtype, scheme or range.
    """

    eps: Tensor

    def __init__(
        self,
        dtype: Any = torch.quint8,
        qscheme: Any = torch.per_tensor_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        factory_kwargs: dict[str, Any] | None = None,
        eps: float = EPS,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype=dtype, is_dynamic=is_dynamic, **kwargs)
        if str(qscheme) not in _SCHEMES:
            raise ValueError(f"qscheme: expected one of {', '.join(_SCHEMES)}, got {qscheme}")
        if reduce_range and str(dtype) == "torch.quint8" and str(qscheme).endswith("symmetric"):
            raise NotImplementedError(
                "reduce_range: expected False for symmetric codes of quint8, got True: use qint8"
            )
        self.qscheme, self.reduce_range = qscheme, reduce_range
        self.has_customized_qrange = quant_min is not None and quant_max is not None
        self.quant_min, self.quant_max = range_of(dtype, quant_min, quant_max, reduce_range)
        options = {"dtype": torch.float32, **(factory_kwargs or {})}
        self.register_buffer("eps", torch.tensor([eps], **options))

    def reset_min_max_vals(self) -> None:
        """Forget what was seen."""
        raise NotImplementedError

    def _calculate_qparams(self, min_val: Tensor, max_val: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point of ranges, each ``[1]`` or ``[channels]``; 1 and 0 if unseen."""
        if not bool((min_val <= max_val).all()) or min_val.numel() == 0:
            warnings.warn(
                f"{type(self).__name__}: expected to have watched data before calculate_qparams(), "
                "got none: scale 1 and zero point 0 are returned",
                stacklevel=3,
            )
            one = torch.ones(1, dtype=torch.float32, device=min_val.device)
            return one, torch.zeros_like(one, dtype=torch.int64)
        lo, hi = min_val.reshape(-1).float(), max_val.reshape(-1).float()
        steps, scheme = float(self.quant_max - self.quant_min), str(self.qscheme)
        if scheme.endswith("float_qparams"):
            scale = (hi - lo) / steps
            scale = torch.where(scale > self.eps, scale, torch.ones_like(scale))
            return scale, -lo / scale
        lo, hi = lo.clamp(max=0), hi.clamp(min=0)
        if scheme.endswith("symmetric"):
            scale = torch.maximum(torch.maximum(-lo, hi) / (steps / 2), self.eps)
            return scale, torch.full_like(scale, self._middle(), dtype=torch.int64)
        scale = torch.maximum((hi - lo) / steps, self.eps)
        zero_point = self.quant_min - torch.round(lo / scale).to(torch.int64)
        return scale, zero_point.clamp(self.quant_min, self.quant_max)

    def _middle(self) -> int:
        """The code of zero where the range is symmetric around it."""
        if str(self.dtype) in UNSIGNED:
            given = self.has_customized_qrange
            return (self.quant_min + self.quant_max) // 2 if given else 128
        return 2**15 if str(self.dtype) == "torch.uint16" else 0
