"""Networks laid out for this machine's kernels: one uint8 buffer, made on load, never saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

import fastmnist._core as _core
from fastmnist.int8.activation import Activation
from fastmnist.int8.network import F32, QuantizedLayer, QuantizedNetwork
from fastmnist.pixels import PixelNormalization

Packed = npt.NDArray[np.uint8]


def pack(
    network: QuantizedNetwork,
    forms: list[list[str]] | None = None,
    without: Sequence[str] = (),
) -> Packed:
    """Lay a network out for the instruction set that is in use.

    `forms` names per layer the forms that are wanted beside the dense one ("bitmask", "int16",
    ...: csrc/core/layouts.h); None takes those that may pay, but for those in `without`.
    """
    is_dynamic = network.kind == "dynamic"
    table = pixel_table(network.pixels) if network.pixels is not None and is_dynamic else None
    return _core.pack(
        [_native(layer) for layer in network.layers],
        network.kind,
        network.pixels is not None and not is_dynamic,
        network.multiplier,
        network.offset,
        table,
        forms,
        [*without],
    )


def pixel_table(pixels: PixelNormalization) -> F32:
    """The real value of each of the 256 pixels, per channel: float32 ``[channels, 256]``."""
    every = np.arange(256, dtype=np.uint8)
    one_channel = [
        PixelNormalization((mean,), (std,)).to_float(every)
        for mean, std in zip(pixels.mean, pixels.std, strict=True)
    ]
    return np.ascontiguousarray(np.stack(one_channel), dtype=np.float32)


def _native(layer: QuantizedLayer) -> _core.Layer:
    return _core.Layer(
        layer.weight,
        layer.weight_scale,
        layer.bias,
        *layer.clamp,
        layer.input_scale,
        layer.input_zero_point,
        layer.input_zeros,
        *native_function(layer.function),
    )


def native_function(function: Activation | None) -> tuple[int, tuple[float, float, float]]:
    """The number of a function, and its parameters, as native code takes them."""
    return (0, (0.0, 0.0, 0.0)) if function is None else (function.number, function.parameters)
