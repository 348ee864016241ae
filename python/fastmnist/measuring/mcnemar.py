"""Do two models err on different rows, or is that chance?"""

from __future__ import annotations

from torch import Tensor


def mcnemar(before: Tensor, after: Tensor) -> float:
    """Give the p-value of the exact test (Q. McNemar, Psychometrika 12, 1947).

    Parameters
    ----------
    before, after : torch.Tensor, bool
        Which rows each model has right, in one order.

    Examples
    --------
    >>> import torch
    >>> mcnemar(torch.tensor([True] * 6), torch.tensor([False] * 6))
    0.03125
    """
    from scipy.stats import binomtest

    lost = int((before & ~after).sum())
    won = int((after & ~before).sum())
    return 1.0 if lost + won == 0 else float(binomtest(lost, lost + won, 0.5).pvalue)
