"""What codes stand for, with gradients: fake quantization of inputs and weights.

Values are rounded as the int8 layer rounds them, gradients pass straight through (Y. Bengio, N.
Léonard and A. Courville, "Estimating or propagating gradients through stochastic neurons",
arXiv:1308.3432).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastmnist.int8.quantizer import InputRule, WeightRule

# Scales ``[outputs]`` of a weight ``[outputs, inputs]``, and the smallest and largest code.
WeightScales = Callable[[Tensor], tuple[Tensor, int, int]]


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor, the gradient of another (where `inside` holds)."""

    @staticmethod
    def forward(differentiable: Tensor, value: list[Tensor], inside: Tensor | None) -> Tensor:
        return value[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.inside = inputs[2]
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inside = ctx.inside
        own = gradient if inside is None else gradient * inside
        return own.to(ctx.dtype), None, None


def straight_through(differentiable: Tensor, value: Tensor, inside: Tensor | None) -> Tensor:
    result: Tensor = _StraightThrough.apply(  # type: ignore[no-untyped-call]
        # In a list: an input that is returned would become a view, which in-place operations of
        # what follows must not change.
        differentiable,
        [value],
        inside,
    )
    return result


def fake_input(x: Tensor, rule: InputRule) -> Tensor:
    """The values that the codes of `x` stand for; gradients where nothing saturated."""
    with torch.no_grad():
        real = x.float()
        if rule.multiplier is not None and rule.offset is not None:
            multiplier = torch.from_numpy(rule.multiplier).to(x.device)
            offset = torch.from_numpy(rule.offset).to(x.device)
            codes = torch.round(real * multiplier + offset)
            value = (codes.clamp(0, 255) - offset) / multiplier
        else:
            codes = torch.round(real * (1.0 / rule.scale)) + rule.zero_point
            value = (codes.clamp(0, 255) - rule.zero_point) * rule.scale
        inside = (codes >= 0) & (codes <= 255)
    return straight_through(x, value.to(x.dtype), inside)


def fake_rows(x: Tensor) -> Tensor:
    """The same where each row has a scale of its own, which nothing in it saturates."""
    with torch.no_grad():
        real = x.float()
        lo, hi = real.amin(-1, keepdim=True).clamp(max=0), real.amax(-1, keepdim=True).clamp(min=0)
        scale = hi / 255 - lo / 255
        scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
        zero_point = torch.round(-lo * (1.0 / scale)).clamp(0, 255)
        codes = (torch.round(real * (1.0 / scale)) + zero_point).clamp(0, 255)
        value = (codes - zero_point) * scale
    return straight_through(x, value.to(x.dtype), None)


def fake_weight(
    weight: Tensor, rule: InputRule, weights: WeightRule, scales_of: WeightScales | None
) -> Tensor:
    """The values that the codes of `weight` stand for; none saturates, or none is said to."""
    with torch.no_grad():
        own = weight.float()
        columns = None
        if rule.multiplier is not None and rule.scale == 1.0:
            columns = 1.0 / torch.from_numpy(rule.multiplier).to(weight.device)
            own = own * columns
        if scales_of is not None:
            scale, least, most = scales_of(own)
        else:
            scale, least, most = scales_of_weight(own, weights), -weights.most, weights.most
        value = torch.round(own / scale[:, None]).clamp(least, most) * scale[:, None]
        value = value if columns is None else value / columns
    return straight_through(weight, value.to(weight.dtype), None)


def scales_of_weight(weight: Tensor, weights: WeightRule) -> Tensor:
    """As :meth:`WeightRule.quantize` finds them, on the weight's device."""
    if weights.bits < 8:
        return first_steps(weight, weights).to(weight.device)
    largest = weight.abs().amax(dim=1) if weights.per_channel else weight.abs().amax()
    scale = largest.expand(len(weight)) / weights.most
    return torch.where(scale == 0, torch.ones_like(scale), scale)


def first_steps(weight: Tensor, weights: WeightRule) -> Tensor:
    """The scales of least squared error."""
    array = np.ascontiguousarray(weight.detach().cpu().float().numpy())
    scales = torch.from_numpy(weights.quantize(array)[1]).to(weight.device)
    return scales if weights.per_channel else scales[:1].clone()


def fake_weight_learned(weight: Tensor, steps: Tensor, weights: WeightRule) -> Tensor:
    """The values that codes of learned scales stand for, with the gradients of LSQ.

    Inside, a scale s sees round(w/s) - w/s, where the codes end ±most; as all weights of a scale
    pull at it, its gradient is scaled by 1/sqrt(count · most) (S. K. Esser et al., "Learned step
    size quantization", ICLR 2020, sections 2.1 and 2.2).
    """
    count = weight.numel() if len(steps) == 1 else weight.shape[1]
    gentle = torch.tensor(1.0 / math.sqrt(max(1, count) * weights.most), device=steps.device)
    scale = straight_through(steps, steps.detach(), gentle)[:, None]
    inside = (weight / scale).clamp(-weights.most, weights.most)
    codes = straight_through(inside, torch.round(inside).detach(), None)
    return (codes * scale).to(weight.dtype)
