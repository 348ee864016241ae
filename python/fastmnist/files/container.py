"""The file: safetensors, with a JSON description in its metadata. Free of torch.

Tensors are named ``<model>/<state-dict key>``; the metadata entry ``fastmnist`` describes each
model. Some tensors have shorter forms (:mod:`fastmnist.files.short_forms`). A compressed file has
no metadata and one tensor, ``fastmnist``, that holds all of it (:mod:`fastmnist.files.compressed`).
Nothing in a file is executed or unpickled, nothing in it is trusted: every field and every tensor's
dtype and shape is checked before use. ``docs/format.md`` has it byte for byte.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as tensors_to_bytes

from fastmnist.files.atomic import check_path, write_atomically
from fastmnist.files.compressed import CompressedReader, compressed
from fastmnist.files.fields import required_field
from fastmnist.files.format1 import upgraded
from fastmnist.files.records import Arrays
from fastmnist.files.short_forms import shortened

FORMAT = 2
KEY = "fastmnist"


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
    content = {"format": FORMAT, "single": single}
    return _small(content, models) if compress else _plain(content, models)


def _plain(content: dict[str, Any], models: Mapping[str, tuple[Any, Arrays]]) -> bytes:
    tensors: Arrays = {}
    described: dict[str, Any] = {}
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
    text = json.dumps({**content, "models": described}, separators=(",", ":"))
    return bytes(tensors_to_bytes(tensors, {KEY: text}))


def _small(content: dict[str, Any], models: Mapping[str, tuple[Any, Arrays]]) -> bytes:
    payload = compressed(content, models)
    size = len(payload)
    about = {KEY: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    header = json.dumps(about, separators=(",", ":")).encode()
    return struct.pack("<Q", len(header)) + header + payload


def is_ours(file: Any) -> bool:
    """Whether an open safetensors file is one that :func:`write` wrote."""
    return KEY in (file.metadata() or {}) or [*file.keys()] == [KEY]


def read(path: str | os.PathLike[str]) -> tuple[dict[str, tuple[dict[str, Any], Arrays]], bool]:
    """Read what :func:`write` wrote: ``{model: (description, tensors)}`` and whether it was one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no file of fastmnist's, or was cut or changed.
    """
    check_path(path)
    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"path: expected a model file, got '{target}', which is no file")
    try:
        with safe_open(target, framework="numpy") as file:
            ours, metadata = is_ours(file), file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (
        SafetensorError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"{target}: expected a safetensors file, got another, or one cut short: {error}"
        ) from None
    if not ours:
        raise ValueError(
            f"{target}: expected a file that fm.save wrote, got another safetensors file"
        )
    try:
        if KEY in metadata:
            return _models(json.loads(metadata[KEY]), lambda name, _: _under(f"{name}/", arrays))
        reader = CompressedReader(arrays[KEY])
        models = _models(reader.content, lambda _, description: reader.arrays(description))
        reader.finish()
        return models
    except (MemoryError, ValueError, RecursionError) as error:
        raise ValueError(f"{target}: {error or 'more than the memory that there is'}") from None


def _under(prefix: str, arrays: Arrays) -> Arrays:
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}


def _models(
    content: Any, arrays_of: Callable[[str, dict[str, Any]], Arrays]
) -> tuple[dict[str, tuple[dict[str, Any], Arrays]], bool]:
    """The models of a file, and whether it was given one, after checking what there is of them."""
    version = required_field(content, "format", int)
    if version not in (1, FORMAT):
        raise ValueError(
            f"format: expected 1 or {FORMAT}, got {version}: a later fastmnist may read it"
        )
    models = {}
    for name, description in required_field(content, "models", dict).items():
        if not isinstance(description, dict):
            raise ValueError(
                f"model '{name}': expected a description, got {type(description).__name__}"
            )
        own = arrays_of(name, description)
        models[name] = upgraded(description, own) if version == 1 else (description, own)
    if not models:
        raise ValueError("field 'models': expected at least one")
    return models, content.get("single") is True
