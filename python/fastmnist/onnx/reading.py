"""An ONNX file as nodes and arrays: parsed, checked for sizes, and nothing run.

The file may be damaged, or made to do harm: what it says of sizes is held against the bytes that
are there before anything is allocated, and external data is read from the file's own folder only.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastmnist.onnx.expressions import Array
from fastmnist.onnx.needed import onnx_package

MOST_NODES = 100_000
MOST_DIMENSIONS = 8
# What an attribute became an input of: its index, of these operators.
_AXES = {"ReduceMean", "ReduceSum", "ReduceMin", "ReduceMax", "Squeeze", "Unsqueeze"}
# What ONNX Runtime has once more under its own name, for codes of 16 bits.
_ALSO_MICROSOFTS = ("com.microsoft.QuantizeLinear", "com.microsoft.DequantizeLinear")


class Unreadable(ValueError):
    """A file that cannot be imported, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"path: {why}")


@dataclass(eq=False)
class Node:
    """An operator of the file.

    Attributes
    ----------
    kind : str
        Its name; of others than ONNX's own behind their domain.
    inputs, outputs : tuple of str
        Names of values, "" where an optional one is left out.
    attributes : dict
        Those that are given; axes too where they are an input, and constant.
    name : str
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    name: str = ""

    def input(self, index: int) -> str:
        """Name of an input; "" if it is not given."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def __str__(self) -> str:
        return f"{self.kind} ('{self.name or next(iter(self.outputs), '')}')"


@dataclass(eq=False)
class Port:
    """An input or output of the file: its name, element type (ONNX's number), and shape."""

    name: str
    element: int
    shape: list[int | str]


@dataclass(eq=False)
class File:
    """What a file holds."""

    nodes: list[Node]
    inputs: list[Port]
    outputs: list[Port]
    constants: dict[str, Array]
    opset: int
    size: int
    about: Mapping[str, str] = field(default_factory=dict)


def read_file(path: Path) -> File:
    """Read a file.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no ONNX file, is damaged, or holds what no model of layers needs.
    """
    onnx = onnx_package()
    content = path.read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors have no common class across versions
        raise Unreadable(f"expected an ONNX file, got one that cannot be parsed: {error}") from None
    graph = model.graph
    if not graph.node or not graph.output:
        raise Unreadable("expected an ONNX file with operators and outputs, got none")
    if len(graph.node) > MOST_NODES:
        raise Unreadable(f"expected at most {MOST_NODES:,} operators, got {len(graph.node):,}")
    if len(graph.sparse_initializer) or len(model.functions):
        raise Unreadable("expected plain arrays and operators, got sparse ones or functions")
    constants: dict[str, Array] = {}
    for proto in graph.initializer:
        constants[proto.name] = array_of(proto, path.parent)
    nodes = [_node(proto, path.parent) for proto in graph.node]
    inputs = [_port(port) for port in graph.input if port.name not in constants]
    return File(
        nodes,
        inputs,
        [_port(port) for port in graph.output],
        constants,
        _opset(model),
        len(content) + sum(array.nbytes for array in constants.values()),
        {prop.key: prop.value for prop in model.metadata_props},
    )


