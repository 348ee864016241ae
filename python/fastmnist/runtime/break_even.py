"""From which share of zeros on sparse weights are faster: measured per shape. Free of torch."""

from __future__ import annotations

import functools

import fastmnist._core as _core
from fastmnist.runtime.planning import ROWS, Shape, Times, is_sparse, synthetic_times

# What is measured: random masks, as unstructured pruning makes them, with these shares of zeros.
ZEROS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
_NOISE = 0.97
NEVER = 2.0


def break_even(shape: Shape) -> dict[int, float]:
    """Find, per class of rows, the least share of zeros at which a sparse kernel wins.

    Parameters
    ----------
    shape : Shape
        The layer's inputs and outputs, and whether those are codes.

    Returns
    -------
    dict of int to float
        For each of :data:`~fastmnist.runtime.planning.ROWS` one of :data:`ZEROS`, at which and
        above which the best sparse kernel was faster than the best dense one by more than the
        noise (3 %); :data:`NEVER` where there is none. Remembered as plans are; measured it
        takes some milliseconds for small layers, and a few seconds for 4096 x 4096.
    """
    return _break_even(shape, tuple(_core.linear_kernels()))


@functools.cache
def _break_even(shape: Shape, kernels: tuple[str, ...]) -> dict[int, float]:
    found = dict.fromkeys(ROWS, NEVER)
    lost: set[int] = set()
    for zeros in reversed(ZEROS):
        times = synthetic_times(shape, zeros)
        for rows, by_kernel in zip(ROWS, times, strict=True):
            if _sparse_wins(by_kernel) and rows not in lost:
                found[rows] = zeros
            else:
                lost.add(rows)
        if len(lost) == len(ROWS):
            break
    return found


def _sparse_wins(times: Times) -> bool:
    sparse = [time for name, time in times.items() if is_sparse(name)]
    dense = [time for name, time in times.items() if not is_sparse(name)]
    return bool(sparse) and min(sparse) < _NOISE * min(dense)
