"""The normative arithmetic in NumPy: ``kernels/reference.cpp``, in the form of formulas.

Slow, plain and exact: tests compare the native reference with this module at tolerance 0, and it
is the place to look up what a quantized layer computes. Nothing in the package calls it.

Fused multiply-add has no NumPy function. The product of two float32 is exact in float64; the sum
with a third is rounded *to odd* in float64, after which rounding to float32 gives the correctly
rounded result (S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums: proved
algorithms using rounding to odd", IEEE Trans. Computers 57(4), 2008).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
FLT_MIN = np.finfo(np.float32).tiny


def _f32(value: Any) -> Any:
    return np.asarray(value, dtype=np.float32)


def fma(a: F32, b: F32, c: F32) -> F32:
    """``a*b + c`` with one rounding, element by element; float32 in and out."""
    with np.errstate(all="ignore"):
        product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
        product, addend = np.broadcast_arrays(product, np.asarray(c, np.float64))
        total = product + addend
        # Knuth's TwoSum: the part of the sum that float64 could not hold.
        virtual = total - product
        error = (product - (total - virtual)) + (addend - virtual)
        even = (total.view(np.int64) & 1) == 0
        inexact = np.isfinite(total) & (error != 0) & even
        towards = np.where(error > 0, np.inf, -np.inf)
        odd: F32 = np.where(inexact, np.nextafter(total, towards), total).astype(np.float32)
        return odd


def _saturate(integers: F32) -> U8:
    with np.errstate(invalid="ignore"):
        positive = np.where(integers > 0, integers, np.float32(0))  # NaN becomes 0
        codes: U8 = np.minimum(positive, np.float32(255)).astype(np.uint8)
        return codes


def quantize(x: F32, scale: float, zero_point: int) -> U8:
    """``clamp(rne(x / scale) + zero_point, 0, 255)``, the division as a product with 1/scale."""
    with np.errstate(all="ignore"):
        inv_scale = np.float32(1) / np.float32(scale)
        return _saturate(np.rint(_f32(x) * inv_scale) + np.float32(zero_point))


def quantize_affine(x: F32, multiplier: F32, offset: F32) -> U8:
    """``clamp(rne(x * multiplier + offset), 0, 255)``, product and sum rounded separately."""
    with np.errstate(all="ignore"):
        return _saturate(np.rint(_f32(x) * _f32(multiplier) + _f32(offset)))


def dequantize(q: U8, scale: float, zero_point: int) -> F32:
    """``(q - zero_point) * scale``."""
    centered = _f32(np.asarray(q, np.int32) - np.int32(zero_point))
    return np.asarray(centered * np.float32(scale), np.float32)


def quantizer_from_range(lo: float, hi: float) -> tuple[np.float32, int]:
    """Scale and zero point of the uint8 codes that cover ``[lo, hi]`` and 0."""
    with np.errstate(all="ignore"):
        lo32, hi32 = min(np.float32(0), np.float32(lo)), max(np.float32(0), np.float32(hi))
        scale = hi32 / np.float32(255) - lo32 / np.float32(255)
        if not scale >= FLT_MIN:
            return np.float32(1), 0
        zero_point = np.rint(-lo32 * (np.float32(1) / scale))
        return scale, int(min(max(zero_point, np.float32(0)), np.float32(255)))


def quantize_weights(weight: F32, bits: int = 8) -> tuple[I8, F32]:
    """Symmetric codes per output channel: ``[outputs, inputs]`` and scales ``[outputs]``.

    With 8 bits the largest magnitude has the largest code; with fewer, the scale is that of least
    squared error among 80 up to it, 16 to an octave, then exact for its own codes.
    """
    weight, most = _f32(weight), np.float32(2 ** (bits - 1) - 1)
    scale = np.max(np.abs(weight), axis=1, initial=0) / most
    scale = np.where(scale == 0, np.float32(1), scale)
    if bits < 8:
        scale = np.array([_least_error(w, s, most) for w, s in zip(weight, scale, strict=True)])
    return _codes(weight, scale[:, None], most).astype(np.int8), _f32(scale)


def _codes(weight: F32, scale: Any, most: np.float32) -> F32:
    codes: F32 = np.clip(np.rint(weight / scale), -most, most)
    return codes


def _least_error(w: F32, top: np.float32, most: np.float32) -> np.float32:
    def fit(scale: np.float32) -> tuple[float, float, float]:
        q = _codes(w, scale, most).astype(np.float64)
        parts = (w - np.float64(scale) * q) ** 2, w * q, q * q
        # cumsum adds in order; sum would not.
        error, products, squares = (float(np.cumsum(part)[-1]) if len(w) else 0.0 for part in parts)
        return error, products, squares

    best, found = top, fit(top)
    parts = [np.float32((32 - i) / 32) / np.float32(2**o) for o in range(5) for i in range(16)]
    for part in parts[1:]:
        if (scale := top * part) >= FLT_MIN and (sums := fit(scale))[0] < found[0]:
            best, found = scale, sums
    for _ in range(16):
        if not found[2] or not (scale := np.float32(found[1] / found[2])) >= FLT_MIN:
            break
        if not (sums := fit(scale))[0] < found[0]:
            break
        best, found = scale, sums
    return best


def linear_f32(
    x: U8,
    weight: I8,
    weight_scale: F32,
    bias: F32 | None,
    x_scale: F32,
    x_zero_point: I32,
    lo: float = -np.inf,
    hi: float = np.inf,
) -> F32:
    """One layer on codes ``[rows, inputs]``; `x_scale` and `x_zero_point` are ``[rows]`` or one."""
    centered = np.asarray(x, np.int64) - np.reshape(np.asarray(x_zero_point, np.int64), (-1, 1))
    acc = (centered @ np.asarray(weight, np.int64).T).astype(np.int32)
    with np.errstate(all="ignore"):
        scale = np.reshape(_f32(x_scale), (-1, 1)) * _f32(weight_scale)
        offset = np.zeros(len(weight), np.float32) if bias is None else _f32(bias)
        return _clamp(fma(acc.astype(np.float32), scale, offset), lo, hi)


def linear_u8(
    x: U8,
    weight: I8,
    weight_scale: F32,
    bias: F32 | None,
    x_scale: F32,
    x_zero_point: I32,
    y_scale: float,
    y_zero_point: int,
    lo: float = -np.inf,
    hi: float = np.inf,
) -> U8:
    """Exactly :func:`linear_f32`, then :func:`quantize`."""
    y = linear_f32(x, weight, weight_scale, bias, x_scale, x_zero_point, lo, hi)
    return quantize(y, y_scale, y_zero_point)


def float_linear(
    x: F32, weight: F32, bias: F32 | None, lo: float = -np.inf, hi: float = np.inf
) -> F32:
    """One float32 layer: an fma chain an output, inputs ascending; then bias and clamp."""
    y = np.zeros((len(x), len(weight)), np.float32)
    for k in range(weight.shape[1]):
        y = fma(_f32(x)[:, k, None], _f32(weight)[None, :, k], y)
    with np.errstate(all="ignore"):
        return _clamp(y + (np.float32(0) if bias is None else _f32(bias)), lo, hi)


def _clamp(y: F32, lo: float, hi: float) -> F32:
    """NaN passes through: both comparisons fail."""
    y = np.where(np.float32(lo) > y, np.float32(lo), y)
    return np.where(np.float32(hi) < y, np.float32(hi), y)
