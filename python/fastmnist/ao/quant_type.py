"""QuantType: how a layer is quantized."""

from __future__ import annotations

from enum import IntEnum


class QuantType(IntEnum):
    """Dynamic, static, quantization-aware training, or weights alone, as torch.ao numbers them."""

    DYNAMIC = 0
    STATIC = 1
    QAT = 2
    WEIGHT_ONLY = 3
