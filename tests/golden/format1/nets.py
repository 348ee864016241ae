"""The models of the golden files, written out so that they stay as they were at commit 24f06f5.

``make.py`` ran there once; files, rows and outputs are its result and are never written again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def seeded(make, seed: int = 1):
    """``make()`` with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def mlp() -> nn.Sequential:
    return seeded(
        lambda: nn.Sequential(
            nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 9), nn.ReLU6(),
            nn.Linear(9, 4),
        )
    )  # fmt: skip


def table() -> nn.Sequential:
    """A BatchNorm1d leads: scales per feature (affine)."""
    model = nn.Sequential(nn.BatchNorm1d(12), *mlp(), nn.BatchNorm1d(4))
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            n = module.num_features
            module.running_mean.copy_(torch.randn(n, generator=generator))
            module.running_var.copy_(torch.rand(n, generator=generator) * 3 + 0.1)
            module.weight.data.copy_(torch.randn(n, generator=generator))
            module.bias.data.copy_(torch.randn(n, generator=generator))
    return model.eval()


class Functional(nn.Module):
    """Functional activations, a view, layers without bias: a chain without modules between."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 16, bias=False)
        self.b = nn.Linear(16, 8)
        self.c = nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x.view(x.size(0), -1)))
        return self.c(self.b(F.dropout(x, 0.3, training=self.training)).relu())


class Residual(nn.Module):
    """No chain: a file needs its class. Chains inside, under names with dots."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 12))
        self.second = nn.Linear(12, 12)
        self.last = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h + F.relu(self.second(h)))


class Recurrent(nn.Module):
    """A small LSTM or GRU with a head."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.rnn = kind(12, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.unflatten(1, (3, -1)))[0][:, -1])


class Narrow(nn.Module):
    """Layers with names of their own, for structured pruning."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Linear(12, 16), nn.BatchNorm1d(16)
        self.b, self.c, self.out = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.a(x)))
        return self.out(F.relu(self.b(h) + self.c(h)))


# Models that are no chain, by the name of their file.
CLASSES = {
    "module-static": Residual,
    "module-dynamic": Residual,
    "module-float": Residual,
    "module-partly": Residual,
    "module-low-rank-float": Residual,
    "module-low-rank-static": Residual,
    "recurrent-lstm": Recurrent,
    "recurrent-gru": lambda: Recurrent(nn.GRU),
    "half-recurrent": Recurrent,
    "structured-module": Narrow,
    "structured-module-static": Narrow,
}
