"""Models as people write them, for the tests of the transforms."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastmnist.measuring.sqnr import sqnr

_GENERATOR = torch.Generator().manual_seed(4)
X = torch.randn(40, 12, generator=_GENERATOR)
IMAGES = torch.rand(40, 1, 28, 28, generator=_GENERATOR)
SEQUENCES = torch.randn(10, 7, 12, generator=_GENERATOR)


def make(kind: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Make a model, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind()


class MyModel(nn.Module):
    """The one of the usual script."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.fc2 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x, 1)
        x = torch.relu(self.fc1(x))
        return self.fc2(x)


class Functional(nn.Module):
    """F.relu, a view by size, dropout as a function, no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 16, bias=False)
        self.b = nn.Linear(16, 8)
        self.c = nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(x.size(0), -1)
        x = F.relu(self.a(x))
        x = F.dropout(x, 0.3, training=self.training)
        x = self.b(x).relu()
        return self.c(x)


class Nested(nn.Module):
    """Modules in modules, one Sequential inside."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"first": nn.Sequential(nn.Linear(12, 16), nn.ReLU())})
        self.heads = nn.ModuleList([nn.Sequential(nn.Dropout(), nn.Linear(16, 4))])

    def forward(self, x: Tensor) -> Tensor:
        return self.heads[0](self.body["first"](x))


class UsedTwice(nn.Module):
    """One layer called twice, one ReLU called everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(12, 12)
        self.head = nn.Linear(12, 4)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.relu(self.inside(x)))
        x = self.dropout(self.relu(self.inside(x)))
        return self.head(x)


class SharedActivation(nn.Module):
    """Layers of their own, but one ReLU and one Dropout for all."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 16)
        self.b = nn.Linear(16, 16)
        self.c = nn.Linear(16, 4)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.relu(self.a(x)))
        x = self.dropout(self.relu(self.b(x)))
        return self.c(x)


class Residual(nn.Module):
    """What one layer gives is used by two."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 12)
        self.b = nn.Linear(12, 12)
        self.c = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        return self.c(h + F.relu(self.b(h)))


class ControlFlow(nn.Module):
    """A forward that torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 16)
        self.norm = nn.BatchNorm1d(16)
        self.b = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.a(x))
        if h.sum() > 1e9:
            h = h / 2
        return self.b(h.clamp(min=0))


class TwoInputs(nn.Module):
    """Two inputs, the second by keyword too."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(12, 8)
        self.numbers = nn.Linear(3, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        return self.head(F.relu(self.image(image) + self.numbers(numbers)))


class Convolutional(nn.Module):
    """A CNN with a Linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4)
        )
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.features(x), 1))


class Encoder(nn.Module):
    """A transformer, whose layers read their weights themselves, and a Linear head."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


class Attention(nn.Module):
    """MultiheadAttention, then a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0])


class Tied(nn.Module):
    """One Linear under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(12, 12)
        self.b = self.a
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.a(x)))))


class ReadsWeights(nn.Module):
    """A decoder that reads the encoder's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(12, 6)
        self.middle = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.middle(F.relu(self.encoder(x))))
        return F.linear(h, self.encoder.weight.t())


class Custom(nn.Module):
    """A forward made of a function, between two layers."""

    def __init__(self, between, width=12, after=12) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, width), nn.Linear(after, 4)
        self.norm = nn.BatchNorm1d(12)
        self.scale = nn.Parameter(torch.rand(12))
        self.between = between

    def forward(self, x):
        return self.b(self.between(self, self.a(x)))


def mlp() -> nn.Sequential:
    """A chain of three layers, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Linear(12, 33), nn.ReLU(), nn.Dropout(), nn.Linear(33, 17), nn.ReLU6(),
            nn.Linear(17, 5),
        )  # fmt: skip


def same(a: Tensor, b: Tensor) -> bool:
    """The same bits, NaN included."""
    return torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give BatchNorm running statistics, gains and shifts as after training; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            n = module.num_features
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.copy_(torch.randn(n, generator=generator))
                module.running_var.copy_(torch.rand(n, generator=generator) * 3 + 0.1)
            if module.affine:
                module.weight.data.copy_(torch.randn(n, generator=generator))
                module.bias.data.copy_(torch.randn(n, generator=generator))
    return model.eval()


def snapshot(model: nn.Module) -> tuple[dict[str, Tensor], list[bool], list[int], str]:
    """Everything that a transform must leave as it was."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = [
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._load_state_dict_post_hooks)
        for m in model.modules()
    ]
    return state, modes, hooks, str(model)


def assert_unchanged(model: nn.Module, before: tuple[dict[str, Tensor], ...]) -> None:
    """Compare with a :func:`snapshot`."""
    state, modes, hooks, text = snapshot(model)
    assert state.keys() == before[0].keys()
    for key, value in state.items():
        same = torch.equal(torch.nan_to_num(value), torch.nan_to_num(before[0][key]))
        assert value.dtype == before[0][key].dtype, key
        assert same, key
    assert (modes, hooks, text) == before[1:]


def relu_then_norm() -> nn.Module:
    """A norm that cannot be folded into the layer before it."""
    return randomize(nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.BatchNorm1d(16)))


def quality(model: nn.Module, other: nn.Module, x: Tensor) -> float:
    """How near another model comes, in dB; both in eval mode."""
    with torch.no_grad():
        return sqnr(copy.deepcopy(model).eval()(x), other.eval()(x))


class Wrapped(nn.Module):
    """A forward made of a function."""

    def __init__(self, function, *layers):
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        return self.function(self, x)
