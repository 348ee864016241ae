"""Embedding and EmbeddingBag whose rows are codes of 8 or 4 bits, floats out.

Each row has a scale and a real zero point of its own, by torch.ao's rule for
``float_qparams_weight_only_qconfig``: ``scale = (max - min) / (2^bits - 1)``, ``zero_point =
-min / scale``, ``code = rne(w / scale + zero_point)``; a row of one value has scale 1 and is exact.
Two codes of 4 bits share a byte, the first in its lower half.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastmnist.files.fields import required_field
from fastmnist.layers.registry import Arrays, Description, array_of, saved

_MODES = ("sum", "mean", "max")


def quantize_rows(weight: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes ``[rows, width]``, as floats, and scale and zero point ``[rows]`` of a weight."""
    most = 2**bits - 1
    lo, hi = weight.amin(1), weight.amax(1)
    scale = (hi - lo) / most
    scale = torch.where(scale > torch.finfo(torch.float32).eps, scale, torch.ones_like(scale))
    zero_point = -lo / scale
    codes = torch.round(weight / scale[:, None] + zero_point[:, None]).clamp(0, most)
    return codes, scale, zero_point


def real_rows(codes: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """What codes ``[rows, width]`` stand for."""
    return (codes - zero_point[:, None]) * scale[:, None]


class _Rows(nn.Module):
    """Rows of codes. State-dict keys: ``weight_codes``, ``weight_scale``, ``weight_zero_point``."""

    weight_codes: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor

    def __init__(
        self, num_embeddings: int, embedding_dim: int, bits: int, padding_idx: int | None
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.bits, self.padding_idx = bits, padding_idx
        width = embedding_dim if bits == 8 else (embedding_dim + 1) // 2
        codes = torch.zeros(num_embeddings, width, dtype=torch.uint8)
        self.register_buffer("weight_codes", codes)
        self.register_buffer("weight_scale", torch.ones(num_embeddings, dtype=torch.float32))
        self.register_buffer("weight_zero_point", torch.zeros(num_embeddings, dtype=torch.float32))
        self.eval()

    @torch.no_grad()
    def _quantize(self, weight: Tensor, name: str) -> None:
        weight = weight.detach().float().cpu()
        if not bool(torch.isfinite(weight).all()):
            raise ValueError(
                f"layer '{name}': expected finite numbers in its weight, got NaN or inf"
            )
        codes, scale, zero_point = quantize_rows(weight, self.bits)
        codes = codes.to(torch.uint8)
        if self.bits == 4:
            codes = F.pad(codes, (0, codes.shape[1] % 2))
            codes = codes[:, ::2] | (codes[:, 1::2] << 4)
        self.weight_codes.copy_(codes)
        self.weight_scale.copy_(scale)
        self.weight_zero_point.copy_(zero_point)

    def rows(self, indices: Tensor) -> Tensor:
        """The real rows of `indices` ``[n]``: float32 ``[n, embedding_dim]``."""
        codes = self.weight_codes.index_select(0, indices)
        if self.bits == 4:
            codes = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(1)
            codes = codes[:, : self.embedding_dim]
        scale = self.weight_scale.index_select(0, indices)
        return real_rows(codes.float(), scale, self.weight_zero_point.index_select(0, indices))

    @property
    def weight(self) -> Tensor:
        """The real weights ``[num_embeddings, embedding_dim]``, made of the codes: read-only."""
        return self.rows(torch.arange(self.num_embeddings, device=self.weight_codes.device))

    def _apply(self, fn: Any, recurse: bool = True) -> _Rows:
        for key, buffer in self._buffers.items():  # moved, never cast
            assert buffer is not None
            self._buffers[key] = buffer.to(fn(buffer).device)
        return self

    def _told(self) -> Description:
        return {
            "shape": [self.num_embeddings, self.embedding_dim],
            "bits": self.bits,
            "padding_idx": -1 if self.padding_idx is None else self.padding_idx,
        }

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, int{self.bits} weights"


def _checked(description: Description, prefix: str, arrays: Arrays) -> tuple[int, int, int, Any]:
    """Rows, width, bits and padding index, whose tensors must be there."""
    shape, bits = (
        required_field(description, "shape", list),
        required_field(description, "bits", int),
    )
    if len(shape) != 2 or not all(type(n) is int and n > 0 for n in shape) or bits not in (4, 8):
        raise ValueError(f"shape, bits: expected two sizes and 4 or 8, got {shape} and {bits}")
    count, width = shape
    array_of(arrays, f"{prefix}weight_codes", (count, width if bits == 8 else (width + 1) // 2))
    for name in ("weight_scale", "weight_zero_point"):
        array_of(arrays, f"{prefix}{name}", (count,))
    padding = required_field(description, "padding_idx", int)
    if not -1 <= padding < count:
        raise ValueError(f"padding_idx: expected one of {count} rows, got {padding}")
    return count, width, bits, None if padding == -1 else padding


def _integers(what: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.dtype not in (torch.int64, torch.int32):
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{what}: expected a tensor of int64 or int32, got {got}")
    return value


@saved("embedding", is_frozen=True)
class QuantizedEmbedding(_Rows):
    """An Embedding of codes: made by :func:`fastmnist.quantize_dynamic` with ``torch.quint8``."""

    @classmethod
    def of(cls, layer: nn.Embedding, name: str, bits: int = 8) -> QuantizedEmbedding:
        """Quantize an Embedding of torch's; `name` is for errors."""
        made = cls(layer.num_embeddings, layer.embedding_dim, bits, layer.padding_idx)
        made._quantize(layer.weight, name)
        return made

    def forward(self, input: Tensor) -> Tensor:
        indices = _integers("input", input)
        return self.rows(indices.reshape(-1)).reshape(*indices.shape, self.embedding_dim)

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        return {"type": "embedding", **self._told()}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> QuantizedEmbedding:
        """Make one as described; its numbers are loaded later."""
        return cls(*_checked(description, prefix, arrays))


@saved("embedding_bag", is_frozen=True)
class QuantizedEmbeddingBag(_Rows):
    """An EmbeddingBag of codes, of any mode; arguments and errors are those of torch's."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        bits: int,
        padding_idx: int | None,
        mode: str = "mean",
        include_last_offset: bool = False,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, bits, padding_idx)
        self.mode, self.include_last_offset = mode, include_last_offset

    @classmethod
    def of(cls, layer: nn.EmbeddingBag, name: str, bits: int = 8) -> QuantizedEmbeddingBag:
        """Quantize an EmbeddingBag of torch's; `name` is for errors."""
        made = cls(
            layer.num_embeddings,
            layer.embedding_dim,
            bits,
            layer.padding_idx,
            layer.mode,
            layer.include_last_offset,
        )
        made._quantize(layer.weight, name)
        return made

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        # Only the rows that are asked for are made real; those of the padding are one, in front.
        indices = _integers("input", input)
        rows = F.pad(self.rows(indices.reshape(-1)), (0, 0, 1, 0))
        places = torch.arange(1, rows.shape[0], device=rows.device).view_as(indices)
        if self.padding_idx is not None:
            places = places.masked_fill(indices == self.padding_idx, 0)
        return F.embedding_bag(
            places,
            rows,
            None if offsets is None else offsets.long(),
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=None if self.padding_idx is None else 0,
        )

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        told = {"mode": self.mode, "include_last_offset": self.include_last_offset}
        return {"type": "embedding_bag", **self._told(), **told}

    @classmethod
    def rebuild(
        cls, description: Description, prefix: str, arrays: Arrays
    ) -> QuantizedEmbeddingBag:
        """Make one as described; its numbers are loaded later."""
        mode = required_field(description, "mode", str)
        if mode not in _MODES:
            raise ValueError(f"mode: expected one of {', '.join(_MODES)}, got '{mode}'")
        last = required_field(description, "include_last_offset", bool)
        return cls(*_checked(description, prefix, arrays), mode, last)
