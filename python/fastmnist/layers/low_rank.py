"""A Linear as the product of two thin ones: many inputs to few numbers, few numbers to outputs.

``weight = second.weight @ first.weight`` is a matrix of rank at most `rank`. The two are ordinary
Linear layers, and whatever works on those works on them: a trace shows two steps, ``fc.first`` and
``fc.second``, which are fused, pruned, quantized and compiled each by itself. Only where a model is
held against another, or asks for its layers by their old names, do they count as one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastmnist.layers.plain import mark_resized
from fastmnist.layers.registry import Arrays, Description, saved


@saved("low rank", takes_numbers=True, in_parts=True)
class LowRankLinear(nn.Module):
    """``second(first(x))``, at the path of the Linear that it stands for.

    State-dict keys under ``<path>.``: ``first.weight`` [rank, K], ``second.weight`` [N, rank],
    ``second.bias`` [N] or absent; of parts that were quantized or pruned, what those have.

    Parameters
    ----------
    first, second : torch.nn.Linear
        K to rank, without a bias, and rank to N. What is fused with the layer (a ReLU) goes into
        the second.

    Attributes
    ----------
    in_features, out_features, rank : int
    """

    first: nn.Linear
    second: nn.Linear

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        super().__init__()
        self.first, self.second = first, second
        for part in (first, second):
            mark_resized(part)  # no class of a model makes these: a file has to tell of them

    @property
    def in_features(self) -> int:
        return self.first.in_features

    @property
    def out_features(self) -> int:
        return self.second.out_features

    @property
    def rank(self) -> int:
        """How many numbers stand between the two."""
        return self.first.out_features

    @property
    def weight(self) -> Tensor:
        """The product, [N, K], for code that looks at it: computed anew each time."""
        product = self.second.weight.double() @ self.first.weight.double()
        return product.to(self.second.weight.dtype)

    @property
    def bias(self) -> Tensor | None:
        bias: Tensor | None = self.second.bias
        return bias

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.second(self.first(input))
        return output

    def describe(self) -> Description:
        """What a file has to tell: that it is one. Its parts are layers of their own."""
        return {"type": "low rank"}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> LowRankLinear:
        """Make one with parts of no size, which the file's description replaces."""
        for part in ("first", "second"):
            if not any(name.startswith(f"{prefix}{part}.") for name in arrays):
                raise ValueError(
                    f"tensors '{prefix}{part}.…': expected those of a Linear, got none"
                )
        with torch.device("meta"):
            return cls(nn.Linear(1, 1, bias=False), nn.Linear(1, 1))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}"
