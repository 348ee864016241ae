"""How often tensors were written, by torch's own counters; ``.data`` escapes those."""

from __future__ import annotations

from torch import Tensor


def times_written(*tensors: Tensor | None) -> int:
    """Count the writes of all together; -1 where nobody counts (made in inference mode).

    Examples
    --------
    >>> import torch
    >>> tensor = torch.zeros(3)
    >>> _ = tensor.add_(1).mul_(2)
    >>> times_written(tensor, None)
    2
    """
    known = [tensor for tensor in tensors if tensor is not None]
    return -1 if any(t.is_inference() for t in known) else sum(t._version for t in known)


def counted_with(other: Tensor, tensor: Tensor) -> Tensor:
    """Give `tensor`, its memory too, with the counter of `other`: one look tells of both.

    Examples
    --------
    >>> import torch
    >>> codes, scale = torch.zeros(3, dtype=torch.int8), torch.tensor(0.5)
    >>> scale = counted_with(codes, scale)
    >>> _ = scale.mul_(2)
    >>> scale, times_written(codes)
    (tensor(1.), 1)
    """
    shared = other.detach()  # which torch counts with what it was detached from
    shared.data = tensor
    return shared