def _opset(model: Any) -> int:
    found = [int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")]
    if len(found) != 1:
        raise Unreadable(f"expected one version of ONNX's operators, got {found or 'none'}")
    if found[0] < 7:
        raise Unreadable(
            f"expected opset 7 or newer, got {found[0]}: onnx.version_converter makes it newer"
        )
    return found[0]


def _port(port: Any) -> Port:
    kind = port.type.WhichOneof("value")
    if kind != "tensor_type":
        return Port(port.name, 0, [])
    dims = port.type.tensor_type.shape.dim
    shape = [int(d.dim_value) if d.HasField("dim_value") else str(d.dim_param) for d in dims]
    return Port(port.name, int(port.type.tensor_type.elem_type), shape)


def _node(proto: Any, folder: Path) -> Node:
    domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
    attributes = {a.name: _attribute(a, folder) for a in proto.attribute}
    kind = f"{domain}{proto.op_type}"
    if kind in _ALSO_MICROSOFTS:
        kind = proto.op_type
    return Node(kind, tuple(proto.input), tuple(proto.output), attributes, proto.name)


def _attribute(proto: Any, folder: Path) -> Any:
    onnx = onnx_package()
    kinds = onnx.AttributeProto
    if proto.ref_attr_name:
        raise Unreadable(f"expected attributes with values, got a reference in '{proto.name}'")
    if proto.type == kinds.TENSOR:
        return array_of(proto.t, folder)
    if proto.type == kinds.STRING:
        return proto.s.decode("utf-8", "replace")
    if proto.type == kinds.FLOAT:
        return float(proto.f)
    if proto.type == kinds.INT:
        return int(proto.i)
    if proto.type == kinds.FLOATS:
        return tuple(proto.floats)
    if proto.type == kinds.INTS:
        return tuple(proto.ints)
    return None  # text or a graph within: no operator that we know needs one


# ---- arrays --------------------------------------------------------------------------------------

# By the number of an element type: NumPy's, and in which field numbers stand that are no raw bytes.
_TYPES: dict[int, tuple[str, str]] = {
    1: ("float32", "float_data"), 2: ("uint8", "int32_data"), 3: ("int8", "int32_data"),
    4: ("uint16", "int32_data"), 5: ("int16", "int32_data"), 6: ("int32", "int32_data"),
    7: ("int64", "int64_data"), 9: ("bool", "int32_data"), 10: ("float16", "int32_data"),
    11: ("float64", "double_data"), 12: ("uint32", "uint64_data"), 13: ("uint64", "uint64_data"),
}  # fmt: skip
_STRING, _UINT4, _INT4 = 8, 21, 22


def array_of(proto: Any, folder: Path) -> Array:
    """The numbers of a tensor, once their count is what its shape says.

    Raises
    ------
    ValueError
        If it is not, or the type is none that layers have.
    """
    name, shape = proto.name, tuple(int(d) for d in proto.dims)
    if any(d < 0 for d in shape) or len(shape) > MOST_DIMENSIONS:
        raise Unreadable(f"expected a shape for tensor '{name}', got {[*shape]}")
    count = math.prod(shape)
    if proto.data_type == _STRING:
        return np.array([s.decode("utf-8", "replace") for s in proto.string_data], object)
    if proto.data_type in (_UINT4, _INT4):
        return _nibbles(proto, shape, count, folder)
    if proto.data_type not in _TYPES:
        raise Unreadable(
            f"expected tensors of float32, int8 and the like, got element type {proto.data_type} "
            f"in '{name}'"
        )
    dtype, where = _TYPES[proto.data_type]
    raw = _raw(proto, folder)
    if raw is not None:
        if len(raw) != count * np.dtype(dtype).itemsize:
            raise Unreadable(
                f"expected {count * np.dtype(dtype).itemsize:,} bytes of tensor '{name}', "
                f"got {len(raw):,}"
            )
        little = np.dtype(dtype).newbyteorder("<")
        return np.frombuffer(raw, little).astype(dtype).reshape(shape)
    numbers = getattr(proto, where)
    if len(numbers) != count:
        raise Unreadable(f"expected {count:,} numbers of tensor '{name}', got {len(numbers):,}")
    if dtype == "float16":
        return np.array(numbers, np.int64).astype(np.uint16).view(np.float16).reshape(shape)
    wide = {"i": np.int64, "u": np.uint64, "b": np.int64}.get(np.dtype(dtype).kind, dtype)
    return np.array(numbers, wide).astype(dtype).reshape(shape)


def _nibbles(proto: Any, shape: tuple[int, ...], count: int, folder: Path) -> Array:
    raw = _raw(proto, folder)
    if raw is None:
        raw = bytes(n & 255 for n in proto.int32_data)
    if len(raw) != (count + 1) // 2:
        raise Unreadable(
            f"expected {(count + 1) // 2:,} bytes of tensor '{proto.name}', got {len(raw):,}"
        )
    packed = np.frombuffer(raw, np.uint8)
    flat = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count]
    if proto.data_type == _INT4:
        flat = ((flat ^ 8).astype(np.int16) - 8).astype(np.int8)  # the upper bit is the sign
    made: Array = flat.reshape(shape)
    return made


def _raw(proto: Any, folder: Path) -> bytes | None:
    """The bytes of a tensor, perhaps from a file beside it; None if it is written as numbers."""
    if proto.data_location == onnx_package().TensorProto.EXTERNAL:
        return _external(proto, folder)
    return bytes(proto.raw_data) if proto.HasField("raw_data") else None


def _external(proto: Any, folder: Path) -> bytes:
    told = {entry.key: entry.value for entry in proto.external_data}
    location = told.get("location", "")
    home = Path(os.path.realpath(folder))
    try:
        path = Path(os.path.realpath(home / location))
        inside = bool(location) and home in path.parents and path.is_file()
        offset, length = int(told.get("offset", "0")), int(told.get("length", "-1"))
    except (ValueError, OSError):
        inside, offset, length = False, 0, 0
    if not inside or Path(location).is_absolute():
        raise Unreadable(
            f"expected the numbers of tensor '{proto.name}' in a file of the same folder, got "
            f"{location!r}"
        )
    size = path.stat().st_size
    length = size - offset if length == -1 else length
    if offset < 0 or length < 0 or offset + length > size:
        raise Unreadable(
            f"expected bytes {offset:,} to {offset + length:,} of {location!r}, got {size:,} bytes"
        )
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def take_inputs_as_attributes(file: File) -> None:
    """Let axes be attributes wherever they stand: newer opsets have them as inputs."""
    for node in file.nodes:
        if node.kind in _AXES and len(node.inputs) == 2:
            axes = file.constants.get(node.inputs[1])
            if axes is not None and axes.dtype.kind == "i" and axes.ndim <= 1:
                node.attributes["axes"] = tuple(int(a) for a in axes.reshape(-1))
                node.inputs = node.inputs[:1]
        if node.kind.startswith("Reduce"):
            node.attributes.setdefault("keepdims", 1)
            node.attributes.pop("noop_with_empty_axes", None)
