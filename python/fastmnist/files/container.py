"""The file: safetensors, with a JSON description in its metadata. Free of torch.

Tensors are named ``<model>/<state-dict key>``; the metadata entry ``fastmnist`` describes each
model. Some tensors have shorter forms (:mod:`fastmnist.files.short_forms`). A compressed file has
no metadata and one tensor, ``fastmnist``, that holds all of it (:mod:`fastmnist.files.compressed`).
``docs/format.md`` has it byte for byte.

Written here, read natively (csrc/files/model_file.h): one reader serves Python and programs without
it. Nothing in a file is executed or unpickled, nothing in it is trusted.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastmnist._core as _core
from fastmnist.files.atomic import check_path, write_atomically
from fastmnist.files.compressed import compressed
from fastmnist.files.fields import required_field
from fastmnist.files.format1 import upgraded
from fastmnist.files.records import Arrays
from fastmnist.files.short_forms import FORMS, shortened

FORMAT = 2
KEY = "fastmnist"
# Numbers begin here, so that a program that maps the file finds them aligned.
_ALIGNMENT = 64
_DTYPES = {
    "b1": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "u4": "U32", "i4": "I32",
    "u8": "U64", "i8": "I64", "f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64",
}  # fmt: skip


# ---- to bytes ------------------------------------------------------------------------------------


def write(
    path: str | os.PathLike[str],
    models: Mapping[str, tuple[Any, Arrays]],
    single: bool,
    compress: bool = False,
) -> None:
    """Write descriptions and tensors, all or nothing: a failure leaves what was there before.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written to.
    """
    write_atomically(path, to_bytes(models, single, compress))


def to_bytes(
    models: Mapping[str, tuple[Any, Arrays]], single: bool, compress: bool = False
) -> bytes:
    """Give what :func:`write` writes."""
    if compress:
        _json({name: description for name, (description, _) in models.items()})
        payload = compressed({"format": FORMAT, "single": single}, models)
        size = len(payload)
        about = {KEY: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
        header = json.dumps(about, separators=(",", ":")).encode()
        return struct.pack("<Q", len(header)) + header + payload
    return _plain(models, single)


def _plain(models: Mapping[str, tuple[Any, Arrays]], single: bool) -> bytes:
    tensors: Arrays = {}
    described: dict[str, Any] = {}
    features = {"checksums"}
    for name, (description, arrays) in models.items():
        shapes: dict[str, dict[str, list[int]]] = {}
        for key, array in arrays.items():
            form, parts = shortened(key, array)
            if form is None or arrays.keys() & parts.keys():
                parts = {key: np.ascontiguousarray(array).reshape(array.shape)}
            else:
                shapes.setdefault(form, {})[key] = [*array.shape]
            tensors |= {f"{name}/{key}": part for key, part in parts.items()}
        # Files without are what earlier versions wrote, and read.
        described[name] = {**description, **shapes}
        features |= {*shapes} | ({"graph"} if "graph" in description else set())
    return _safetensors(
        tensors,
        {
            "format": FORMAT,
            "reader": FORMAT,
            "features": sorted(features),
            "single": single,
            "models": described,
        },
    )


def _safetensors(tensors: Arrays, content: dict[str, Any]) -> bytes:
    """The largest elements first, so that each tensor is aligned for its own."""
    order = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))
    content["checksums"] = {name: zlib.crc32(_bytes_of(array)) for name, array in order}
    header: dict[str, Any] = {"__metadata__": {KEY: _json(content)}}
    at = 0
    for name, array in order:
        header[name] = {
            "dtype": _DTYPES[array.dtype.str[1:]],
            "shape": [*array.shape],
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = _json(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    parts: list[Any] = [
        struct.pack("<Q", len(text)),
        text,
        *(_bytes_of(array) for _, array in order),
    ]
    return b"".join(parts)


def _json(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    if "\\ud" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"models: expected layers with Unicode names: {error}") from None
    return text


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    flat: Any = np.ascontiguousarray(little).reshape(-1).view(np.uint8)
    return memoryview(flat)


# ---- from bytes ----------------------------------------------------------------------------------


def is_ours(metadata: Mapping[str, str] | None, tensors: Iterable[str]) -> bool:
    """Whether a safetensors file is one that :func:`write` wrote."""
    return KEY in (metadata or {}) or [*tensors] == [KEY]


class SavedFile:
    """An open file: descriptions were read, and checked so far; arrays are when asked for.

    Attributes
    ----------
    names : tuple of str
        Of its models.
    format : int
        The version that wrote it.
    single : bool
        Whether :func:`write` was given one model, not several by name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it cannot be read.
    ValueError
        If it is no file of fastmnist's, or was cut or changed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        check_path(path)
        self._path = Path(path)
        if not self._path.is_file():
            raise FileNotFoundError(
                f"path: expected a model file, got '{self._path}', which is no file"
            )
        with self._path.open("rb"):  # Python's own words for what it may not read
            pass
        try:
            self._file = _core.ModelFile(os.fsencode(self._path))
            content = json.loads(self._file.content())
            self.format: int = content["format"]
            self._models: dict[str, dict[str, Any]] = required_field(content, "models", dict)
        except (MemoryError, ValueError, RecursionError) as error:
            raise self._damaged(error) from None
        self.names = tuple(self._models)
        self.single = content.get("single") is True

    def description(self, name: str) -> dict[str, Any]:
        """What is said of a model; nothing of it was checked."""
        return self._models[name]

    def model(self, name: str) -> tuple[dict[str, Any], Arrays]:
        """A model's description and arrays, as today's version describes them.

        Raises
        ------
        ValueError
            If they are damaged.
        """
        told = {
            key: value
            for key, value in self._models[name].items()
            if key not in FORMS and key != "tensors"
        }
        try:
            arrays = {key: self._file.array(name, key) for key in self._file.keys(name)}
        except (MemoryError, RuntimeError) as error:
            raise self._damaged(error) from None
        return upgraded(told, arrays) if self.format == 1 else (told, arrays)

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(f"{self._path}: {error or 'more than the memory that there is'}")


def read(path: str | os.PathLike[str]) -> SavedFile:
    """Open what :func:`write` wrote.

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        As :class:`SavedFile` does.
    """
    return SavedFile(path)
