"""int8 networks and float layers as ONNX operators.

A static layer is what readers of ONNX know as QDQ: codes are made by QuantizeLinear, and both they
and the weights go through DequantizeLinear into a MatMul, which runtimes recognize and compute with
the codes. The bias is added in float32, as ours is: as int32 it would be rounded. A layer whose
rows have a scale each has no such form (DynamicQuantizeLinear takes one for the whole batch), so
its rule is written out, and MatMulInteger multiplies.
"""

from __future__ import annotations

import numpy as np

from fastmnist.int8.graph import GraphStep
from fastmnist.int8.network import QuantizedLayer, QuantizedNetwork
from fastmnist.onnx.activations import write_activation, write_clamp
from fastmnist.onnx.formulas import AFFINE_CODES, DYNAMIC
from fastmnist.onnx.writer import Writer

INT4_OPSET = 21


def write_network(writer: Writer, network: QuantizedNetwork, x: str, *, is_codes: bool) -> str:
    """Write a chain of int8 layers; `is_codes`: x is pixels, which are its codes as they are."""
    for i, layer in enumerate(network.layers):
        name = layer.name
        if network.kind == "dynamic":
            x = _dynamic_layer(writer, layer, x)
        else:
            if is_codes and i == 0:
                codes = x
            elif network.kind == "affine" and i == 0:
                filled = {"x": x, "multiplier": network.multiplier, "offset": network.offset}
                codes = writer.formula(AFFINE_CODES, filled, name)
            else:
                codes = writer.node("QuantizeLinear", [x, *_quantizer(writer, layer)], name)
            x = _static_layer(writer, layer, codes)
        x = write_clamp(writer, x, layer.clamp, name)
        x = write_activation(writer, x, layer.function, name)
    return x


def _quantizer(writer: Writer, layer: QuantizedLayer) -> list[str]:
    scale = writer.constant(f"{layer.name}.input_scale", np.array(layer.input_scale, np.float32))
    return [scale, writer.number(layer.input_zero_point, np.uint8)]


def _static_layer(writer: Writer, layer: QuantizedLayer, codes: str) -> str:
    name = layer.name
    real = writer.node("DequantizeLinear", [codes, *_quantizer(writer, layer)], name)
    table = np.ascontiguousarray(layer.weight.T)  # [inputs, outputs], a column a channel
    scale = writer.constant(f"{name}.weight_scale", layer.weight_scale)
    zeros = np.zeros(layer.outputs, np.int8)
    if layer.bits <= 4 and writer.opset >= INT4_OPSET:
        weight = writer.nibbles(f"{name}.weight", table)
        zero_point = writer.nibbles(f"{name}.weight_zero_point", zeros)
    else:
        # Not shared: ONNX Runtime replaces both where it is told to avoid sums that saturate.
        weight = writer.constant(f"{name}.weight", table, shared=False)
        zero_point = writer.constant(f"{name}.weight_zero_point", zeros, shared=False)
    weight = writer.node("DequantizeLinear", [weight, scale, zero_point], name, axis=1)
    return _biased(writer, writer.node("MatMul", [real, weight], name), layer)


def _dynamic_layer(writer: Writer, layer: QuantizedLayer, x: str) -> str:
    table = np.ascontiguousarray(layer.weight.T)
    filled = {
        "x": x,
        "weight": table,
        "sums": table.sum(axis=0, dtype=np.int32),
        "weight_scale": layer.weight_scale,
    }
    product = writer.formula(DYNAMIC[1], filled, layer.name)
    return _biased(writer, product, layer)


def _biased(writer: Writer, x: str, layer: QuantizedLayer) -> str:
    if not layer.bias.any():
        return x
    return writer.node("Add", [x, writer.constant(f"{layer.name}.bias", layer.bias)], layer.name)


def write_float_layer(writer: Writer, step: GraphStep, x: str, is_flat: bool) -> str:
    """Write a float32 layer with its clamp and activation; `is_flat`: of rows of numbers."""
    assert step.weight is not None
    name = step.name
    bias = np.zeros(len(step.weight), np.float32) if step.bias is None else step.bias
    if is_flat:
        parts = [writer.constant(f"{name}.weight", step.weight)]
        parts.append(writer.constant(f"{name}.bias", bias))
        x = writer.node("Gemm", [x, *parts], name, transB=1)
    else:
        x = writer.node("MatMul", [x, writer.constant(f"{name}.weight", step.weight.T)], name)
        x = writer.node("Add", [x, writer.constant(f"{name}.bias", bias)], name)
    x = write_clamp(writer, x, step.clamp, name)
    return write_activation(writer, x, step.function, name)
