"""Pixels keep their value: quantizing what ToTensor and Normalize give returns the pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import FLT_MAX, FLT_MIN

from fastmnist import _core

PIXELS = np.arange(256, dtype=np.uint8)


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """What torchvision's ToTensor computes."""
    return torch.from_numpy(pixels).to(torch.float32).div(255)


def test_to_tensor(isa: str) -> None:
    out = np.zeros(256, np.uint8)
    for x in (to_tensor(PIXELS).numpy(), PIXELS.astype(np.float32) / np.float32(255)):
        _core.quantize(x, float(np.float32(1 / 255)), 0, out)
        assert np.array_equal(out, PIXELS)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (0.1307, 0.3081),
        (0.5, 0.5),
        (0.485, 0.229),
        (0.456, 0.224),
        (0.406, 0.225),
        (0.2860, 0.3530),
        (0.0, 1.0),
        (0.4914, 0.2023),
        (0.0, 1 / 255),
        (1.0, 0.01),
    ],
)
def test_normalize(isa: str, mean: float, std: float) -> None:
    # torchvision: tensor.sub_(mean).div_(std), both as float32 tensors.
    x = to_tensor(PIXELS).sub_(torch.tensor(mean)).div_(torch.tensor(std)).numpy()
    multiplier = np.full(256, 255 * std, np.float32)
    offset = np.full(256, 255 * mean, np.float32)
    out = np.zeros(256, np.uint8)
    _core.quantize_affine(x, multiplier, offset, out)
    assert np.array_equal(out, PIXELS)


@given(
    st.floats(width=32, min_value=FLT_MIN, max_value=FLT_MAX / 256, allow_subnormal=False),
    st.integers(0, 255),
)
def test_codes_come_back(isa: str, scale: float, zero_point: int) -> None:
    x, out = np.zeros(256, np.float32), np.zeros(256, np.uint8)
    _core.dequantize(PIXELS, scale, zero_point, x)
    _core.quantize(x, scale, zero_point, out)
    assert np.array_equal(out, PIXELS)


def test_codes_come_back_for_every_zero_point(isa: str) -> None:
    x, out = np.zeros(256, np.float32), np.zeros(256, np.uint8)
    for zero_point in range(256):
        for scale in (FLT_MIN, 1e-30, float(np.float32(1 / 255)), 0.1, 1.0, 1e6, FLT_MAX / 256):
            _core.dequantize(PIXELS, scale, zero_point, x)
            _core.quantize(x, scale, zero_point, out)
            assert np.array_equal(out, PIXELS)
