"""What of a file depends on no input: computed once, in NumPy, and no larger than the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastmnist.onnx.expressions import Array
from fastmnist.onnx.reading import File, Node, Unreadable

# ONNX's numbers of element types that constants are cast to.
CAST_TO = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_,
           10: np.float16, 11: np.float64}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Coded:
    """A constant that is held as codes: ``(codes - zero_point) * scale``.

    Attributes
    ----------
    codes : int32 array
        The zero point is subtracted.
    scale : float32 array
        Of one number, or one for each index of `axis`.
    axis : int
    """

    codes: Array
    scale: Array
    axis: int

    def transposed(self) -> Coded:
        return Coded(self.codes.T, self.scale, 1 - self.axis)

    @property
    def values(self) -> Array:
        shape = [1] * self.codes.ndim
        if self.scale.size > 1:
            shape[self.axis] = -1
        made: Array = self.codes.astype(np.float32) * self.scale.reshape(shape)
        return made


def fold(file: File) -> dict[str, Coded]:
    """Compute what is constant, into the file's constants; give those that are held as codes."""
    coded: dict[str, Coded] = {}
    most = 4 * file.size + 4096
    left = 16 * most  # of bytes, for all of them together
    for node in file.nodes:
        if node.kind == "Constant":
            file.constants[node.outputs[0]] = _constant(node)
            continue
        given = [file.constants.get(name) for name in node.inputs if name]
        if not node.outputs or not given or any(array is None for array in given):
            continue
        arrays = [file.constants[name] if name else None for name in node.inputs]
        output = node.outputs[0]
        if node.kind == "DequantizeLinear":
            coded[output] = coded_of(node, arrays)
            file.constants[output] = coded[output].values
            left -= 2 * file.constants[output].nbytes
            _check_left(left)
            continue
        if (made := fold_one(node, arrays, most)) is None:
            continue
        file.constants[output] = made
        left -= file.constants[output].nbytes
        _check_left(left)
        flipped = node.kind == "Transpose" and made.ndim == 2
        if node.inputs[0] in coded and (flipped or node.kind == "Identity"):
            one = coded[node.inputs[0]]
            swaps = flipped and node.attributes.get("perm", (1, 0)) == (1, 0)
            coded[output] = one.transposed() if swaps else one
    return coded


def fold_one(node: Node, arrays: Sequence[Array | None], most: int) -> Array | None:
    """What an operator gives for constants; None if it is none of those that are folded."""
    if (make := _FOLDED.get(node.kind)) is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(make(node, arrays, most))
    except Unreadable:
        raise
    except _WRONG as error:
        raise Unreadable(f"expected constants that fit {node}, and {error}") from None


_WRONG = (
    ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, TypeError, ValueError
)  # fmt: skip


def _check_left(left: int) -> None:
    if left < 0:
        raise Unreadable("expected constants about as large as the file, got many times that")


def coded_of(node: Node, arrays: Sequence[Array | None]) -> Coded:
    """The codes and scales of a DequantizeLinear of constants."""
    codes, scale = arrays[0], arrays[1]
    zero_point = arrays[2] if len(arrays) > 2 else None
    if codes is None or scale is None or codes.dtype.kind not in "iu":
        raise Unreadable(f"expected codes and a scale of {node}, got others")
    axis = node.attributes.get("axis", 1)
    if node.attributes.get("block_size", 0):
        raise Unreadable(f"expected a scale a channel, got one a block in {node}")
    if scale.dtype.kind != "f" or scale.ndim > 1:
        raise Unreadable(f"expected a float scale, or one a channel, of {node}")
    axis = axis if codes.ndim == 0 else axis % codes.ndim if -codes.ndim <= axis else axis
    if scale.size != 1 and (axis >= codes.ndim or scale.size != codes.shape[axis]):
        raise Unreadable(f"expected a scale for each index of axis {axis} of {node}")
    shifted = codes.astype(np.int64)
    if zero_point is not None:
        if zero_point.size not in (1, scale.size) or zero_point.dtype.kind not in "iu":
            raise Unreadable(f"expected as many zero points as scales of {node}")
        shape = [1] * codes.ndim
        if zero_point.size > 1:
            shape[axis] = -1
        shifted = shifted - zero_point.astype(np.int64).reshape(shape)
    if np.abs(shifted).max(initial=0) >= 2**31:
        raise Unreadable(f"expected codes of 32 bits of {node}, got more")
    return Coded(shifted.astype(np.int32), scale.astype(np.float32).reshape(-1), axis)


