"""include/fastmnist/fastmnist.h from Python, by ctypes: what a C program sees of the library."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fastmnist
from fastmnist.files.container import to_bytes
from fastmnist.files.graph_records import compiled_to

OK, INVALID, NO_MEMORY, NOT_FOUND = range(4)
STORED, FIXED, MEASURED = range(3)
FLOAT32, PIXELS = range(2)

_SIZES = (
    "bytes", "inputs", "outputs", "models", "input_size", "output_size", "input_shape",
    "output_shape",
)  # fmt: skip
_TEXTS = ("version", "isa", "last_error", "input_name", "model_name", "description")


class Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_size_t),
        ("plan", ctypes.c_int),
        ("measurements", ctypes.c_char_p),
    )


class Rows(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("values", ctypes.c_void_p))


def library() -> ctypes.CDLL:
    found = ctypes.CDLL(str(Path(fastmnist.__file__).parent / "libfastmnist.so"))
    for name in _SIZES:
        getattr(found, f"fastmnist_{name}").restype = ctypes.c_size_t
    for name in _TEXTS:
        getattr(found, f"fastmnist_{name}").restype = ctypes.c_char_p
    return found


LIBRARY = library()


class Failed(Exception):
    def __init__(self, status: int) -> None:
        self.status, self.text = status, LIBRARY.fastmnist_last_error().decode()
        super().__init__(self.text)


def check(status: int) -> None:
    if status != OK:
        raise Failed(status)


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def assert_answers_like(net: Any, *inputs: np.ndarray) -> None:
    """A compiled model answers from a file, by the C functions, with the same bits."""
    content = to_bytes({"m": compiled_to(net.network)}, True)
    got, want = Model(content).run(*inputs), net(*inputs)
    if isinstance(want, Mapping):
        want = [*want.values()]
    wanted = [*want] if isinstance(want, tuple | list) else [want]
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.dtype == theirs.dtype
        both_nan = np.isnan(ours) & np.isnan(theirs.reshape(ours.shape))
        bits = np.dtype(f"u{ours.itemsize}")
        same = ours.view(bits) == np.ascontiguousarray(theirs).reshape(ours.shape).view(bits)
        assert (same | both_nan).all()


class Model:
    """A loaded model, freed with the object."""

    def __init__(self, source: Path | bytes, name: str | None = None, plan: int = FIXED) -> None:
        self.handle = ctypes.c_void_p()
        options = Options(ctypes.sizeof(Options), plan, None)
        named = None if name is None else name.encode()
        if isinstance(source, bytes):
            status = LIBRARY.fastmnist_load_memory(
                source, ctypes.c_size_t(len(source)), named, ctypes.byref(options),
                ctypes.byref(self.handle),
            )  # fmt: skip
        else:
            status = LIBRARY.fastmnist_load(
                str(source).encode(), named, ctypes.byref(options), ctypes.byref(self.handle)
            )
        check(status)

    def __del__(self) -> None:
        LIBRARY.fastmnist_free(self.handle)

    def size(self, what: str, i: int = 0) -> int:
        size: int = getattr(LIBRARY, f"fastmnist_{what}")(self.handle, ctypes.c_size_t(i))
        return size

    def shape(self, what: str, i: int = 0) -> list[int]:
        sizes = (ctypes.c_size_t * 8)()
        function = getattr(LIBRARY, f"fastmnist_{what}_shape")
        count = function(self.handle, ctypes.c_size_t(i), sizes, ctypes.c_size_t(8))
        return [*sizes][:count]

    def run(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Each output as ``[rows, size]``."""
        rows = len(inputs[0])
        given = [np.ascontiguousarray(x) for x in inputs]
        kinds = [PIXELS if x.dtype == np.uint8 else FLOAT32 for x in given]
        arrays = (Rows * len(given))(
            *(Rows(kind, x.ctypes.data) for kind, x in zip(kinds, given, strict=True))
        )
        count = LIBRARY.fastmnist_outputs(self.handle)
        out = [
            np.full(
                (rows, self.size("output_size", i)), 77,
                np.int64 if self.size("gives_indexes", i) else np.float32,
            )
            for i in range(count)
        ]  # fmt: skip
        to = (ctypes.c_void_p * count)(*(y.ctypes.data for y in out))
        check(
            LIBRARY.fastmnist_run(
                self.handle, arrays, ctypes.c_size_t(len(given)), ctypes.c_size_t(rows), to,
                ctypes.c_size_t(count),
            )
        )  # fmt: skip
        return out

    def predict(self, x: np.ndarray) -> np.ndarray:
        name = "u8" if x.dtype == np.uint8 else "f32"
        x = np.ascontiguousarray(x)
        out = np.full((len(x), self.size("output_size")), 77, np.float32)
        function = getattr(LIBRARY, f"fastmnist_predict_{name}")
        check(function(self.handle, pointer(x), ctypes.c_size_t(len(x)), pointer(out)))
        return out

    def classify(self, x: np.ndarray) -> np.ndarray:
        name = "u8" if x.dtype == np.uint8 else "f32"
        x = np.ascontiguousarray(x)
        out = np.full(len(x), -1, np.int64)
        function = getattr(LIBRARY, f"fastmnist_classify_{name}")
        check(function(self.handle, pointer(x), ctypes.c_size_t(len(x)), pointer(out)))
        return out
