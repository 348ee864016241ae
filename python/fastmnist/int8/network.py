"""Quantized networks as they are saved, exported and compared: plain NumPy, no machine in it.

A :class:`QuantizedNetwork` is a list of int8 layers and the rule by which rows become codes. It is
what files and pickles hold, what torch modules hold as buffers, and what ``_core`` packs for the
instruction set that it finds. Free of torch.

The input rule is one of three *kinds* (design, "Arithmetic"):

``static``
    one scale and zero point for each layer's input;
``affine``
    static, but the network's own input has a real multiplier and offset per feature,
    ``q_j = rne(x_j * multiplier_j + offset_j)``, folded into the first layer;
``dynamic``
    scale and zero point per row, from the row's own range, at every layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist.int8.activation import Activation
from fastmnist.int8.sparse_encoding import Encoded, decode, encode
from fastmnist.pixels import PixelNormalization

F32 = npt.NDArray[np.float32]
I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]

KINDS = ("static", "affine", "dynamic")
MAX_INPUTS = 65_536
NO_CLAMP = (-math.inf, math.inf)
ZEROS_OF = 51


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """One fused Linear(+activation): ``function(clamp(x @ weight.T * scale + bias))``.

    Attributes
    ----------
    name : str
        Where it was in the model it came from.
    weight : int8 ``[outputs, inputs]``
    weight_scale : float32 ``[outputs]``
        Real weight = code x scale.
    bias : float32 ``[outputs]``
    clamp : (float, float)
        ``(0, inf)`` is ReLU, ``(0, 6)`` ReLU6, ``(-inf, inf)`` none.
    input_scale, input_zero_point : float, int
        What a code of this layer's input stands for; 1 and 0 in dynamic networks.
    input_zeros : uint8 ``[inputs]`` or None
        In how many of :data:`ZEROS_OF` rows each input's code was 0 when calibrating; None where
        that is not known, or such a code is no zero. Behind other layers all have the average.
        Only for the choice of kernels, as some skip zeros.
    function : Activation or None
        What follows the clamp: GELU, Sigmoid and others that are no clamps.
    """

    name: str
    weight: I8
    weight_scale: F32
    bias: F32
    clamp: tuple[float, float] = NO_CLAMP
    input_scale: float = 1.0
    input_zero_point: int = 0
    input_zeros: U8 | None = None
    function: Activation | None = None

    @property
    def inputs(self) -> int:
        return int(self.weight.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[0])

    @property
    def activation(self) -> str:
        clamp = activation_name(self.clamp)
        if self.function is None:
            return clamp
        return f"{clamp}, {self.function.title}" if clamp else self.function.title

    @property
    def bits(self) -> int:
        """Bits that symmetric codes as large as the largest take: 2 to 8."""
        largest = int(np.abs(self.weight.astype(np.int16)).max(initial=0))
        return min(8, max(2, largest.bit_length() + 1))

    @property
    def values(self) -> int:
        """How many distinct codes there are."""
        return int(np.count_nonzero(np.bincount(self.weight.view(np.uint8).ravel(), minlength=256)))

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the zeros, where that is smaller."""
        encoded = encode(self.weight)
        return self.__dict__ | ({} if encoded is None else {"weight": encoded})

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight = state["weight"]
        if isinstance(weight, Encoded):
            state = state | {"weight": decode(weight)}
        self.__dict__.update(state)


@dataclass(frozen=True, eq=False)
class QuantizedNetwork:
    """A chain of quantized layers and the rule that turns rows into codes.

    Attributes
    ----------
    layers : tuple of QuantizedLayer
    kind : {"static", "affine", "dynamic"}
    multiplier, offset : float32 ``[inputs]`` or None
        Of kind ``affine`` only.
    pixels : PixelNormalization or None
        What a uint8 pixel stands for; None if uint8 rows are refused.
    """

    layers: tuple[QuantizedLayer, ...]
    kind: str = "static"
    multiplier: F32 | None = None
    offset: F32 | None = None
    pixels: PixelNormalization | None = None

    @property
    def inputs(self) -> int:
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

    def clamped(self, clamp: tuple[float, float]) -> QuantizedNetwork:
        """Put a clamp behind the last layer's own; it must have no function."""
        last = self.layers[-1]
        assert last.function is None
        last = replace(last, clamp=compose(last.clamp, clamp))
        return replace(self, layers=(*self.layers[:-1], last))

    def activated(self, function: Activation) -> QuantizedNetwork:
        """Put a function behind the last layer, which must have none."""
        last = self.layers[-1]
        assert last.function is None
        return replace(self, layers=(*self.layers[:-1], replace(last, function=function)))

    def then(self, other: QuantizedNetwork) -> QuantizedNetwork:
        """Hand this network's outputs to `other` as codes (or rows, if both are dynamic)."""
        if (self.kind == "dynamic") != (other.kind == "dynamic"):
            raise ValueError(
                "layers: expected all static or all dynamic, to become one native call, got both: "
                "quantize the whole model one way"
            )
        if other.kind == "affine":
            raise ValueError(
                "layers: expected multipliers per feature at the network's own input alone, got a "
                "layer behind it with some"
            )
        return QuantizedNetwork(
            self.layers + other.layers, self.kind, self.multiplier, self.offset, self.pixels
        )


def compose(inner: tuple[float, float], outer: tuple[float, float]) -> tuple[float, float]:
    """The one clamp that equals `inner` followed by `outer`."""

    def bound(value: float) -> float:
        return min(max(value, outer[0]), outer[1])

    return bound(inner[0]), bound(inner[1])


def activation_name(clamp: tuple[float, float]) -> str:
    """What people call the clamp: "", "ReLU", "ReLU6" or "Hardtanh(lo, hi)"."""
    names = {NO_CLAMP: "", (0.0, math.inf): "ReLU", (0.0, 6.0): "ReLU6"}
    return names.get(clamp, f"Hardtanh({clamp[0]:g}, {clamp[1]:g})")