def _constant(node: Node) -> Array:
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if (value := node.attributes.get(key)) is not None:
            dtype = np.float32 if "float" in key else np.int64
            return value if isinstance(value, np.ndarray) else np.array(value, dtype)
    raise Unreadable(f"expected a number or an array of {node}, got another kind")


def _limited(shape: Sequence[int], most: int) -> tuple[int, ...]:
    count = 1
    for size in shape:
        count *= max(int(size), 0)
        if count * 8 > most:
            raise Unreadable(f"expected constants about as large as the file, got {[*shape]}")
    return tuple(int(size) for size in shape)


def _axes(node: Node, arrays: Sequence[Any]) -> tuple[int, ...] | None:
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"])
    if len(arrays) > 1 and arrays[1] is not None:
        return tuple(int(a) for a in arrays[1].reshape(-1))
    return None


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def made(node: Node, arrays: Sequence[Any], most: int) -> Any:
        one, other = arrays
        _limited(np.broadcast_shapes(one.shape, other.shape), most)
        return function(one, other)

    return made


def _divide(one: Any, other: Any) -> Any:
    if one.dtype.kind in "iu":
        if not other.all():
            raise ValueError("a division by zero")
        return one // other
    return one / other


def _reshape(node: Node, arrays: Sequence[Any], most: int) -> Any:
    x, shape = arrays
    target = [int(s) for s in shape.reshape(-1)]
    if not node.attributes.get("allowzero", 0):
        target = [x.shape[i] if s == 0 else s for i, s in enumerate(target)]
    return x.reshape(target)


def _slice(node: Node, arrays: Sequence[Any], most: int) -> Any:
    x, starts, ends, *others = arrays
    axes = others[0] if others and others[0] is not None else np.arange(len(starts))
    steps = others[1] if len(others) > 1 and others[1] is not None else np.ones(len(starts), int)
    index = [slice(None)] * x.ndim
    for axis, begin, end, step in zip(axes, starts, ends, steps, strict=True):
        index[int(axis)] = slice(int(begin), int(end), int(step))
    return x[tuple(index)]


def _cast(node: Node, arrays: Sequence[Any], most: int) -> Any:
    return arrays[0].astype(CAST_TO[node.attributes["to"]])


def _filled(node: Node, arrays: Sequence[Any], most: int) -> Any:
    value = node.attributes.get("value", np.zeros(1, np.float32))
    return np.full(_limited(arrays[0].reshape(-1), most), value.reshape(-1)[0], value.dtype)


def _expand(node: Node, arrays: Sequence[Any], most: int) -> Any:
    x, shape = arrays
    target = np.broadcast_shapes(x.shape, _limited(shape.reshape(-1), most))
    return np.ascontiguousarray(np.broadcast_to(x, target))


def _gather(node: Node, arrays: Sequence[Any], most: int) -> Any:
    x, index = arrays
    axis = node.attributes.get("axis", 0)
    _limited((*index.shape, *np.delete(x.shape, axis)), most)
    return np.take(x, index, axis=axis)


def _concatenate(node: Node, arrays: Sequence[Any], most: int) -> Any:
    _limited([sum(array.size for array in arrays)], most)
    return np.concatenate(arrays, node.attributes.get("axis", 0))


_FOLDED: dict[str, Callable[..., Any]] = {
    "Identity": lambda node, arrays, most: arrays[0],
    "Cast": _cast,
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_divide),
    "Neg": lambda node, arrays, most: -arrays[0],
    "Sqrt": lambda node, arrays, most: np.sqrt(arrays[0]),
    "Transpose": lambda node, arrays, most: arrays[0].transpose(node.attributes.get("perm")),
    "Reshape": _reshape,
    "Flatten": lambda node, arrays, most: arrays[0].reshape(
        int(np.prod(arrays[0].shape[: node.attributes.get("axis", 1)])), -1
    ),
    "Unsqueeze": lambda node, arrays, most: np.expand_dims(arrays[0], _axes(node, arrays) or ()),
    "Squeeze": lambda node, arrays, most: np.squeeze(arrays[0], _axes(node, arrays)),
    "Concat": _concatenate,
    "Shape": lambda node, arrays, most: np.array(arrays[0].shape, np.int64),
    "Slice": _slice,
    "Gather": _gather,
    "ConstantOfShape": _filled,
    "Expand": _expand,
}
