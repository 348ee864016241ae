"""What of the outputs a teacher's probabilities are made of."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fastmnist as fm


def test_classes_along_another_dimension_are_not_taken_for_others():
    """Outputs [rows, tokens, classes] with a loss that flattens them: KL is not along tokens."""
    tokens, targets = torch.randn(16, 6, 4), torch.randint(0, 5, (16, 6))
    student, teacher = nn.Linear(4, 5), nn.Linear(4, 5)

    def loss(outputs, target):
        return F.cross_entropy(outputs.flatten(0, 1), target.flatten())

    def along_classes(outputs, said):
        return F.mse_loss(outputs.softmax(-1), said.softmax(-1))

    for data, own in (((tokens, targets), loss), (tokens, None)):
        with pytest.raises(ValueError, match=r"classes along dimension 1 .* give Distillation"):
            fm.distill(student, teacher, data, fm.Distillation(alpha=1.0), loss_fn=own)
    told = fm.Distillation(alpha=1.0, soft_loss=along_classes)
    assert len(fm.distill(student, teacher, tokens, told, epochs=1).history) == 1

    class Transposed(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x).transpose(1, 2)

    made = fm.distill(Transposed(student), Transposed(teacher), (tokens, targets), epochs=1)
    assert len(made.history) == 1
