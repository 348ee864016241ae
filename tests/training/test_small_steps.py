"""Small networks are trained by one thread of torch's; the count is afterwards what it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastmnist as fm

X, Y = torch.rand(512, 12), torch.randint(0, 3, (512,))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("width", "data", "threads"),
    [
        (16, (X, Y), 1),
        (16, DataLoader(TensorDataset(X, Y), 512), 1),
        (6000, (X, Y), 1),
        (6000, DataLoader(TensorDataset(X, Y), 512), 2),
    ],
)
def test_threads_by_the_size_of_a_step(width, data, threads, two_threads):
    seen = set()

    def loss(outputs, target):
        seen.add(torch.get_num_threads())
        return nn.functional.cross_entropy(outputs, target)

    model = nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 3))
    fm.train(model, data, epochs=1, loss_fn=loss)
    assert seen == {threads}


def test_threads_come_back_after_an_error(two_threads):
    def loss(outputs, target):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fm.train(nn.Linear(12, 3), (X, Y), epochs=1, loss_fn=loss)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"loss_fn": "mse"}, "loss_fn: expected a function of outputs and targets, got 'mse'"),
        ({"seed": "x"}, "seed: expected an integer or None, got 'x'"),
    ],
)
def test_options_of_other_kinds(options, says):
    with pytest.raises(TypeError, match=says):
        fm.train(nn.Linear(12, 3), (X, Y), epochs=1, **options)
