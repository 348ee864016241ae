"""The file: safetensors, with a JSON description in its metadata. Free of torch.

Tensors are named ``<model>/<state-dict key>``; the metadata entry ``fastmnist`` describes each
model. A tensor with many zeros is two, ``<name>.bitmask`` and ``<name>.values``
(:mod:`fastmnist.sparse_encoding`), and the metadata gives its shape. Nothing in a file is executed
or unpickled, nothing in it is trusted: every field and every tensor's dtype and shape is checked
before use.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from fastmnist.canonical import QuantizedNetwork, clamp_from_json, field, from_arrays
from fastmnist.sparse_encoding import Encoded, decode, encode

FORMAT = 1
KEY = "fastmnist"
Arrays = dict[str, npt.NDArray[Any]]


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


def check_path(path: Any) -> None:
    """Raise TypeError if `path` is no path."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path: expected a str or a path, got {type(path).__name__}")


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace the file at `path` by `content`, or leave it as it was.

    Raises
    ------
    OSError
        Naming the path, if it cannot be written.
    """
    # Through links; and what is no file (/dev/stdout, a pipe) is written to, never replaced.
    check_path(path)
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        target.write_bytes(content)
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise type(error)(error.errno, f"cannot write: {error.strerror}", str(target)) from None


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
        if field(content, "format", int) != FORMAT:
            raise ValueError(f"format {content['format']}: this version reads format {FORMAT}")
        described = field(content, "models", dict)
        models = {}
        for name, description in described.items():
            if not isinstance(description, dict):
                raise ValueError(f"model '{name}': expected a description")
            prefix = f"{name}/"
            own = {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}
            models[name] = (description, own)
        if not models:
            raise ValueError("field 'models': expected at least one")
        return models, content.get("single") is True
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{target}: {error}") from None


def dense_arrays(description: dict[str, Any], arrays: Arrays) -> Arrays:
    """Put the arrays that are stored without their zeros among a model's others.

    Raises
    ------
    ValueError
        Naming the tensor whose parts are missing or do not belong together.
    """
    sparse = description.get("sparse", {})
    if not isinstance(sparse, dict):
        raise ValueError("field 'sparse': expected a table of shapes")
    dense = dict(arrays)
    for key, shape in sparse.items():
        bitmask, values = (dense.pop(f"{key}.{part}", None) for part in ("bitmask", "values"))
        if key in dense or bitmask is None or values is None or not isinstance(shape, list):
            raise ValueError(f"tensor '{key}': expected a shape, bitmask and values, nothing else")
        try:
            dense[key] = decode(Encoded(bitmask, values, tuple(shape)))
        except ValueError as error:
            raise ValueError(f"tensor '{key}': {error}") from None
    return dense


def network_from(description: dict[str, Any], arrays: Arrays) -> QuantizedNetwork:
    """Read one model's record as a chain of quantized layers.

    Raises
    ------
    ValueError
        If the record is damaged, or is no such chain.
    """
    arrays = dense_arrays(description, arrays)
    if description.get("type") == "compiled":
        return from_arrays(arrays, "network.", field(description, "network", dict))
    root = field(description, "replaced", dict).get("")
    if isinstance(root, dict) and root.get("type") == "quantized":
        return from_arrays(arrays, "", root)
    steps = description.get("chain")
    replaced = description.get("replaced")
    if (
        isinstance(replaced, dict)
        and "" in replaced
        and field(replaced[""], "type", str) == "quantized"
    ):
        return from_arrays(arrays, "", replaced[""])
    network: QuantizedNetwork | None = None
    for step in steps if isinstance(steps, list) else []:
        kind, path = field(step, "type", str), step.get("path")
        if kind == "quantized" and isinstance(replaced, dict) and isinstance(path, str):
            part = from_arrays(arrays, f"{path}.", field(replaced, path, dict))
            network = part if network is None else network.then(part)
        elif kind == "clamp" and network is not None:
            network = network.clamped(clamp_from_json(step))
        elif kind not in ("flatten", "rows", "identity", "dropout"):
            raise ValueError(f"it has a float layer ('{path}'), which needs torch: use fm.load")
    if network is None:
        raise ValueError("it is no chain of quantized layers: use fm.load with into=")
    return network
