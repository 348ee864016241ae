"""The network, in a file of its own, as people have it: plain PyTorch."""

from __future__ import annotations

import torch
from torch import nn


class Net(nn.Module):
    """784-96-256-10 with ReLU and Dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(784, 96)
        self.fc2 = nn.Linear(96, 256)
        self.fc3 = nn.Linear(256, 10)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.relu(self.fc1(self.flatten(x))))
        x = self.dropout(self.relu(self.fc2(x)))
        return self.fc3(x)
