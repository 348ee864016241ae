"""Pruning by what a weight is worth for each bit that it costs.

Worth is the weight's square times the mean square of what comes in by it: to first order how much
the layer's output changes without it. It is taken relative to what would be left of the layer's,
which lets layers of different sizes compete (the score of LAMP: J. Lee et al., "Layer-adaptive
sparsity for the magnitude-based pruning", ICLR 2021, section 3). The cost is nearly all in where a
weight is, and the coder learns how many weights a neuron and a pixel have: one in a place where
there are few others takes more bits to tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastmnist as fm
from benchmarks.compressing.teaching import Lesson, taught
from fastmnist.data import Split

_ROWS = 4096  # that mean squares are of
_VALUE_BITS = 2.7  # what a weight's value costs beside its place
_LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Pruning:
    """How weights are removed.

    Attributes
    ----------
    weights : int
        How many are left in the end.
    epochs : int
        After how many, of one lesson each; a cubic schedule (:class:`fastmnist.Cubic`).
    """

    weights: int
    epochs: int
    rate: float = 1e-3
    last_rate: float = 7e-4
    moved: float = 1.0


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """The Linear layers by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def pruned(
    model: nn.Module, teachers: list[nn.Module], half: Split, how: Pruning, seed: int
) -> nn.Module:
    """Return a copy with as many weights as `how` says, taught on after every step."""
    total = sum(layer.weight.numel() for layer in linears(model).values())
    cubic = fm.Cubic(steps=how.epochs)
    for step in range(1, how.epochs + 1):
        share = cubic.amount(1 - how.weights / total, step)
        masks = best(model, total - round(share * total), half)
        model = fm.prune(model, fm.CustomMask(masks))
        progress = (step - 1) / how.epochs
        rate = how.rate + (how.last_rate - how.rate) * progress
        lesson = Lesson(1, rate, rate, moved=how.moved)
        model = taught(model, teachers, half, lesson, seed + step)
    return model


@torch.no_grad()
def best(model: nn.Module, keep: int, half: Split) -> dict[str, Tensor]:
    """Masks of the `keep` weights that are worth most for what they cost."""
    scores = {}
    for name, (layer, moments) in zip(linears(model), _inputs(model, half), strict=True):
        weight = layer.weight.detach()
        worth = _relative((weight.square() * moments).double())
        scores[name] = worth / costs(weight != 0)
    flat = torch.cat([score.flatten() for score in scores.values()])
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    chosen[flat.topk(keep).indices] = True
    parts = chosen.split([score.numel() for score in scores.values()])
    return {
        name: part.view_as(score) & (score > 0)
        for (name, score), part in zip(scores.items(), parts, strict=True)
    }


def costs(there: Tensor) -> Tensor:
    """Bits that each weight of a layer costs, or would cost, by how many stand beside it."""
    mask = there.double()
    rows, columns = mask.mean(1, keepdim=True), mask.mean(0, keepdim=True)
    side = math.isqrt(mask.shape[1])
    if side * side == mask.shape[1] and side >= 8:  # pixels: the coder looks at those beside them
        image = columns.view(1, 1, side, side)
        near = F.avg_pool2d(image, 3, 1, 1, count_include_pad=False)
        columns = (columns + near.view(1, -1)) / 2
    share = rows * columns / mask.mean().clamp(min=_LEAST_SHARE)
    return _VALUE_BITS - share.clamp(_LEAST_SHARE, 1).log2()


def _relative(worth: Tensor) -> Tensor:
    """Each worth as a share of itself and all larger ones of the layer."""
    sorted_worth, order = worth.flatten().sort()
    left = sorted_worth.flip(0).cumsum(0).flip(0).clamp(min=1e-30)
    relative = torch.empty_like(left)
    relative[order] = sorted_worth / left
    return relative.view_as(worth)


def _inputs(model: nn.Module, half: Split) -> Iterator[tuple[nn.Linear, Tensor]]:
    """Each layer with the mean squares of its inputs."""
    n = min(_ROWS, len(half))
    seen: dict[int, Tensor] = {}
    layers = linears(model).values()
    handles = [
        layer.register_forward_pre_hook(
            lambda module, args: seen.__setitem__(id(module), args[0].square().mean(0))
        )
        for layer in layers
    ]
    try:
        model.eval()(half.pixels.to_float(half.images[:n]).flatten(1))
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        yield layer, seen[id(layer)]
