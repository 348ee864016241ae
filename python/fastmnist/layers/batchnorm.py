"""BatchNorm1d as gain and shift, and its folding into the weights beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_foldable(norm: nn.BatchNorm1d, features: int) -> bool:
    """Whether it has statistics to fold, of so many features."""
    return norm.num_features == features and norm.running_mean is not None


def affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Gain and shift of a BatchNorm in eval mode, float64: ``y = x * gain + shift``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = -norm.running_mean.double() * gain
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return gain, shift


def fold_after(weight: Tensor, bias: Tensor, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a Linear that does what it and the `norm` behind it do: scaled rows."""
    gain, shift = affine(norm)
    return (weight.double() * gain[:, None]).float(), (bias.double() * gain + shift).float()


def fold_before(weight: Tensor, bias: Tensor, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """The same for a `norm` before the Linear: scaled columns."""
    gain, shift = affine(norm)
    return (weight.double() * gain).float(), (bias.double() + weight.double() @ shift).float()


class OverPositions(ValueError):
    """A norm was given what it normalizes over another dimension than that of its layer's outputs.

    Attributes
    ----------
    layer : str
        The Linear that it was folded into, or shrunk with.
    """

    def __init__(self, layer: str, shape: list[int], done: str = "is folded in") -> None:
        super().__init__(
            f"layer '{layer}': expected rows [N, features] where a BatchNorm1d {done}, got "
            f"{shape}: give example= (rows like these), so that it stays apart, flatten before the "
            f"norm, or leave the layer as it is with exclude=['{layer}']"
        )
        self.layer, self.shape, self.done = layer, shape, done

    def __reduce__(self) -> tuple[type, tuple[str, list[int], str]]:
        return type(self), (self.layer, self.shape, self.done)


class RowNorm(nn.BatchNorm1d):
    """A BatchNorm1d that lost features with the neurons of a Linear: of ``[N, features]`` only.

    Over ``[N, C, L]`` it normalizes the middle dimension, which is as large as before.
    """

    layer = ""  # not annotated: torch.jit.script reads annotations of classes

    @classmethod
    def of(cls, norm: nn.BatchNorm1d, layer: str) -> None:
        """Make `norm` itself one, after the Linear that is called `layer`."""
        norm.__class__ = cls
        assert isinstance(norm, RowNorm)
        norm.layer = layer

    def _check_input_dim(self, input: Tensor) -> None:
        if not torch.jit.is_scripting() and input.dim() != 2:  # type: ignore[attr-defined]
            raise OverPositions(self.layer, [*input.shape], "lost its neurons")

    def _get_name(self) -> str:
        return "BatchNorm1d"


def check_rows(name: str, x: Tensor) -> None:
    """Raise OverPositions unless `x` is rows of features, as a norm that was folded in took it.

    Over ``[N, C, L]`` a BatchNorm1d normalizes the middle dimension, which no Linear can.
    """
    if x.dim() > 2:
        raise OverPositions(name, [*x.shape])


def zeros_for(weight: Tensor) -> Tensor:
    """The bias of a Linear that has none."""
    return torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device)


# Below it, in dB, a norm that levels columns for a layer with one scale a row is not folded in.
LEAST_BY_ROW = 30.0


@torch.no_grad()
def decibels_by_row(norm: nn.BatchNorm1d, weight: Tensor) -> float:
    """Signal to noise to expect of ``Linear(norm(x))`` if rows of `x` itself had one scale each.

    A row then reaches from the lowest to the highest column, each about its mean and three times
    its deviation wide; 255 steps cover that, and a step's rounding is its square by 12. What a
    column gives weighs as its weights do, over its deviation.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    deviation = (norm.running_var.double() + norm.eps).sqrt()
    mean = norm.running_mean.double()
    lo, hi = (mean - 3 * deviation).amin().clamp(max=0), (mean + 3 * deviation).amax().clamp(min=0)
    gain = 1.0 if norm.weight is None else norm.weight.double()
    column = (weight.double() * gain).square().sum(0)
    noise = ((hi - lo) / 255).square() / 12 * (column / deviation.square()).sum()
    return float(10 * torch.log10(column.sum() / noise))
