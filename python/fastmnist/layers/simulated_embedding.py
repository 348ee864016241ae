"""Embedding and EmbeddingBag that simulate codes of their rows while they are trained.

As :class:`~fastmnist.layers.simulated.SimulatedLinear`, each is the very module that it was, of
another class. The values are those of :mod:`fastmnist.layers.embedding`'s codes; gradients go
straight through, as no code saturates.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fastmnist.layers.embedding import quantize_rows, real_rows


class _Simulated:
    """What the two have in common."""

    weight: Tensor
    bits: int
    simulating: bool

    def rows(self) -> Tensor:
        """The weight as it will be, with gradients to the one that is."""
        if not self.simulating:
            return self.weight
        value = real_rows(*quantize_rows(self.weight.detach().float(), self.bits))
        return value.to(self.weight.dtype) + (self.weight - self.weight.detach())

    def released(self) -> None:
        """Make the module itself a float one again."""
        del self.bits, self.simulating
        self.__class__ = type(self).__bases__[1]


class SimulatedEmbedding(_Simulated, nn.Embedding):
    """An Embedding in quantization-aware training; made by :func:`fastmnist.ao.prepare_qat`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input, self.rows(), self.padding_idx, None, 2.0, self.scale_grad_by_freq, self.sparse
        )


class SimulatedEmbeddingBag(_Simulated, nn.EmbeddingBag):
    """An EmbeddingBag in quantization-aware training; made by :func:`fastmnist.ao.prepare_qat`."""

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        return F.embedding_bag(
            input,
            self.rows(),
            offsets,
            None,
            2.0,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )


def simulate_rows(layer: Any, bits: int) -> None:
    """Make an Embedding or EmbeddingBag itself a simulating one."""
    is_bag = isinstance(layer, nn.EmbeddingBag)
    layer.__class__ = SimulatedEmbeddingBag if is_bag else SimulatedEmbedding
    layer.bits, layer.simulating = bits, True
