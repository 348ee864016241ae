"""What a layer says of inputs that are no dense tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
