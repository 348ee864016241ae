"""Float layers to canonical int8 ones, with the input's affine folded in. Free of torch.

A network input may be ``x_j = (q_j - offset_j) / multiplier_j`` for codes ``q``. The division goes
into the first layer's columns before they are quantized and the offset into its bias, in float64,
so that the kernel sees plain codes with zero point 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import fastmnist._core as _core
from fastmnist.int8.activation import Activation
from fastmnist.int8.network import (
    MAX_INPUTS,
    NO_CLAMP,
    U8,
    QuantizedLayer,
    QuantizedNetwork,
)
from fastmnist.pixels import PixelNormalization

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """One Linear(+activation) in float32: weight ``[outputs, inputs]``, bias ``[outputs]``."""

    name: str
    weight: F32
    bias: F32
    clamp: tuple[float, float] = NO_CLAMP
    function: Activation | None = None


@dataclass(frozen=True)
class WeightRule:
    """How real weights become codes.

    Attributes
    ----------
    per_channel : bool
        Whether each output has a scale of its own, or the layer one for all.
    bits : int
        From 2 to 8: codes are within ±(2^(bits-1) - 1).
    """

    per_channel: bool = True
    bits: int = 8

    @property
    def most(self) -> int:
        """The largest code."""
        return int(2 ** (self.bits - 1) - 1)

    def quantize(self, weight: F32) -> tuple[I8, F32]:
        """Codes ``[outputs, inputs]`` and scales ``[outputs]`` of a weight."""
        if self.per_channel:
            return _core.quantize_weights(weight, self.bits)
        codes, scale = _core.quantize_weights(weight.reshape(1, -1), self.bits)
        return codes.reshape(weight.shape), np.full(len(weight), scale[0], np.float32)


INT8 = WeightRule()


@dataclass(frozen=True, eq=False)
class InputRule:
    """How real inputs of one layer become codes.

    `scale` and `zero_point` always hold; `multiplier` and `offset` (per feature) only where the
    rule is affine: then they make the codes, and `scale` is 1 unless all columns share it. `zeros`
    is what calibration saw of them (:attr:`QuantizedLayer.input_zeros`).
    """

    scale: float = 1.0
    zero_point: int = 0
    multiplier: F32 | None = None
    offset: F32 | None = None
    pixels: PixelNormalization | None = None
    zeros: U8 | None = None


def rule_from_range(lo: float, hi: float) -> InputRule:
    """One scale and zero point for all features, covering ``[lo, hi]`` and 0."""
    scale, zero_point = _core.quantizer_of_range(lo, hi)
    return InputRule(scale, zero_point)


def rule_from_columns(lo: F64, hi: F64, weight: F32) -> InputRule:
    """A multiplier and offset per feature, each covering its own ``[lo_j, hi_j]``.

    A constant column has code 0 for its value, and the finest weights that do not make those of
    the other columns (of `weight`, the layer that is given them) coarser.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        multiplier = 255.0 / (hi - lo)
        usable = _is_normal(multiplier)
        size = np.abs(weight.astype(np.float64))
        largest = (size[:, usable] / multiplier[usable]).max(axis=1, initial=0.0)
        harmless = np.nan_to_num(size / largest[:, None], posinf=0.0).max(axis=0, initial=0.0)
    multiplier = np.where(usable, multiplier, np.where(_is_normal(harmless), harmless, 1.0))
    multiplier32 = multiplier.astype(np.float32)
    offset32 = (-lo * multiplier32.astype(np.float64)).astype(np.float32)
    return InputRule(1.0, 0, multiplier32, offset32)


def _is_normal(values: F64) -> npt.NDArray[np.bool_]:
    """Which values float32 holds in full precision, as positive numbers."""
    range32 = np.finfo(np.float32)
    fits: npt.NDArray[np.bool_] = (values >= range32.tiny) & (values <= range32.max)
    return fits


