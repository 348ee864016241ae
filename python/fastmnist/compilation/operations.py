"""What each traced step becomes in a graph: one function for each kind of step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from fastmnist.compilation.builder import Builder, Refused, Shape
from fastmnist.int8.activation import Activation
from fastmnist.int8.network import F32, MAX_INPUTS, NO_CLAMP
from fastmnist.layers.batchnorm import affine
from fastmnist.layers.functions import activation_of, activation_of_call
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.native import torch_class
from fastmnist.layers.own_forward import has_own_forward
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.rewriting.steps import Kind, Step

_JOINS = {
    "add": "add", "add_": "add", "iadd": "add",
    "sub": "subtract", "sub_": "subtract", "isub": "subtract", "subtract": "subtract",
    "mul": "multiply", "mul_": "multiply", "imul": "multiply", "multiply": "multiply",
    "div": "divide", "div_": "divide", "itruediv": "divide", "truediv": "divide",
    "divide": "divide",
}  # fmt: skip
Result = int | list[int]
ALIAS_FUNCTIONS = {"clone", "detach", "contiguous", "float"}
_SHAPES = {
    "flatten", "view", "reshape", "unsqueeze", "squeeze", "unflatten", "view_as", "reshape_as",
}  # fmt: skip


def translate(builder: Builder, step: Step) -> Result:
    """Add what a traced step does; give the value, or values, that it gives."""
    if step.kind in _KINDS:
        return _KINDS[step.kind](builder, step)
    if step.module is not None:
        handler = _handler(step.module)
        if handler is None:
            raise Refused(step, "it is no layer that one native call can run")
        return handler(builder, step)
    handler = _FUNCTIONS.get(step.function)
    if handler is None or step.node.op not in ("call_function", "call_method"):
        raise Refused(step, "it is no step that one native call can run")
    return handler(builder, step)


def check_modules(steps: Iterable[Step]) -> None:
    """Refuse modules that nothing is known of, by name, before anything is run."""
    for step in steps:
        if step.module is None or step.kind in _KINDS or _handler(step.module) is not None:
            continue
        if has_own_forward(step.module):
            raise Refused(step, "its forward is another than its class's")
        raise Refused(step, "it is no layer that one native call can run")


def _handler(module: nn.Module) -> Handler | None:
    """What reads a module of torch's; None where its forward is not torch's own."""
    return None if has_own_forward(module) else _MODULES.get(torch_class(module))


# ---- arguments -----------------------------------------------------------------------------------


def _argument(step: Step, position: int, name: str, default: Any = None) -> Any:
    node = step.node
    return node.kwargs.get(name, node.args[position] if len(node.args) > position else default)


def _input(builder: Builder, step: Step) -> int:
    return builder.read(step, _argument(step, 0, "input"))


def _shape_of(builder: Builder, step: Step) -> Shape:
    shape = builder.seen.shapes.get(step.node)
    if shape is None:
        seen = builder.seen.uneven.get(step.node)
        what = f"shape {[*seen]} for two rows" if seen else "no tensor"
        raise Refused(step, f"it gives {what}, and each row must go by itself")
    return shape


def _dimension(step: Step, shape: Shape, dim: Any) -> int:
    """A dimension of rows of that shape, counted without that of the rows."""
    if not isinstance(dim, int) or isinstance(dim, bool):
        raise Refused(step, f"expected one dimension, got {dim!r}")
    own = dim - 1 if dim > 0 else dim + len(shape)
    if dim == 0 or not 0 <= own < len(shape):
        raise Refused(step, f"dimension {dim} is that of the rows, which go each by itself")
    return own


def _last_dimension(step: Step, shape: Shape, dim: Any) -> None:
    if _dimension(step, shape, dim) != len(shape) - 1:
        raise Refused(step, f"expected the last dimension, got {dim} of {len(shape) + 1}")


def _floats(tensor: Tensor) -> F32:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy(), np.float32)


# ---- layers --------------------------------------------------------------------------------------


def _int8(builder: Builder, step: Step) -> Result:
    layer = step.module
    assert isinstance(layer, QuantizedLinear)
    x = _input(builder, step)
    shape = builder.shape(x)
    if not shape or shape[-1] != layer.in_features:
        raise Refused(
            step, f"expected rows of {layer.in_features} numbers, got shape {[*shape]}"
        )
    out = (*shape[:-1], layer.out_features)
    return builder.add("int8", step.name, [x], out, network=layer.network())


def _float(builder: Builder, step: Step) -> Result:
    layer = step.module
    if not is_known_linear(layer) or type(layer) not in (nn.Linear, FusedLinear):
        raise Refused(step, "it is no Linear whose arithmetic is known")
    clamp, weight, bias, function = NO_CLAMP, layer.weight, layer.bias, None
    if isinstance(layer, FusedLinear):
        clamp, function = layer.clamp, layer.function
        weight, bias = layer.folded()
    own_bias = None if bias is None else _floats(bias)
    x = _input(builder, step)
    return _float_layer(builder, step, x, _floats(weight), own_bias, clamp, function)


def _float_layer(
    builder: Builder,
    step: Step,
    x: int,
    weight: F32,
    bias: F32 | None,
    clamp: tuple[float, float] = NO_CLAMP,
    function: Activation | None = None,
) -> int:
    shape = builder.shape(x)
    outputs, inputs = weight.shape
    if not shape or shape[-1] != inputs:
        raise Refused(step, f"expected rows of {inputs} numbers, got shape {[*shape]}")
    if inputs > MAX_INPUTS:
        raise Refused(step, f"expected at most {MAX_INPUTS} inputs, got {inputs}")
    if not (np.isfinite(weight).all() and (bias is None or np.isfinite(bias).all())):
        raise Refused(step, "expected finite weights, got NaN or inf")
    bias = np.zeros(outputs, np.float32) if bias is None else bias
    out = (*shape[:-1], outputs)
    about = {"weight": weight, "bias": bias, "clamp": clamp, "function": function}
    return builder.add("float", step.name, [x], out, **about)


def _functional_linear(builder: Builder, step: Step) -> Result:
    weight = builder.number_or_constant(step, _argument(step, 1, "weight"))
    bias = _argument(step, 2, "bias")
    own = None if bias is None else builder.number_or_constant(step, bias)
    if weight.ndim != 2:
        raise Refused(step, f"expected a weight of two dimensions, got {weight.ndim}")
    return _float_layer(builder, step, _input(builder, step), weight, own)


def _matmul(builder: Builder, step: Step) -> Result:
    weight = builder.number_or_constant(step, _argument(step, 1, "other"))
    if weight.ndim != 2:
        raise Refused(step, f"expected a constant matrix, got {weight.ndim} dimensions")
    return _float_layer(
        builder, step, _input(builder, step), np.ascontiguousarray(weight.T), None
    )


def _batch_norm(builder: Builder, step: Step) -> Result:
    norm = step.module
    assert isinstance(norm, nn.BatchNorm1d)
    x = _input(builder, step)
    shape = builder.shape(x)
    if norm.running_mean is None:
        raise Refused(step, "it has no running statistics, and mixes rows")
    gain, shift = (part.float() for part in affine(norm))
    # Features come first: [N, C] or [N, C, L].
    spread = [
        np.broadcast_to(_floats(part).reshape(-1, *[1] * (len(shape) - 1)), shape)
        for part in (gain, shift)
    ]
    return builder.add("affine", step.name, [x], shape, weight=spread[0], bias=spread[1])


def _layer_norm(builder: Builder, step: Step) -> Result:
    norm = step.module
    assert isinstance(norm, nn.LayerNorm)
    parts = [None if p is None else _floats(p) for p in (norm.weight, norm.bias)]
    return _normalized(builder, step, tuple(norm.normalized_shape), *parts, norm.eps)


def _functional_layer_norm(builder: Builder, step: Step) -> Result:
    given = [_argument(step, 2, "weight"), _argument(step, 3, "bias")]
    parts = [None if p is None else builder.number_or_constant(step, p) for p in given]
    shape = tuple(_argument(step, 1, "normalized_shape"))
    return _normalized(builder, step, shape, *parts, float(_argument(step, 4, "eps", 1e-5)))


def _normalized(
    builder: Builder,
    step: Step,
    over: Shape,
    weight: F32 | None,
    bias: F32 | None,
    epsilon: float,
) -> int:
    x = _input(builder, step)
    shape = builder.shape(x)
    if shape[len(shape) - len(over) :] != over:
        raise Refused(step, f"expected rows that end in {[*over]}, got shape {[*shape]}")
    joined = (*shape[: len(shape) - len(over)], math.prod(over))
    if weight is not None or bias is not None:
        weight = np.ones(joined[-1], np.float32) if weight is None else weight.reshape(-1)
        bias = np.zeros(joined[-1], np.float32) if bias is None else bias.reshape(-1)
    x = builder.reshaped(x, joined, step.name)
    y = builder.add(
        "layer_norm", step.name, [x], joined, weight=weight, bias=bias, epsilon=epsilon
    )
    return builder.reshaped(y, shape, step.name)


# ---- one number in, one out ----------------------------------------------------------------------


def _clamp(builder: Builder, step: Step) -> Result:
    assert step.clamp is not None
    return _clamped(builder, step, step.clamp)


def _clamped(builder: Builder, step: Step, clamp: tuple[float, float]) -> int:
    x = _input(builder, step)
    return builder.add("clamp", step.name, [x], builder.shape(x), clamp=clamp)


def _activated(builder: Builder, step: Step, x: int, function: Activation) -> int:
    return builder.add("activate", step.name, [x], builder.shape(x), function=function)


def _elementwise(builder: Builder, step: Step) -> Result:
    name = step.function if step.module is None else ""
    if isinstance(step.module, nn.PReLU):
        return _prelu(builder, step)
    function = (
        activation_of(step.module) if step.module is not None else activation_of_call(step.node)
    )
    x = _input(builder, step)
    if function is not None:
        return _activated(builder, step, x, function)
    if name in ALIAS_FUNCTIONS:
        return x
    if name.rstrip("_") in ("clamp", "clamp_min", "clamp_max", "clip", "hardtanh"):
        return _clamped(builder, step, _bounds(step, name.rstrip("_")))
    if name == "neg":
        minus = builder.operand(step, -1.0, builder.shape(x))
        return builder.add("multiply", step.name, [x, minus], builder.shape(x))
    if name == "square":
        return builder.add("multiply", step.name, [x, x], builder.shape(x))
    raise Refused(step, "it is no activation that one native call can run")


def _bounds(step: Step, name: str) -> tuple[float, float]:
    lo = hi = None
    if name == "clamp_max":
        hi = _argument(step, 1, "max")
    elif name == "clamp_min":
        lo = _argument(step, 1, "min")
    elif name == "hardtanh":
        lo, hi = _argument(step, 1, "min_val", -1.0), _argument(step, 2, "max_val", 1.0)
    else:
        lo, hi = _argument(step, 1, "min"), _argument(step, 2, "max")
    for bound in (lo, hi):
        if bound is not None and not (isinstance(bound, int | float) and bound == bound):
            raise Refused(step, f"expected bounds that are numbers, got {bound!r}")
    low = -math.inf if lo is None else float(lo)
    high = math.inf if hi is None else float(hi)
    if low > high:
        raise Refused(step, f"expected a lower bound below the upper one, got {low} and {high}")
    return low, high


def _prelu(builder: Builder, step: Step) -> Result:
    """A slope for each channel, which is the first dimension behind that of the rows."""
    module = step.module
    assert isinstance(module, nn.PReLU)
    function = activation_of(module)
    x = _input(builder, step)
    if function is not None:
        return _activated(builder, step, x, function)
    shape = builder.shape(x)
    slopes = _floats(module.weight)
    if not shape or shape[0] != len(slopes):
        raise Refused(step, f"expected {len(slopes)} channels, got shape {[*shape]}")
    spread = np.broadcast_to(slopes.reshape(-1, *[1] * (len(shape) - 1)), shape)
    return builder.add("slopes", step.name, [x], shape, weight=spread)


def _glu(builder: Builder, step: Step) -> Result:
    x = _input(builder, step)
    shape = builder.shape(x)
    dim = step.module.dim if isinstance(step.module, nn.GLU) else _argument(step, 1, "dim", -1)
    _last_dimension(step, shape, dim)
    half = (*shape[:-1], shape[-1] // 2)
    value = builder.add("slice", step.name, [x], half)
    gate = builder.add("slice", step.name, [x], half, begin=half[-1])
    gate = _activated(builder, step, gate, Activation("sigmoid"))
    return builder.add("multiply", step.name, [value, gate], half)


# ---- joins ---------------------------------------------------------------------------------------


def _arithmetic(builder: Builder, step: Step) -> Result:
    kind = _JOINS.get(step.function)
    if kind is None:
        raise Refused(step, "it is no join that one native call can run")
    if set(step.node.kwargs) - {"other"} or len(step.node.args) > 2:
        raise Refused(step, "expected a join of two without further arguments")
    one, other = _argument(step, 0, "input"), _argument(step, 1, "other")
    shape = _shape_of(builder, step)
    operands = [builder.operand(step, argument, shape) for argument in (one, other)]
    return builder.add(kind, step.name, operands, shape)


def _concatenate(builder: Builder, step: Step) -> Result:
    parts = _argument(step, 0, "tensors")
    if not isinstance(parts, list | tuple) or not parts:
        raise Refused(step, "expected a list of tensors")
    shape = _shape_of(builder, step)
    dim = _dimension(step, shape, _argument(step, 1, "dim", 0))
    values = []
    for part in parts:
        if builder.is_given(part):
            values.append(builder.read(step, part))
            continue
        constant = builder.number_or_constant(step, part)
        values.append(builder.operand(step, part, (*constant.shape[1:],)))
    # What lies behind the dimension is joined with it.
    before = shape[:dim]
    joined = [
        builder.reshaped(v, (*before, math.prod(builder.shape(v)[dim:])), step.name)
        for v in values
    ]
    width = sum(builder.shape(v)[-1] for v in joined)
    y = builder.add("concat", step.name, joined, (*before, width))
    return builder.reshaped(y, shape, step.name)


# ---- shapes --------------------------------------------------------------------------------------


def _same(builder: Builder, step: Step) -> Result:
    return _input(builder, step)


def _reshape(builder: Builder, step: Step) -> Result:
    x = _input(builder, step)
    shape = _shape_of(builder, step)
    if math.prod(shape) != math.prod(builder.shape(x)):
        raise Refused(step, "it mixes rows")
    return builder.reshaped(x, shape, step.name)


def _transpose(builder: Builder, step: Step) -> Result:
    x = _input(builder, step)
    shape = builder.shape(x)
    turned = _shape_of(builder, step)
    if step.function == "permute":
        given = step.node.args[1:]
        order = tuple(given[0]) if given and isinstance(given[0], tuple | list) else given
        swaps = tuple(o % 3 for o in order if isinstance(o, int)) == (0, 2, 1)
    else:
        given = (_argument(step, 1, "dim0"), _argument(step, 2, "dim1"))
        swaps = all(isinstance(d, int) for d in given) and {d % 3 for d in given} == {1, 2}
    if len(shape) != 2 or not swaps:
        raise Refused(step, "expected the two dimensions of a row to be swapped")
    return builder.add("transpose", step.name, [x], turned)


def _slices(builder: Builder, step: Step, x: int, widths: list[int], dim: Any) -> list[int]:
    shape = builder.shape(x)
    _last_dimension(step, shape, dim)
    made, begin = [], 0
    for width in widths:
        made.append(builder.add("slice", step.name, [x], (*shape[:-1], width), begin=begin))
        begin += width
    return made


def _split(builder: Builder, step: Step) -> Result:
    shapes = builder.seen.parts.get(step.node)
    if shapes is None:
        raise Refused(step, "it splits rows from each other")
    default = 0
    dim = _argument(step, 2, "dim", default)
    return _slices(builder, step, _input(builder, step), [s[-1] for s in shapes], dim)


def _item(builder: Builder, step: Step) -> Result:
    source, index = step.node.args
    assert isinstance(source, fx.Node)
    values = builder.of.get(source)
    if isinstance(values, list):
        if not isinstance(index, int):
            raise Refused(step, f"expected one of its parts, got {index!r}")
        return values[index]
    x = _input(builder, step)
    shape = builder.shape(x)
    picks = index if isinstance(index, tuple) else (index,)
    everything = slice(None)
    ellipsis = [i for i, pick in enumerate(picks) if pick is Ellipsis]
    if len(ellipsis) == 1:
        i = ellipsis[0]
        missing = len(shape) + 1 - (len(picks) - 1)
        picks = (*picks[:i], *[everything] * missing, *picks[i + 1 :])
    *before, last = picks
    inside = len(picks) == len(shape) + 1 and all(pick == everything for pick in before)
    one = isinstance(last, int) and not isinstance(last, bool)
    if one and inside and -shape[-1] <= last < shape[-1]:
        begin, end = last % shape[-1], last % shape[-1] + 1
    elif inside and isinstance(last, slice) and last.step in (None, 1) and _is_plain(last):
        begin, end, _ = last.indices(shape[-1])
    else:
        raise Refused(step, "expected a slice of the last dimension, as x[:, 3:7]")
    if begin >= end:
        raise Refused(step, "expected a slice that is not empty")
    y = builder.add("slice", step.name, [x], (*shape[:-1], end - begin), begin=begin)
    return builder.reshaped(y, shape[:-1], step.name) if one else y


def _is_plain(bounds: slice) -> bool:
    return all(b is None or isinstance(b, int) for b in (bounds.start, bounds.stop))


# ---- over a dimension ----------------------------------------------------------------------------


def _mean(builder: Builder, step: Step) -> Result:
    x = _input(builder, step)
    shape = builder.shape(x)
    dims = _argument(step, 1, "dim")
    dim = dims[0] if isinstance(dims, tuple | list) and len(dims) == 1 else dims
    if len(shape) != 2 or _dimension(step, shape, dim) != 0:
        raise Refused(step, "expected a mean over the positions of a row, as x.mean(dim=1)")
    y = builder.add("mean", step.name, [x], (shape[-1],))
    return builder.reshaped(y, _shape_of(builder, step), step.name)


def _sum(builder: Builder, step: Step) -> Result:
    x = _input(builder, step)
    shape = builder.shape(x)
    dims = _argument(step, 1, "dim")
    dim = dims[0] if isinstance(dims, tuple | list) and len(dims) == 1 else dims
    _last_dimension(step, shape, dim)
    y = builder.add("sum", step.name, [x], shape[:-1])
    return builder.reshaped(y, _shape_of(builder, step), step.name)


def _softmax(builder: Builder, step: Step) -> Result:
    log = step.function.startswith("log") or isinstance(step.module, nn.LogSoftmax)
    dim = step.module.dim if step.module is not None else _argument(step, 1, "dim")
    if step.module is None and set(step.node.kwargs) - {"dim", "input", "_stacklevel"}:
        raise Refused(step, "expected no other argument than dim")
    x = _input(builder, step)
    shape = builder.shape(x)
    if dim is None:
        raise Refused(step, "expected dim=-1, got none, which torch warns of, too")
    _last_dimension(step, shape, dim)
    return builder.add("log_softmax" if log else "softmax", step.name, [x], shape)


def _argmax(builder: Builder, step: Step) -> Result:
    x = _input(builder, step)
    shape = builder.shape(x)
    if _argument(step, 2, "keepdim", False) is not False:
        raise Refused(step, "expected no keepdim")
    _last_dimension(step, shape, _argument(step, 1, "dim"))
    return builder.add("argmax", step.name, [x], shape[:-1])


Handler = Callable[[Builder, Step], Result]
_KINDS: dict[Kind, Handler] = {
    Kind.INT8: _int8,
    Kind.LINEAR: _float,
    Kind.NORM: _batch_norm,
    Kind.CLAMP: _clamp,
    Kind.ELEMENTWISE: _elementwise,
    Kind.ARITHMETIC: _arithmetic,
    Kind.FLATTEN: _reshape,
    Kind.ROWS: _reshape,
    Kind.PASS: _same,
    Kind.DROPOUT: _same,
}
_MODULES: dict[type, Handler] = {
    nn.LayerNorm: _layer_norm,
    nn.PReLU: _prelu,
    nn.GLU: _glu,
    nn.Softmax: _softmax,
    nn.LogSoftmax: _softmax,
    nn.Flatten: _reshape,
    nn.Unflatten: _reshape,
}
_FUNCTIONS: dict[str, Handler] = {
    **dict.fromkeys(_SHAPES, _reshape),
    **dict.fromkeys(("cat", "concat", "concatenate"), _concatenate),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims", "permute"), _transpose),
    **dict.fromkeys(("chunk", "split", "tensor_split"), _split),
    **dict.fromkeys(("matmul", "mm"), _matmul),
    "getitem": _item,
    "linear": _functional_linear,
    "layer_norm": _functional_layer_norm,
    "glu": _glu,
    "mean": _mean,
    "sum": _sum,
    "argmax": _argmax,
}
