"""What was made of 16-bit tensors once, in float32: kept until they change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Widened:
    """What float32 weights were made of, and when: neither copied nor pickled."""

    def __init__(self) -> None:
        self._made_of: list[tuple[Tensor, int]] = []
        self.value: Any = None  # the last that was made

    def get(self, tensors: list[Tensor], make: Callable[[], Any]) -> Any:
        """What `make` gave, unless a tensor was written or replaced since."""
        known = len(tensors) == len(self._made_of) and all(
            tensor is was and version_of(tensor) == version
            for tensor, (was, version) in zip(tensors, self._made_of, strict=True)
        )
        if not known:
            with torch.no_grad(), torch.inference_mode(False):
                self.value, self._made_of = make(), [(t, version_of(t)) for t in tensors]
        return self.value

    def __deepcopy__(self, memo: Any) -> Widened:
        return Widened()

    def __reduce__(self) -> tuple[Any, ...]:
        return Widened, ()


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written; those made in inference mode do not count."""
    return -1 if tensor.is_inference() else tensor._version
