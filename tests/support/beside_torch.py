"""Models that are quantized by torch.ao and by us, for tests that compare the two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fastmnist.ao as tq
from fastmnist.layers.embedding import QuantizedEmbedding, QuantizedEmbeddingBag
from fastmnist.layers.half_weights import HalfWeightLinear, HalfWeightRecurrent
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.layers.recurrent import QuantizedRecurrent

X = torch.randn(256, 12, generator=torch.Generator().manual_seed(0))
OURS = (
    QuantizedLinear, QuantizedRecurrent, HalfWeightLinear, HalfWeightRecurrent,
    QuantizedEmbedding, QuantizedEmbeddingBag,
)  # fmt: skip

# torch.ao's own warnings.
QUIET = [
    pytest.mark.filterwarnings("ignore:Please use quant_min"),
    pytest.mark.filterwarnings("ignore:.*is deprecated"),
]


class Net(nn.Module):
    """Layers at three depths, each with an activation behind it."""

    def __init__(self, lib=tq):
        super().__init__()
        self.quant, self.dequant = lib.QuantStub(), lib.DeQuantStub()
        self.fc1, self.relu = nn.Linear(12, 24), nn.ReLU()
        self.body = nn.Sequential(
            nn.Linear(24, 24), nn.ReLU(), nn.Sequential(nn.Linear(24, 16), nn.ReLU())
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.dequant(self.head(self.body(self.relu(self.fc1(self.quant(x))))))


def made(lib, kind=Net):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = kind(lib)
    return model.eval()


def quantized(model, lib):
    """Names of the layers that are no longer float."""
    if lib is tq:
        names = [n for n, m in model.named_modules() if isinstance(m, OURS)]
        return [name for name in names if ".directions." not in name]
    kinds = ("Linear", "LSTM", "GRU", "Embedding")
    return [
        name
        for name, m in model.named_modules()
        if "quantized" in type(m).__module__
        and type(m).__name__.startswith(kinds)
        and "Packed" not in type(m).__name__
    ]


ALL = ["fc1", "body.0", "body.2.0", "head"]
