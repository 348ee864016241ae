"""The best factors of a matrix: of its weights, or of what it does to the inputs that it is given.

Without data, the truncated singular value decomposition is nearest to the weights (Eckart and
Young, "The approximation of one matrix by another of lower rank", 1936). With data, what counts is
the error of the outputs, ``E |W x - W' x|²``: that is the same problem for ``W C^(1/2)``, C the
second moment of the inputs, and its solution is ``U Uᵀ W`` with the leading left singular vectors U
of that product. Statistics know it as reduced-rank regression (Izenman, "Reduced-rank regression
for the multivariate linear model", 1975); for compression it is that of Chen et al., "DRONE:
data-aware low-rank compression for large NLP models", NeurIPS 2021. Where a layer has a bias, the
mean of the inputs is taken care of by that, and C is their covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastmnist.factorization.moments import Moments

# Share of the inputs' mean variance that is added to each, so that directions absent from the data
# still count a little.
_RIDGE = 1e-6


@dataclass(frozen=True)
class Decomposition:
    """A matrix [N, K] by its singular values, weighted or not.

    Attributes
    ----------
    weight : torch.Tensor
        float64 [N, K].
    left : torch.Tensor
        float64 [N, min(N, K)], orthonormal columns.
    singular : torch.Tensor
        float64, largest first.
    mean : torch.Tensor or None
        Of the inputs, where the bias takes care of it.
    """

    weight: Tensor
    left: Tensor
    singular: Tensor
    mean: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, moments: Moments | None, *, has_bias: bool) -> Decomposition:
        """Decompose a layer's weight, for the inputs that it was given."""
        matrix = weight.detach().double()
        if moments is None:
            left, singular, _ = torch.linalg.svd(matrix, full_matrices=False)
            return cls(matrix, left, singular, None)
        values, vectors = torch.linalg.eigh(moments.second(centered=has_bias))
        values = values.clamp_min(0)
        values = values + _RIDGE * values.mean()
        left, singular, _ = torch.linalg.svd(
            matrix @ (vectors * values.sqrt()), full_matrices=False
        )
        return cls(matrix, left, singular, moments.mean if has_bias else None)

    def factors(self, rank: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """First [rank, K], second [N, rank], and what the bias gains [N] or None.

        Rows of the first factor have length 1: the numbers between the two are then of like size
        on any inputs, also on those that data never showed, and int8 loses little.
        """
        left = self.left[:, :rank]
        rows = left.T @ self.weight
        length = torch.linalg.vector_norm(rows, dim=1)
        length = torch.where(length > 0, length, 1.0)
        first, second = rows / length[:, None], left * length
        gained = None
        if self.mean is not None:
            gained = (self.weight - second @ first) @ self.mean
        return first.float(), second.float(), gained
