"""Native kernels and the whole-network executor of fastmnist."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_F32 = npt.NDArray[np.float32]
_U8 = npt.NDArray[np.uint8]
_I8 = npt.NDArray[np.int8]
_I32 = npt.NDArray[np.int32]

def cpu_info() -> dict[str, Any]: ...
def set_isa(isa: str) -> str: ...
def num_threads() -> int: ...
def set_num_threads(count: int) -> None: ...
def measure_limits(isa: str) -> dict[str, Any]: ...
def quantize(x: _F32, scale: float, zero_point: int, out: _U8) -> bool: ...
def quantize_affine(x: _F32, multiplier: _F32, offset: _F32, out: _U8) -> bool: ...
def dequantize(q: _U8, scale: float, zero_point: int, out: _F32) -> None: ...
def row_range(x: _F32) -> tuple[float, float, bool]: ...
def quantizer_of_range(lo: float, hi: float) -> tuple[float, int]: ...
def quantize_weights(weight: _F32) -> tuple[_I8, _F32]: ...

class Layer:
    """One canonical layer: int8 weights with their scales."""

    def __init__(
        self,
        weight: _I8,
        weight_scale: _F32,
        bias: _F32 | None,
        lo: float,
        hi: float,
        input_scale: float,
        input_zero_point: int,
    ) -> None: ...

def pack(
    layers: Sequence[Layer],
    input: str,
    pixel_codes: bool = False,
    multiplier: _F32 | None = None,
    offset: _F32 | None = None,
    pixel_table: _F32 | None = None,
) -> _U8: ...
def linear(
    codes: _U8,
    packed: _U8,
    row_scale: _F32,
    row_zero_point: _I32,
    out: _F32 | _U8,
    out_scale: float = 1.0,
    out_zero_point: int = 0,
    bounded: bool = False,
) -> None: ...
def reference_linear(
    layer: Layer,
    codes: _U8,
    row_scale: _F32,
    row_zero_point: _I32,
    out: _F32 | _U8,
    out_scale: float = 1.0,
    out_zero_point: int = 0,
) -> None: ...

class Model:
    """A packed network: rows in, logits out."""

    def __init__(self, packed: Any) -> None: ...
    def __call__(self, x: Any, out: Any = None) -> Any: ...
    def predict(self, x: Any, out: Any = None) -> Any: ...
    def unpack(self, layer: int, /) -> tuple[_I8, _F32, _F32]: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def in_features(self) -> int: ...
    @property
    def out_features(self) -> int: ...
    @property
    def takes_pixels(self) -> bool: ...
