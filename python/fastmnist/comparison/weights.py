"""What a variant's weights take: memory, file, zeros, bits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from fastmnist.int8.network import QuantizedLayer
from fastmnist.layers.linear import is_float_linear, is_int8_linear
from fastmnist.layers.widened import Widened
from fastmnist.pruning.counting import masked_weight
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.saving.save_load import size

_FEW = 16  # values, from which on an index is what files and kernels hold


@dataclass(frozen=True)
class Weights:
    """The weights of a variant's Linear layers.

    Attributes
    ----------
    sparsity, bits : float or None
        Share of zeros, and mean bits of a weight in the form that holds it; None of a function.
    """

    sparsity: float | None
    bits: float | None

    @classmethod
    def of(cls, variant: Any) -> Weights:
        """Look at a module, a compiled model, or a function, of which nothing is known.

        Examples
        --------
        >>> Weights.of(nn.Linear(8, 2)).bits
        32.0
        """
        counts = [*_counts(variant)]
        total = sum(n for n, _, _ in counts)
        if not total:
            return cls(None, None)
        zeros, bits = (sum(count[i] for count in counts) for i in (1, 2))
        return cls(zeros / total, bits / total)


def _counts(variant: Any) -> Iterator[tuple[int, int, float]]:
    """Of each layer how many weights there are, zeros among them, and bits of all."""
    if isinstance(variant, CompiledModel):
        for layer in variant.network.layers:
            if layer.weight is not None:
                bits = 32 if layer.weight.dtype == np.float32 else _bits_of_codes(layer.weight)
                yield _count(layer.weight, bits)
    elif isinstance(variant, nn.Module):
        for module in variant.modules():
            if is_int8_linear(module):
                codes = module.weight_int8.detach().cpu().numpy()
                yield _count(codes, _bits_of_codes(codes))
            elif is_float_linear(module):
                yield _count(masked_weight(module), 8 * module.weight.element_size())


def _count(weight: Any, bits: float) -> tuple[int, int, float]:
    return weight.size, int(weight.size - np.count_nonzero(weight)), bits * weight.size


def _bits_of_codes(codes: Any) -> int:
    """Of symmetric codes, or of the index of one of few values."""
    one = np.zeros(len(codes), np.float32)
    layer = QuantizedLayer("", codes, one, one)
    few = layer.values <= _FEW
    return min(layer.bits, math.ceil(math.log2(max(layer.values, 2)))) if few else layer.bits


def memory_of(variant: Any) -> int | None:
    """Bytes of weights and buffers, and of what layers keep that was made of them."""
    if isinstance(variant, CompiledModel):
        return variant.nbytes
    if not isinstance(variant, nn.Module):
        return None
    kept = [value for module in variant.modules() for value in _kept_by(module)]
    tensors = {t.data_ptr(): t for t in (*variant.parameters(), *variant.buffers(), *kept)}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _kept_by(module: nn.Module) -> Iterator[Tensor]:
    """Tensors among a module's plain attributes: masked weights, widened ones."""
    for value in vars(module).values():
        value = value.value if isinstance(value, Widened) else value
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, Tensor):
                yield part
            elif isinstance(part, nn.Module) and part is not module:
                yield from part.parameters()


def disk_of(variant: Any) -> int | None:
    """Bytes of the file that ``save`` writes."""
    try:
        return size(variant)
    except (TypeError, ValueError):
        return None
