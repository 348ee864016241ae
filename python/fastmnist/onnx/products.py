"""Linear layers of a file, float and int8, and the codes between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from fastmnist.int8.network import MAX_INPUTS, QuantizedLayer, QuantizedNetwork
from fastmnist.int8.quantizer import pins_pixels, rule_from_pixels
from fastmnist.onnx.building import Building, Rows, clamp_module
from fastmnist.onnx.expressions import Array
from fastmnist.onnx.folding import Coded
from fastmnist.onnx.reading import Node, Unreadable
from fastmnist.onnx.values import Decoded
from fastmnist.pixels import PixelNormalization

REQUANTIZE = "export the float model, import that, and quantize it with fm.quantize"


def float_layer(
    building: Building, x: Rows, weight: Array, bias: Array | None, name: str, node: Node
) -> Rows:
    """A Linear of float weights ``[outputs, inputs]``."""
    if weight.ndim != 2 or 0 in weight.shape:
        raise Unreadable(f"expected a matrix of weights of {node}, got shape {[*weight.shape]}")
    outputs, inputs = weight.shape
    _check_width(x, inputs, node)
    with torch.no_grad():
        layer = nn.Linear(1, 1, bias=bias is not None)
        layer.in_features, layer.out_features = int(inputs), int(outputs)
        layer.weight = nn.Parameter(torch.from_numpy(np.array(weight, np.float32)))
        if bias is not None:
            layer.bias = nn.Parameter(torch.from_numpy(bias_of(bias, outputs, node)))
    return building.layer(layer, x, (*x.shape[:-1], outputs), name)


def _check_width(x: Rows, inputs: int, node: Node) -> None:
    if not x.shape or x.shape[-1] != inputs:
        raise Unreadable(f"expected rows of {inputs} numbers for {node}, got {[*x.shape]}")


def bias_of(bias: Array, outputs: int, node: Node) -> Array:
    """A bias as float32 ``[outputs]``."""
    if (
        bias.dtype.kind != "f"
        or bias.size not in (1, outputs)
        or bias.shape[:-1].count(1) != max(bias.ndim - 1, 0)
    ):
        raise Unreadable(
            f"expected a bias of {outputs} numbers of {node}, got shape {[*bias.shape]}"
        )
    spread = np.broadcast_to(bias.reshape(-1), (outputs,))
    return np.array(spread, np.float32)


def int8_layer(
    building: Building,
    x: Decoded,
    weight: Coded,
    bias: Array | None,
    name: str,
    node: Node,
    pixels: PixelNormalization | None,
) -> Rows:
    """A static int8 layer with just these codes and scales."""
    codes = x.codes
    layer = _layer_of(weight, bias, name, node, x.scale, x.zero_point)
    _check_width(codes.of, layer.inputs, node)
    if codes.are_pixels:
        network = _of_pixels(layer, x, node, pixels)
        return building.int8(network, codes.of, name)
    if codes.multiplier is not None and codes.offset is not None:
        network = QuantizedNetwork(
            (layer,),
            "affine",
            _per_feature(codes.multiplier, layer.inputs, node),
            _per_feature(codes.offset, layer.inputs, node),
            pixels,
        )
    elif (codes.scale, codes.zero_point) != (x.scale, x.zero_point):
        raise Unreadable(
            f"expected QuantizeLinear and DequantizeLinear before {node} with the same scale and "
            f"zero point, got {codes.scale:g}, {codes.zero_point} and {x.scale:g}, {x.zero_point}"
        )
    else:
        network = QuantizedNetwork((layer,), "static", pixels=pixels)
    if not _may_pin(network):
        network = QuantizedNetwork((layer,), network.kind, network.multiplier, network.offset)
    return building.int8(network, codes.of, name)


def _may_pin(network: QuantizedNetwork) -> bool:
    try:
        return pins_pixels(network)
    except ValueError:  # of other numbers of channels
        return False


def _of_pixels(
    layer: QuantizedLayer, x: Decoded, node: Node, pixels: PixelNormalization | None
) -> QuantizedNetwork:
    """A first layer whose codes are the pixels that come in."""
    told = pixels or PixelNormalization()
    if layer.inputs % told.channels == 0:
        rule = rule_from_pixels(told, layer.inputs)
        if (rule.scale, rule.zero_point) == (x.scale, x.zero_point):
            kind = "static" if rule.multiplier is None else "affine"
            return QuantizedNetwork((layer,), kind, rule.multiplier, rule.offset, told)
    raise Unreadable(
        f"expected uint8 input that stands for p/255 (scale 1/255, zero point 0) at {node}, got "
        f"scale {x.scale:g}, zero point {x.zero_point}: export it with float32 input"
    )


def dynamic_layer(
    building: Building,
    x: Rows,
    weight: Coded,
    bias: Array | None,
    name: str,
    node: Node,
    pixels: PixelNormalization | None,
) -> Rows:
    """An int8 layer of rows by their own range."""
    layer = _layer_of(weight, bias, name, node, 1.0, 0)
    _check_width(x, layer.inputs, node)
    return building.int8(QuantizedNetwork((layer,), "dynamic", pixels=pixels), x, name)


def _layer_of(
    weight: Coded,
    bias: Array | None,
    name: str,
    node: Node,
    input_scale: float,
    zero_point: int,
) -> QuantizedLayer:
    """The arrays of a layer; `weight` is ``[outputs, inputs]``."""
    codes = weight.codes
    if codes.ndim != 2 or 0 in codes.shape:
        raise Unreadable(f"expected a matrix of weights of {node}, got shape {[*codes.shape]}")
    outputs, inputs = codes.shape
    if inputs > MAX_INPUTS:
        raise Unreadable(f"expected at most {MAX_INPUTS:,} inputs of {node}, got {inputs:,}")
    if codes.min() < -128 or codes.max() > 127:
        raise Unreadable(
            f"expected weights with zero point 0, or codes within -128 to 127 once it is "
            f"subtracted, of {node}, got {codes.min()} to {codes.max()}: quantize with symmetric "
            f"int8 weights; or {REQUANTIZE}"
        )
    if weight.scale.size not in (1, outputs) or (weight.scale.size > 1 and weight.axis != 0):
        raise Unreadable(
            f"expected one scale of {node}, or one for each of its {outputs} outputs, got "
            f"{weight.scale.size} of its inputs: {REQUANTIZE}"
        )
    scale = np.array(np.broadcast_to(weight.scale, (outputs,)), np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise Unreadable(f"expected finite scales above 0 of {node}, got others")
    made = np.zeros(outputs, np.float32) if bias is None else bias_of(bias, outputs, node)
    if not np.isfinite(made).all():
        raise Unreadable(f"expected a finite bias of {node}, got NaN or inf")
    return QuantizedLayer(
        name or "linear",
        np.ascontiguousarray(codes.astype(np.int8)),
        scale,
        made,
        input_scale=input_scale,
        input_zero_point=zero_point,
    )


def _per_feature(values: Array, inputs: int, node: Node) -> Any:
    if values.size not in (1, inputs) or not np.isfinite(values).all():
        raise Unreadable(f"expected {inputs} finite multipliers and offsets before {node}")
    return np.array(np.broadcast_to(values.reshape(-1), (inputs,)), np.float32)


# ---- codes ---------------------------------------------------------------------------------------


def quantizer_of(scale: Array | None, zero_point: Array | None, node: Node) -> tuple[float, int]:
    """Scale and zero point of activations, as of uint8 codes."""
    if scale is None or scale.size != 1 or scale.dtype.kind != "f":
        raise Unreadable(f"expected one constant scale of {node}: {REQUANTIZE}")
    if zero_point is None:
        zero_point = np.zeros((), np.uint8)
    if zero_point.size != 1 or zero_point.dtype not in (np.uint8, np.int8):
        raise Unreadable(
            f"expected one zero point of {node}, uint8 or int8, got {zero_point.size} of "
            f"{zero_point.dtype}: quantize activations to 8 bits; or {REQUANTIZE}"
        )
    step = float(np.float32(scale.reshape(())))
    if not (np.isfinite(step) and step >= np.finfo(np.float32).tiny):
        raise Unreadable(f"expected a finite scale above 0 of {node}, got {step:g}")
    shift = 128 if zero_point.dtype == np.int8 else 0
    return step, int(zero_point.reshape(())) + shift


def rows_of(building: Building, x: Decoded, node: Node) -> Rows:
    """What codes stand for, in float: within their range; they are not rounded to codes here."""
    codes = x.codes
    if codes.are_pixels:
        real = building.method("float", codes.of, shape=codes.of.shape)
        made = building.call(torch.sub, real, float(x.zero_point), shape=real.shape)
        return building.call(torch.mul, made, x.scale, shape=real.shape)
    if codes.multiplier is not None or (codes.scale, codes.zero_point) != (x.scale, x.zero_point):
        raise Unreadable(f"expected codes before {node} that one scale made and reads, got two")
    lo = float(np.float32(-x.zero_point) * np.float32(x.scale))
    hi = float(np.float32(255 - x.zero_point) * np.float32(x.scale))
    return building.layer(clamp_module(lo + 0.0, hi), codes.of, codes.of.shape, "clamp")