def rule_from_pixels(pixels: PixelNormalization, features: int) -> InputRule:
    """Codes are pixels, exactly: ``x = (q/255 - mean)/std``."""
    if pixels.is_identity:
        return InputRule(float(np.float32(1 / 255)), 0, pixels=pixels)
    mean, std = pixels.per_feature(features)
    multiplier = (255.0 * std).astype(np.float32)
    offset = (255.0 * mean).astype(np.float32)
    uniform = len(set(pixels.std)) == 1
    scale = float(np.float32(1 / (255.0 * pixels.std[0]))) if uniform else 1.0
    return InputRule(scale, 0, multiplier, offset, pixels)


def codes_of(x: F32, rule: InputRule) -> U8:
    """Codes of one value per feature, as whoever has no more than the rule can tell them."""
    real = x.astype(np.float64)
    if rule.multiplier is not None and rule.offset is not None:
        codes = np.rint(real * rule.multiplier + rule.offset)
    else:
        codes = np.rint(real / rule.scale) + rule.zero_point
    return np.clip(codes, 0, 255).astype(np.uint8)


def pins_pixels(network: QuantizedNetwork) -> bool:
    """Whether the codes of a network that is said to take pixels are pixels."""
    if network.kind == "dynamic" or network.pixels is None:
        return True
    rule, first = rule_from_pixels(network.pixels, network.inputs), network.layers[0]
    if (rule.multiplier is None) != (network.multiplier is None):
        return False
    if rule.multiplier is None or rule.offset is None:
        return (first.input_scale, first.input_zero_point) == (rule.scale, 0)
    assert network.multiplier is not None
    assert network.offset is not None
    return np.array_equal(rule.multiplier, network.multiplier) and np.array_equal(
        rule.offset, network.offset
    )


def quantize_layer(
    layer: FloatLayer,
    rule: InputRule,
    weights: WeightRule = INT8,
    given: tuple[F32, int, int] | None = None,
) -> QuantizedLayer:
    """Quantize one layer's weights by `weights`, for inputs that follow `rule`.

    What is `given` holds instead: scales ``[outputs]``, and the smallest and largest code.

    Raises
    ------
    ValueError
        Naming the layer, if its weights or bias are not finite (also once the rule is folded in),
        or it has more than 65,536 inputs.
    """
    inputs = layer.weight.shape[1]
    if inputs > MAX_INPUTS:
        raise ValueError(
            f"layer '{layer.name}': expected at most {MAX_INPUTS} inputs, got {inputs}: int32 sums "
            "of int8 products would overflow"
        )
    for what, values in (("weight", layer.weight), ("bias", layer.bias)):
        if not np.isfinite(values).all():
            raise ValueError(
                f"layer '{layer.name}': expected finite numbers in its {what}, got NaN or inf"
            )
    weight, bias = layer.weight, layer.bias
    if rule.multiplier is not None and rule.offset is not None:
        columns = 1.0 / rule.multiplier.astype(np.float64)
        weight64 = weight.astype(np.float64)
        bias = (bias - weight64 @ (columns * rule.offset)).astype(np.float32)
        # Where all columns share one scale, the rule carries it and the weights stay as they are.
        weight = (weight64 * columns).astype(np.float32) if rule.scale == 1.0 else weight
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(
                f"layer '{layer.name}': expected weights within float32 once its inputs' scales "
                "are folded in, got some beyond: rescale the columns of the data"
            )
    weight = np.ascontiguousarray(weight, np.float32)
    codes, scales = weights.quantize(weight) if given is None else _quantize_by(weight, *given)
    return QuantizedLayer(
        layer.name,
        codes,
        scales,
        np.ascontiguousarray(bias, np.float32),
        layer.clamp,
        rule.scale,
        rule.zero_point,
        rule.zeros,
        function=layer.function,
    )


def _quantize_by(weight: F32, scales: F32, least: int, most: int) -> tuple[I8, F32]:
    """Codes for given scales."""
    scales = np.ascontiguousarray(scales, np.float32)
    codes = np.clip(np.rint(weight / scales[:, None]), least, most).astype(np.int8)
    return codes, scales
