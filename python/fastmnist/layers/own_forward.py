"""Whether a module computes what its class is known for: many are subclassed, or patched."""

from __future__ import annotations

from torch import nn


def is_forward_of_torch(cls: type[nn.Module]) -> bool:
    """Whether a class of torch's still has its own forward: some replace it for all at once."""
    return str(getattr(cls.forward, "__module__", "")).startswith("torch.")


def has_own_forward(module: nn.Module) -> bool:
    """Whether it computes something else than its class does, or did before it was patched."""
    cls = type(module)
    patched = cls.__module__.startswith("torch.nn.") and not is_forward_of_torch(cls)
    return "forward" in vars(module) or patched
