"""Layers and norms as steps of a graph."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor, nn

from fastmnist.compilation.arguments import Result, argument, floats, input_of
from fastmnist.compilation.builder import Builder, Refused, Shape
from fastmnist.int8.activation import Activation
from fastmnist.int8.network import F32, NO_CLAMP
from fastmnist.layers.batchnorm import affine
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.linear import is_known_linear
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.rewriting.steps import Step


def int8_layer(builder: Builder, step: Step) -> Result:
    layer = step.module
    assert isinstance(layer, QuantizedLinear)
    x = input_of(builder, step)
    shape = builder.shape(x)
    if not shape or shape[-1] != layer.in_features:
        raise Refused(step, f"expected rows of {layer.in_features} numbers, got shape {[*shape]}")
    out = (*shape[:-1], layer.out_features)
    return builder.add("int8", step.name, [x], out, network=layer.network())


def float_linear(builder: Builder, step: Step) -> Result:
    layer = step.module
    if not is_known_linear(layer) or type(layer) not in (nn.Linear, FusedLinear):
        raise Refused(step, "it is no Linear whose arithmetic is known")
    clamp, function = NO_CLAMP, None
    parts: tuple[Tensor, Tensor | None] = (layer.weight, layer.bias)
    if isinstance(layer, FusedLinear):
        clamp, function, parts = layer.clamp, layer.function, layer.folded()
    weight, bias = parts
    own_bias = None if bias is None else floats(bias)
    x = input_of(builder, step)
    return _float_layer(builder, step, x, floats(weight), own_bias, clamp, function)


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
    if not (np.isfinite(weight).all() and (bias is None or np.isfinite(bias).all())):
        raise Refused(step, "expected finite weights, got NaN or inf")
    bias = np.zeros(outputs, np.float32) if bias is None else bias
    out = (*shape[:-1], outputs)
    about = {"weight": weight, "bias": bias, "clamp": clamp, "function": function}
    return builder.add("float", step.name, [x], out, **about)


def functional_linear(builder: Builder, step: Step) -> Result:
    weight = builder.number_or_constant(step, argument(step, 1, "weight"))
    bias = argument(step, 2, "bias")
    own = None if bias is None else builder.number_or_constant(step, bias)
    if weight.ndim != 2:
        raise Refused(step, f"expected a weight of two dimensions, got {weight.ndim}")
    return _float_layer(builder, step, input_of(builder, step), weight, own)


def matmul(builder: Builder, step: Step) -> Result:
    weight = builder.number_or_constant(step, argument(step, 1, "other"))
    if weight.ndim != 2:
        raise Refused(step, f"expected a constant matrix, got {weight.ndim} dimensions")
    return _float_layer(
        builder, step, input_of(builder, step), np.ascontiguousarray(weight.T), None
    )


def batch_norm(builder: Builder, step: Step) -> Result:
    norm = step.module
    assert isinstance(norm, nn.BatchNorm1d)
    x = input_of(builder, step)
    shape = builder.shape(x)
    if norm.running_mean is None:
        raise Refused(step, "it has no running statistics, and mixes rows")
    gain, shift = (part.float() for part in affine(norm))
    # Features come first: [N, C] or [N, C, L].
    spread = [
        np.broadcast_to(floats(part).reshape(-1, *[1] * (len(shape) - 1)), shape)
        for part in (gain, shift)
    ]
    return builder.add("affine", step.name, [x], shape, weight=spread[0], bias=spread[1])


def layer_norm(builder: Builder, step: Step) -> Result:
    norm = step.module
    assert isinstance(norm, nn.LayerNorm)
    weight, bias = (None if p is None else floats(p) for p in (norm.weight, norm.bias))
    return _normalized(builder, step, tuple(norm.normalized_shape), weight, bias, norm.eps)


def functional_layer_norm(builder: Builder, step: Step) -> Result:
    given = [argument(step, 2, "weight"), argument(step, 3, "bias")]
    weight, bias = (None if p is None else builder.number_or_constant(step, p) for p in given)
    over = argument(step, 1, "normalized_shape")
    if not isinstance(over, tuple | list) or not all(isinstance(size, int) for size in over):
        raise Refused(step, f"expected a normalized_shape that is written down, got {over!r}")
    epsilon = float(argument(step, 4, "eps", 1e-5))
    return _normalized(builder, step, (*over,), weight, bias, epsilon)


def _normalized(
    builder: Builder,
    step: Step,
    over: Shape,
    weight: F32 | None,
    bias: F32 | None,
    epsilon: float,
) -> int:
    x = input_of(builder, step)
    shape = builder.shape(x)
    if shape[len(shape) - len(over) :] != over:
        raise Refused(step, f"expected rows that end in {[*over]}, got shape {[*shape]}")
    joined = (*shape[: len(shape) - len(over)], math.prod(over))
    if weight is not None or bias is not None:
        weight = np.ones(joined[-1], np.float32) if weight is None else weight.reshape(-1)
        bias = np.zeros(joined[-1], np.float32) if bias is None else bias.reshape(-1)
    x = builder.reshaped(x, joined, step.name)
    y = builder.add("layer_norm", step.name, [x], joined, weight=weight, bias=bias, epsilon=epsilon)
    return builder.reshaped(y, shape, step.name)
