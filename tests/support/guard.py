"""NumPy arrays beside pages that cannot be touched: one byte too far ends the process.

A kernel that reads or writes outside its arrays usually gets away with it, and a test with it. In
these buffers it does not: the array's last byte (or its first) is next to a ``PROT_NONE`` page.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Edge = Literal["first", "last"]
EDGES: tuple[Edge, Edge] = ("first", "last")
Scalar = TypeVar("Scalar", bound=np.generic)

_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_NO_ACCESS, _READ, _WRITE = 0, 1, 2


def guarded_empty(
    shape: tuple[int, ...], dtype: npt.DTypeLike, edge: Edge = "last"
) -> npt.NDArray[Any]:
    """Make an array whose first or last byte touches an unreadable page; the other end has room."""
    count = int(np.prod(shape))
    size = count * np.dtype(dtype).itemsize
    body = max(-(-size // _PAGE), 1) * _PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base = _libc.mmap(None, body + 2 * _PAGE, _NO_ACCESS, flags, -1, 0)
    if base in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(f"mmap of {body} bytes: errno {ctypes.get_errno()}")
    if _libc.mprotect(base + _PAGE, body, _READ | _WRITE) != 0:
        raise MemoryError(f"mprotect: errno {ctypes.get_errno()}")
    start = base + _PAGE + (body - size if edge == "last" else 0)
    memory = (ctypes.c_ubyte * max(size, 1)).from_address(start)
    # NumPy arrays and torch tensors made of it keep `memory` alive; the pages go with it.
    weakref.finalize(memory, _libc.munmap, base, body + 2 * _PAGE).atexit = False
    return np.frombuffer(memory, dtype=dtype, count=count).reshape(shape)


def guarded(values: npt.NDArray[Scalar], edge: Edge = "last") -> npt.NDArray[Scalar]:
    """Copy `values` into a guarded array."""
    copy = guarded_empty(values.shape, values.dtype, edge)
    copy[...] = values
    return copy


def guarded_read_only(values: npt.NDArray[Scalar], edge: Edge = "last") -> npt.NDArray[Scalar]:
    """Copy `values` into a guarded array that NumPy does not allow to be written."""
    copy = guarded(values, edge)
    copy.flags.writeable = False
    return copy
