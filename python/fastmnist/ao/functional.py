"""``torch.ao.nn.quantized.FloatFunctional``: arithmetic as a module, which stays in float here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FloatFunctional(nn.Module):
    """Add, multiply and concatenate in float: call its methods, not the module.

    Examples
    --------
    >>> import torch
    >>> FloatFunctional().add(torch.ones(2), torch.ones(2))
    tensor([2., 2.])
    """

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("FloatFunctional: call one of its methods, such as add(x, y)")

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.add(x, y)

    def add_scalar(self, x: Tensor, y: float) -> Tensor:
        return torch.add(x, y)

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.mul(x, y)

    def mul_scalar(self, x: Tensor, y: float) -> Tensor:
        return torch.mul(x, y)

    def cat(self, x: Sequence[Tensor], dim: int = 0) -> Tensor:
        return torch.cat([*x], dim)

    def add_relu(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.relu(torch.add(x, y))

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.matmul(x, y)
