"""oneDNN's int8 Linear called by hand, through the operators that torch uses itself.

The strongest that can be done with it: uint8 rows as they are, uint8 codes handed from layer to
layer, ReLU in the epilogue, weights laid out for the very batch size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.peers.description import F32, U8, Call, Case, Network, floats


def cases(network: Network) -> list[Case]:
    """Build the one case there is."""
    return [Case("oneDNN int8 by hand", "oneDNN by hand", "uint8", partial(_prepare, network))]


def _prepare(network: Network, pixels: U8) -> Call:
    layers = []
    x = floats(network.calibration)
    x_scale = 1 / 255
    for i, layer in enumerate(network.layers):
        last = i == len(network.layers) - 1
        if not (layer.relu or last):
            raise ValueError(f"layer {i}: expected a ReLU after it, got none")
        codes, scale = _quantized(layer.weight)
        x = x @ layer.weight.T + layer.bias
        x = np.maximum(x, 0) if layer.relu else x
        y_scale = 1.0 if last else float(x.max()) / 255
        packed = torch.ops.onednn.qlinear_prepack(
            torch.from_numpy(codes), [len(pixels), layer.inputs]
        )
        layers.append(
            (
                x_scale,
                0,
                packed,
                torch.from_numpy(scale),
                torch.zeros(layer.outputs, dtype=torch.int32),
                torch.from_numpy(layer.bias),
                y_scale,
                0,
                torch.float32 if last else torch.uint8,
                "relu" if layer.relu else "none",
                [],
                "",
            )
        )
        x_scale = y_scale
    return partial(_run, torch.ops.onednn.qlinear_pointwise.default, layers, _tensor(pixels))


def _run(linear: Any, layers: list[Any], x: torch.Tensor) -> torch.Tensor:
    for arguments in layers:
        x = linear(x, *arguments)
    return x


def _tensor(pixels: U8) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels))


def _quantized(weight: F32) -> tuple[Any, F32]:
    """Return int8 weights and their scales, one per output."""
    scale = np.abs(weight).max(axis=1) / np.float32(127)
    scale = np.where(scale == 0, np.float32(1), scale).astype(np.float32)
    return np.rint(weight / scale[:, None]).clip(-127, 127).astype(np.int8), scale
