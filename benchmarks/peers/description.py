"""What every peer is given, and what it gives back. Names no framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]
Call = Callable[[], Any]

# oneDNN called by hand is no library that people use, so it is compared with on its own.
ONEDNN = "oneDNN by hand"


@dataclass(frozen=True)
class FloatLayer:
    """One Linear layer: `weight` is ``[outputs, inputs]``; `relu` says whether one follows."""

    weight: F32
    bias: F32
    relu: bool

    @property
    def inputs(self) -> int:
        return int(self.weight.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[0])


@dataclass(frozen=True)
class Network:
    """A float network on pixels, which everybody runs their own way.

    Attributes
    ----------
    name : str
    layers : tuple of FloatLayer
    calibration : uint8 array ``[n, inputs]``
        Pixels for those who calibrate; pixel p stands for p/255.
    classifies : bool
        Whether the largest output is a decision, which a variant must not change.
    threads : int
        On how many threads everybody runs.
    zeros : float
        Share of zeros among the weights, for those who must be told.
    """

    name: str
    layers: tuple[FloatLayer, ...]
    calibration: U8
    classifies: bool
    threads: int
    zeros: float = 0.0

    def float_outputs(self, pixels: U8) -> F32:
        """Compute the outputs in float32: what every case is checked against."""
        x = floats(pixels)
        for layer in self.layers:
            x = x @ layer.weight.T + layer.bias
            if layer.relu:
                x = np.maximum(x, 0)
        return x


@dataclass(frozen=True)
class Case:
    """One way to run a network.

    Attributes
    ----------
    name : str
    library : str
        Whose it is; the best of all libraries is what ours is compared with.
    rows : str
        What the call is given: ``uint8`` or ``float32`` (or ``bfloat16``).
    prepare : callable
        uint8 pixels ``[N, inputs]`` to a call without arguments that returns ``[N, outputs]``.
        Whatever the library can do beforehand for these rows, or for so many, is done here and
        not timed: converting rows to its favourite type, laying out weights, making buffers.
    prepared : bool
        Whether it was tied to the very rows or their number beforehand (bound buffers, a model
        compiled for one batch size), and so is faster than the call that its guides teach.
    """

    name: str
    library: str
    rows: str
    prepare: Callable[[U8], Call]
    prepared: bool = False


def floats(pixels: U8) -> F32:
    """Return what pixels stand for."""
    return aligned(np.asarray(pixels / np.float32(255), np.float32))


def aligned(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy to memory that begins at a multiple of 64, as torch's does and NumPy's does not.

    It matters: with rows of 4,096 codes that straddle cache lines, oneDNN and we take 1.4 times as
    long.
    """
    memory = np.empty(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy
