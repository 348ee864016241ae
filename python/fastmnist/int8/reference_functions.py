"""Functions of rows of floats in NumPy: ``kernels/functions.h``, operation by operation.

Like ``reference.py`` it is slow, plain and exact: the native reference equals it at tolerance 0,
and it is the place to look up what an activation, a softmax or a norm computes. Everything is
float32, rounded after each operation; ``fma`` rounds once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmnist.int8.activation import Activation
from fastmnist.int8.reference import F32, fma

_INF = np.float32(np.inf)
_MOST = np.finfo(np.float32).max
_SIGN = np.uint32(0x80000000)
_LOG2_E = float.fromhex("0x1.715476p+0")
_LOG2_HIGH, _LOG2_LOW = float.fromhex("0x1.62e43p-1"), float.fromhex("-0x1.05c61p-29")
# 1.5 * 2^23 and what exponents begin at: sums with an integer have it in their last bits.
_POWER_SHIFT, _TIMES_POWER_SHIFT = np.float32(12582912 + 127), np.float32(12582912 + 254)


def _f(value: Any) -> Any:
    return np.float32(value)


def _floats(*hexadecimal: str) -> Any:
    return tuple(np.float32(float.fromhex(text)) for text in hexadecimal)


_EXP = _floats("0x1.fffffcp-2", "0x1.55548ap-3", "0x1.555916p-5", "0x1.123fc6p-7", "0x1.6a1a6ep-10")
_EXPM1 = _floats(
    "0x1p-1", "0x1.555554p-3", "0x1.5554aap-5", "0x1.11118ep-7", "0x1.6d78dap-10", "0x1.a03334p-13"
)
_LOG = _floats("0x1.555558p-1", "0x1.9996bp-2", "0x1.2508bp-2", "0x1.b6e6dap-3", "0x1.f1730ep-3")
# How Phi falls below 0, beside exp(-x^2 / 2).
_PHI_P = (0.5, 0.43849632144, 0.1833844929933548, 0.04068362340331, 0.004123803693801165)
_PHI_Q = (
    1.0, 1.674877643585205, 1.2031230926513672,
    0.46986493468284607, 0.10198509693145752, 0.010336724109947681,
)  # fmt: skip
# 2 sqrt(2 / pi) and 0.044715 times that, and what both lose by rounding.
_C0, _C1, _C0_REST, _C1_REST = _floats(
    "0x1.988454p+0", "0x1.2444f2p-4", "-0x1.857936p-25", "0x1.49b16ap-29"
)


def _least(a: Any, b: Any) -> Any:
    """``a < b ? a : b``, so that a NaN in `b` passes."""
    return np.where(np.asarray(a, np.float32) < b, np.float32(a), b)


def _most(a: Any, b: Any) -> Any:
    return np.where(np.asarray(a, np.float32) > b, np.float32(a), b)


def _bits(x: Any) -> Any:
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


def _with_sign(x: Any, sign: Any) -> Any:
    return (_bits(x) | (_bits(sign) & _SIGN)).view(np.float32)


def _polynomial(x: Any, coefficients: Any) -> Any:
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = fma(total, x, np.full_like(x, coefficient))
    return total


def _reduced(z: Any, shift: Any) -> tuple[Any, Any]:
    """``n + shift`` and ``z - n log(2)`` for the integer n next to ``z / log(2)``."""
    t = fma(z, _f(_LOG2_E), shift)
    n = t - shift
    return t, fma(n, _f(-_LOG2_LOW), fma(n, _f(-_LOG2_HIGH), z))


def _exp(z: Any, rest: Any = None) -> Any:
    t, r = _reduced(_most(-104, z), _TIMES_POWER_SHIFT)
    if rest is not None:
        r = r + rest
    half = _bits(t) >> np.uint32(1)
    first = (half << np.uint32(23)).view(np.float32)
    second = ((_bits(t) - half) << np.uint32(23)).view(np.float32)
    return (_f(1) + fma(r * r, _polynomial(r, _EXP), r)) * first * second


def _expm1(z: Any) -> Any:
    t, r = _reduced(_most(-20, z), _POWER_SHIFT)
    power = (_bits(t) << np.uint32(23)).view(np.float32)
    return fma(fma(r * r, _polynomial(r, _EXPM1), r), power, power - _f(1))


def _log_of_ratio(s: Any) -> Any:
    square = s * s
    return fma(s * square, _polynomial(square, _LOG), s + s)


def _log1p(e: Any) -> Any:
    return _log_of_ratio(e / (_f(2) + e))


def _log(y: Any) -> Any:
    n = (_bits(y) - np.uint32(0x3F3504F3)).view(np.int32) >> 23
    f = (_bits(y) - (n << 23).view(np.uint32)).view(np.float32)
    scale = n.astype(np.float32)
    log_f = _log_of_ratio((f - _f(1)) / (f + _f(1)))
    result = fma(scale, _f(_LOG2_HIGH), fma(scale, _f(_LOG2_LOW), log_f))
    return np.where(y == y, result, y)


def _leaky_relu(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    return prelu(x, np.full_like(x, p0))


def _elu(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    below = _expm1(_least(0, x * p2)) * p1
    return np.where(x > 0, _least(_MOST if p0 == 0 else _INF, x) * p0, below)


def _gelu(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    t = _least(15, np.abs(x))
    square = t * t
    e = _exp(square * _f(-0.5), fma(t, t, -square) * _f(-0.5))
    ratio = _polynomial(t, _PHI_P) / _polynomial(t, _PHI_Q)
    return np.where(x < 0, _f(-0.0), x) - t * ratio * e


def _times_sigmoid(x: Any, t: Any, e: Any) -> Any:
    return np.where(x < 0, -(t * e), x) / (_f(1) + e)


def _gelu_tanh(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    t = _least(12, np.abs(x))
    square = t * t
    factor = fma(square, _C1, _C0)
    u2 = t * factor
    factor_rest = fma(square, _C1, _C0 - factor) + fma(square, _C1_REST, _C0_REST)
    return _times_sigmoid(x, t, _exp(-u2, -(fma(t, factor, -u2) + t * factor_rest)))


def _silu(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    t = _least(104, np.abs(x))
    return _times_sigmoid(x, t, _exp(-t))


def _mish(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    above = _most(-104, x)
    e = _exp(_least(20, above))
    n = e * (e + _f(2))
    return above * (n / (n + _f(2)))


def _hardsigmoid(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    return _least(6, _most(0, x + _f(3))) / _f(6)


def _hardswish(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    return _most(-3, x) * _hardsigmoid(x, p0, p1, p2)


def _sigmoid(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    e = _exp(-np.abs(x))
    return np.where(x < 0, e, _f(1)) / (_f(1) + e)


def _tanh(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    e = _expm1(np.abs(x) * _f(-2))
    return _with_sign(np.abs(e / (_f(2) + e)), x)


def _softplus(x: Any, beta: Any, threshold: Any, p2: Any) -> Any:
    z = x * beta
    return np.where(z > threshold, x, (_most(0, z) + _log1p(_exp(-np.abs(z)))) / beta)


def _log_sigmoid(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    return _least(0, x) - _log1p(_exp(-np.abs(x)))


def _softsign(x: Any, p0: Any, p1: Any, p2: Any) -> Any:
    t = _least(_MOST, np.abs(x))
    return _with_sign(t / (_f(1) + t), x)


_BY_NAME: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "leaky_relu": _leaky_relu, "elu": _elu, "gelu": _gelu, "gelu_tanh": _gelu_tanh,
    "silu": _silu, "mish": _mish, "hardswish": _hardswish, "hardsigmoid": _hardsigmoid,
    "sigmoid": _sigmoid, "tanh": _tanh, "softplus": _softplus, "log_sigmoid": _log_sigmoid,
    "softsign": _softsign,
}  # fmt: skip


def activate(x: F32, activation: Activation) -> F32:
    """Apply an activation to each value."""
    with np.errstate(all="ignore"):
        p0, p1, p2 = (np.float32(p) for p in activation.parameters)
        y: F32 = _BY_NAME[activation.name](np.asarray(x, np.float32), p0, p1, p2)
        return y.astype(np.float32, copy=False)


def prelu(x: F32, slopes: F32) -> F32:
    """``x * slope`` below 0, a slope a value. Infinity times 0 is 0."""
    with np.errstate(all="ignore"):
        bound = np.where(slopes == 0, -_MOST, -_INF)
        bounded = np.where(bound > x, bound, x)
        y: F32 = np.where(x < 0, bounded * slopes, x)
        return y


def affine(x: F32, multiplier: F32, offset: F32) -> F32:
    """``x * multiplier + offset`` with one rounding."""
    return fma(x, multiplier, offset)


def _row_sums(x: Any) -> Any:
    """``[rows, n]`` to ``[rows]``: 16 partial sums, then halves onto halves."""
    rows, n = x.shape
    sums = np.zeros((rows, 16), np.float32)
    for i in range(n):
        sums[:, i % 16] += x[:, i]
    for half in (8, 4, 2, 1):
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0]


def _shifted(x: Any) -> Any:
    top = np.fmax.reduce(x, axis=1, initial=-_INF, keepdims=True)
    return x - top


def softmax(x: F32) -> F32:
    """``[rows, n]``; a row with NaN or infinity, or of -inf alone, is NaN."""
    with np.errstate(all="ignore"):
        e = _exp(_shifted(x))
        y: F32 = e / _row_sums(e)[:, None]
        return y


def log_softmax(x: F32) -> F32:
    """Compute ``(x - m) - log(sum)``, m the largest of a row."""
    with np.errstate(all="ignore"):
        shifted = _shifted(x)
        y: F32 = shifted - _log(_row_sums(_exp(shifted)))[:, None]
        return y


def layer_norm(x: F32, weight: F32 | None, bias: F32 | None, epsilon: float) -> F32:
    """``[rows, n]``: mean, the variance of the differences, then scale, weight and bias."""
    with np.errstate(all="ignore"):
        count = np.float32(x.shape[1])
        centered = x - (_row_sums(x) / count)[:, None]
        variance = _row_sums(centered * centered) / count
        scale = _f(1) / np.sqrt(variance + _f(epsilon))
        ones, zeros = np.ones(x.shape[1], np.float32), np.zeros(x.shape[1], np.float32)
        w, b = ones if weight is None else weight, zeros if bias is None else bias
        return fma(centered * scale[:, None], w, b)
