"""What an int8 layer says of inputs that it cannot read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmnist.pixels import PixelNormalization


def check_tensor(input: Any) -> None:
    """Check that an input is a dense tensor.

    Raises
    ------
    TypeError
        If it is an array, a list, sparse or nested.
    """
    if not isinstance(input, Tensor):
        got = type(input).__name__
        raise TypeError(f"input: expected a torch.Tensor, got {got}: use torch.as_tensor")
    if input.is_nested or input.layout is not torch.strided:
        got = "a nested tensor" if input.is_nested else str(input.layout)
        advice = "torch.nested.to_padded_tensor" if input.is_nested else "input.to_dense()"
        raise TypeError(f"input: expected a dense tensor, got {got}: use {advice}")


def readable_rows(input: Tensor, features: int, pixels: PixelNormalization | None) -> Tensor:
    """A tensor as the operators read it: float32, or uint8 where pixels have a meaning.

    Raises
    ------
    TypeError, ValueError
        If it is of another dtype, device or number of features, or uint8 without a meaning.
    """
    if input.dtype == torch.uint8:
        if pixels is None:
            raise ValueError(
                "input: expected floats, got uint8: the calibration saw no pixels; calibrate on "
                'pixels, or give mean= and std=, or pixels="0..255", when quantizing'
            )
        if pixels.channels > 1 and input.dim() != 2:
            raise ValueError(
                f"input: expected flattened uint8 images [N, {features}], channel after channel, "
                f"as mean and std differ by channel, got {[*input.shape]}"
            )
    elif input.dtype != torch.float32:
        if not input.is_floating_point():
            raise TypeError(f"input: expected floats or uint8 pixels, got {input.dtype}")
        input = input.float()
    if input.dim() < 1 or input.shape[-1] != features:
        raise ValueError(f"input: expected shape [..., {features}], got {[*input.shape]}")
    if input.device.type != "cpu":
        raise ValueError(
            f"input: expected a CPU tensor, got one on '{input.device}': use input.cpu()"
        )
    return input
