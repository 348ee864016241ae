"""oneDNN's int8 Linear called by hand, through the operators that torch uses itself.

The strongest that can be done with it: uint8 rows as they are, uint8 codes handed from layer to
layer, ReLU in the epilogue, weights laid out for the very batch size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.peers.description import F32, ONEDNN, U8, Call, Case, Network, floats


def cases(network: Network) -> list[Case]:
    """Build the one case there is."""
    return [Case("oneDNN int8 by hand", ONEDNN, "uint8", Packer(network).prepare)]


class Packer:
    """The network, with weights laid out for each batch size that is asked for."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.packed: dict[int, list[Any]] = {}

    def prepare(self, pixels: U8) -> Call:
        """Return a call on these rows."""
        rows = len(pixels)
        if rows not in self.packed:  # one copy per size: others would drive it out of the caches
            self.packed[rows] = _arguments(self.network, rows)
        linear = torch.ops.onednn.qlinear_pointwise.default
        return partial(_run, linear, self.packed[rows], _tensor(pixels))


def _arguments(network: Network, rows: int) -> list[Any]:
    """Return what follows the rows in each layer's call."""
    arguments = []
    x, x_scale = floats(network.calibration), 1 / 255
    for i, layer in enumerate(network.layers):
        last = i == len(network.layers) - 1
        if not (layer.relu or last):
            raise ValueError(f"layer {i}: expected a ReLU after it, got none")
        codes, scale = _quantized(layer.weight)
        x = x @ layer.weight.T + layer.bias
        x = np.maximum(x, 0) if layer.relu else x
        y_scale = 1.0 if last else float(x.max()) / 255
        packed = torch.ops.onednn.qlinear_prepack(torch.from_numpy(codes), [rows, layer.inputs])
        arguments.append(
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
    return arguments


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
