"""A good file of one small model, to be changed into ones that mean harm, and the list of those."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]
_DTYPES = {"int8": "I8", "uint8": "U8", "float32": "F32", "int32": "I32", "bool": "BOOL"}

ATTACKS: dict[str, tuple[str, Callable[[], bytes]]] = {}


def attack(tries: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    def enter(make: Callable[[], bytes]) -> Callable[[], bytes]:
        ATTACKS[make.__name__] = (tries, make)
        return make

    return enter


def description() -> dict[str, Any]:
    layer = {"name": "0", "clamp": [0.0, "inf"]}
    network = {"kind": "static", "pixels": None, "layers": [layer, {**layer, "name": "2"}]}
    return {"type": "compiled", "network": network}


def tensors() -> Tensors:
    rng = np.random.default_rng(0)
    made: Tensors = {}
    for i, (outputs, inputs) in enumerate(((6, 8), (3, 6))):
        prefix = f"m/network.layers.{i}."
        made[f"{prefix}weight_int8"] = rng.integers(-9, 9, (outputs, inputs)).astype(np.int8)
        made[f"{prefix}weight_scale"] = np.full(outputs, 0.01, np.float32)
        made[f"{prefix}bias"] = np.zeros(outputs, np.float32)
        made[f"{prefix}input_scale"] = np.array(0.1, np.float32)
        made[f"{prefix}input_zero_point"] = np.array(0, np.int32)
    return made


def container(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def parts(
    told: Any = None, numbers: Tensors | None = None, **content: Any
) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file, with right checksums unless `content` says otherwise."""
    numbers = tensors() if numbers is None else numbers
    whole: dict[str, Any] = {
        "format": 2, "reader": 2, "features": ["checksums"], "single": True,
        "models": {"m": description() if told is None else told},
        "checksums": {name: zlib.crc32(array.tobytes()) for name, array in numbers.items()},
        **content,
    }  # fmt: skip
    header: dict[str, Any] = {"__metadata__": {"fastmnist": json.dumps(whole)}}
    at = 0
    for name, array in numbers.items():
        header[name] = {
            "dtype": _DTYPES[str(array.dtype)],
            "shape": [*array.shape],
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    return header, b"".join(array.tobytes() for array in numbers.values())


def good(told: Any = None, numbers: Tensors | None = None, **content: Any) -> bytes:
    return container(*parts(told, numbers, **content))


def with_place(name: str, **changed: Any) -> bytes:
    header, data = parts()
    header[f"m/network.layers.0.{name}"].update(changed)
    return container(header, data)


def with_tensor(name: str, array: np.ndarray) -> bytes:
    return good(None, {**tensors(), f"m/network.layers.0.{name}": array})


def with_network(**changed: Any) -> bytes:
    told = description()
    told["network"].update(changed)
    return good(told)
