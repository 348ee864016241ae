"""The file: safetensors, with a JSON description in its metadata. Free of torch.

Tensors are named ``<model>/<state-dict key>``; the metadata entry ``fastmnist`` describes each
model. A tensor with many zeros is two, ``<name>.bitmask`` and ``<name>.values``
(:mod:`fastmnist.int8.sparse_encoding`), and the metadata gives its shape. Nothing in a file is
executed or unpickled, nothing in it is trusted: every field and every tensor's dtype and shape is
checked before use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from fastmnist.files.atomic import check_path, write_atomically
from fastmnist.files.fields import required_field
from fastmnist.files.format1 import upgraded
from fastmnist.files.records import Arrays
from fastmnist.int8.sparse_encoding import encode

FORMAT = 2
KEY = "fastmnist"


def write(
    path: str | os.PathLike[str], models: Mapping[str, tuple[Any, Arrays]], single: bool
) -> None:
    """Write descriptions and tensors, all or nothing: a failure leaves what was there before.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written to.
    """
    tensors: Arrays = {}
    described: dict[str, Any] = {}
    for name, (description, arrays) in models.items():
        sparse: dict[str, list[int]] = {}
        for key, array in arrays.items():
            taken = f"{key}.bitmask" in arrays or f"{key}.values" in arrays
            encoded = None if taken else encode(array)
            if encoded is None:
                tensors[f"{name}/{key}"] = np.ascontiguousarray(array).reshape(array.shape)
            else:
                sparse[key] = [*encoded.shape]
                tensors[f"{name}/{key}.bitmask"] = encoded.bitmask
                tensors[f"{name}/{key}.values"] = encoded.values
        # Files without are what earlier versions wrote, and read.
        described[name] = {**description, "sparse": sparse} if sparse else description
    text = json.dumps(
        {"format": FORMAT, "single": single, "models": described}, separators=(",", ":")
    )
    write_atomically(path, to_bytes(tensors, {KEY: text}))


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
            metadata = file.metadata() or {}
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
        raise ValueError(f"{target}: not a safetensors file, or cut short: {error}") from None
    if KEY not in metadata:
        raise ValueError(f"{target}: a safetensors file, but not one that fm.save wrote")
    try:
        content = json.loads(metadata[KEY])
        version = required_field(content, "format", int)
        if version not in (1, FORMAT):
            raise ValueError(f"format {version}: this version reads formats 1 and {FORMAT}")
        described = required_field(content, "models", dict)
        models = {}
        for name, description in described.items():
            if not isinstance(description, dict):
                raise ValueError(
                    f"model '{name}': expected a description, got {type(description).__name__}"
                )
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
            models[name] = upgraded(description, own) if version == 1 else (description, own)
        if not models:
            raise ValueError("field 'models': expected at least one")
        return models, content.get("single") is True
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{target}: {error}") from None
