"""A compressed file's one tensor: descriptions as text, then the arrays, all in one coded stream.

The stream is ``csrc/files/coded_stream.h``'s. In it come the length of a text, the text, and the
arrays in the order that the text tells. The text is the JSON that other files have as metadata; in
it, each model's field "tensors" lists its arrays:

    ["1.", 300, 784, "qbrn--"]           an int8 layer's: prefix, outputs, inputs, forms
    ["norm.weight", "f4", "r", [300]]    any other: name, dtype, form, shape

A layer has ``weight_int8`` as coded weights, and then the tensors of :data:`_OF_LAYER`, each in the
form that its letter names, "-" where it is absent:

    r    records of an element each, its highest byte first
    h    float32 whose lower two bytes are zero, as of bfloat16: the upper two
    e    all elements are equal: the first, as r        (in layers)
    q    all are equal: the first, as h                 (in layers)
    n    a number from 0 on                             (in layers, of no dimension)
    w    int8, two dimensions: coded weights
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist._core import CodedWriter
from fastmnist.files.records import Arrays, averaged_zeros

_Array = npt.NDArray[Any]
# Name, dtype and of which sizes a shape is made, behind "weight_int8".
_OF_LAYER = (
    ("weight_scale", "f4", ("outputs",)),
    ("bias", "f4", ("outputs",)),
    ("input_scale", "f4", ()),
    ("input_zero_point", "i4", ()),
    ("input_multiplier", "f4", ("inputs",)),
    ("input_offset", "f4", ("inputs",)),
)
_DTYPES = re.compile("b1|[iu][1248]|f[248]|c8")


def compressed(content: dict[str, Any], models: Mapping[str, tuple[Any, Arrays]]) -> bytes:
    """Give the tensor's bytes.

    Raises
    ------
    ValueError
        Naming an array whose dtype no file holds.
    """
    writer = CodedWriter()
    told = {
        name: {**_shorter(description), "tensors": _listed(arrays)}
        for name, (description, arrays) in models.items()
    }
    text = json.dumps({**content, "models": told}, separators=(",", ":")).encode()
    writer.number(len(text))
    writer.bytes(text)
    for name, (_, arrays) in models.items():
        for row in told[name]["tensors"]:
            for key, form in _forms(row):
                _write(writer, arrays[key], form)
    return writer.finish()


def _shorter(value: Any) -> Any:
    """The same description, calibration's zeros averaged."""
    if isinstance(value, list):
        return [_shorter(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: averaged_zeros(part) if key == "input_zeros" else _shorter(part)
        for key, part in value.items()
    }


def _listed(arrays: Arrays) -> list[list[Any]]:
    """The field "tensors": int8 layers first."""
    rows: list[list[Any]] = []
    rest = dict(arrays)
    for key, array in arrays.items():
        if key.endswith("weight_int8") and _is_weights(array):
            rows.append(_layer_row(key.removesuffix("weight_int8"), array, rest))
            for used, _ in _forms(rows[-1]):
                del rest[used]
    for key, array in rest.items():
        dtype = array.dtype.str[1:]
        if not _DTYPES.fullmatch(dtype):
            raise ValueError(f"tensor '{key}': expected numbers of at most 8 bytes, got {dtype}")
        form = "w" if _is_weights(array) else _form(array)
        rows.append([key, dtype, form, [*array.shape]])
    return rows


def _layer_row(prefix: str, weight: _Array, arrays: Arrays) -> list[Any]:
    sizes = {"outputs": weight.shape[0], "inputs": weight.shape[1]}
    forms = ""
    for name, dtype, of in _OF_LAYER:
        part, shape = arrays.get(prefix + name), tuple(sizes[size] for size in of)
        # Tensors that are not as a layer has them are stored as they are.
        is_its = part is not None and part.dtype == dtype and part.shape == shape
        forms += _form(part, in_layer=True) if part is not None and is_its else "-"
    return [prefix, *sizes.values(), forms]


def _is_weights(array: _Array) -> bool:
    return array.dtype == np.int8 and array.ndim == 2 and array.size > 0


def _form(array: _Array, in_layer: bool = False) -> str:
    bits = np.ascontiguousarray(array).view(np.uint32) if array.dtype == np.float32 else None
    if in_layer and array.dtype == np.int32 and array.ndim == 0 and array >= 0:
        return "n"
    is_half = bits is not None and array.size > 0 and not (bits & 0xFFFF).any()
    if in_layer and bits is not None and bits.size > 1 and (bits == bits.flat[0]).all():
        return "q" if is_half else "e"
    return "h" if is_half else "r"


def _forms(row: list[Any]) -> list[tuple[str, str]]:
    """The arrays of one row of the field "tensors", by name, each with its form."""
    if len(row) == 4 and isinstance(row[3], str):
        names = [
            (f"{row[0]}{name}", form) for (name, *_), form in zip(_OF_LAYER, row[3], strict=True)
        ]
        return [(f"{row[0]}weight_int8", "w"), *(pair for pair in names if pair[1] != "-")]
    return [(row[0], row[2])]


def _write(writer: CodedWriter, array: _Array, form: str) -> None:
    if form == "n":
        writer.number(int(array))
    elif form == "w":
        writer.weights(np.ascontiguousarray(array))
    else:
        first = array.reshape(-1)[:1] if form in "eq" else array.reshape(-1)
        records = first.astype(first.dtype.newbyteorder(">"))
        if form in "hq":
            records = records.view(np.uint8).reshape(-1, 4)[:, :2]
        writer.bytes(records.tobytes(), _stride(array.dtype, form))


def _stride(dtype: np.dtype[Any], form: str) -> int:
    return 2 if form in "hq" else dtype.itemsize
