"""Models that are small graphs, and how a compiled one is compared with its module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

import numpy as np
import torch
from c_library import assert_answers_like
from torch import Tensor, nn

import fastmnist as fm

_GENERATOR = torch.Generator().manual_seed(17)
X = torch.randn(300, 12, generator=_GENERATOR)
OTHER = torch.randn(300, 7, generator=_GENERATOR)
POSITIONS = torch.randn(64, 5, 12, generator=_GENERATOR)
SIZES = (1, 2, 33, 300)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU,
    "ReLU6": nn.ReLU6,
    "Hardtanh": lambda: nn.Hardtanh(-0.5, 1.5),
    "LeakyReLU": nn.LeakyReLU,
    "LeakyReLU(1.5)": lambda: nn.LeakyReLU(1.5),
    "PReLU": nn.PReLU,
    "PReLU(16)": lambda: nn.PReLU(16),
    "ELU": nn.ELU,
    "ELU(0.3)": lambda: nn.ELU(0.3),
    "CELU": lambda: nn.CELU(0.7),
    "SELU": nn.SELU,
    "GELU": nn.GELU,
    "GELU(tanh)": lambda: nn.GELU("tanh"),
    "SiLU": nn.SiLU,
    "Mish": nn.Mish,
    "Hardswish": nn.Hardswish,
    "Hardsigmoid": nn.Hardsigmoid,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "Softplus": nn.Softplus,
    "Softplus(2, 3)": lambda: nn.Softplus(2.0, 3.0),
    "LogSigmoid": nn.LogSigmoid,
    "Softsign": nn.Softsign,
}


def _names(code: CodeType) -> set[str]:
    """The attributes that a function, and functions in it, ask for."""
    inside = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names}.union(*map(_names, inside))


class Joined(nn.Module):
    """What a function makes of its input with layers a, b, c, d: those that it names."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, inputs, outputs in (("a", 12, 16), ("b", 12, 16), ("c", 16, 16), ("d", 16, 4)):
            if name in _names(function.__code__):  # a layer that is never called has no range
                setattr(self, name, nn.Linear(inputs, outputs))
        self.scale, self.shift = nn.Parameter(torch.randn(16)), nn.Parameter(torch.randn(16))
        self.others = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


class Block(nn.Module):
    """A residual block, the norm first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.act = nn.LayerNorm(width), nn.GELU()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.act(self.up(self.norm(x))))


class ActorCritic(nn.Module):
    """Two inputs, two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.goal = nn.Linear(12, 16), nn.Linear(7, 16)
        self.act = nn.Tanh()
        self.policy, self.value = nn.Linear(16, 4), nn.Linear(16, 1)
        self.log = nn.LogSoftmax(-1)

    def forward(self, state: Tensor, goal: Tensor) -> dict[str, Tensor]:
        h = self.act(self.state(state) + self.goal(goal))
        return {"policy": self.log(self.policy(h)), "value": self.value(h)}


JOINS: dict[str, Callable[[], nn.Module]] = {
    "add": lambda: Joined(lambda m, x: m.d(m.a(x) + m.b(x))),
    "subtract": lambda: Joined(lambda m, x: m.d(m.a(x) - m.b(x))),
    "multiply": lambda: Joined(lambda m, x: m.d(m.a(x) * m.b(x))),
    "divide": lambda: Joined(lambda m, x: m.d(m.a(x) / m.b(x))),
    "a value with itself": lambda: Joined(lambda m, x: (lambda h: m.d(h + h))(m.a(x))),
    "of a join": lambda: Joined(lambda m, x: m.d(m.c(m.a(x)) + m.a(x) * m.b(x))),
    "cat": lambda: Joined(lambda m, x: m.others[0](torch.cat([m.a(x), x, m.b(x)], 1)),
                          nn.Linear(44, 3)),
    "cat of many": lambda: Joined(lambda m, x: torch.cat([m.a(x)] * 20, -1)),
    "cat of slices": lambda: Joined(
        lambda m, x: (lambda h: torch.cat([h[:, 3:], h[:, :3], h[..., -1:]], 1))(m.a(x))
    ),
    "one column": lambda: Joined(lambda m, x: m.a(x)[:, 2]),
    "chunk": lambda: Joined(
        lambda m, x: (lambda p: torch.cat([p[1], p[0]], 1))(m.a(x).chunk(2, dim=1))
    ),
    "split": lambda: Joined(
        lambda m, x: (lambda p: torch.cat([p[2], p[0], p[1]], 1))(m.a(x).split([3, 6, 7], 1))
    ),
    "GLU": lambda: Joined(lambda m, x: m.others[1](m.others[0](m.a(x))), nn.GLU(), nn.Linear(8, 3)),
    "gate": lambda: Joined(lambda m, x: m.d(m.a(x) * m.others[0](m.b(x))), nn.Sigmoid()),
    "gate of one": lambda: Joined(lambda m, x: m.a(x) * m.others[0](m.others[1](x)),
                                  nn.Sigmoid(), nn.Linear(12, 1)),
    "number": lambda: Joined(lambda m, x: m.d(1 - m.a(x) * 2.5)),
    "half": lambda: Joined(lambda m, x: m.d(m.a(x) / 2 + 0.1)),
    "negative": lambda: Joined(lambda m, x: m.d(-m.a(x))),
    "constant": lambda: Joined(lambda m, x: m.d(m.a(x) * m.scale + m.shift)),
    "input": lambda: Joined(lambda m, x: x + m.others[0](m.a(x)), nn.Linear(16, 12)),
    "layer used twice": lambda: Joined(lambda m, x: m.d(m.c(m.c(m.a(x))) + m.c(m.b(x)))),
    "outputs": lambda: Joined(lambda m, x: (m.a(x), m.d(m.a(x)))),
    "list": lambda: Joined(lambda m, x: [m.a(x), m.b(x) - m.a(x), m.d(m.a(x))]),
    "dict": lambda: Joined(lambda m, x: {"one": m.a(x), "two": m.d(m.b(x))}),
    "the same output twice": lambda: Joined(lambda m, x: (lambda h: (h, m.d(h), h))(m.a(x))),
    "an input as output": lambda: Joined(lambda m, x: (x, m.a(x))),
    "argmax": lambda: Joined(lambda m, x: m.d(m.a(x)).argmax(1)),
    "argmax and logits": lambda: Joined(lambda m, x: (lambda h: (h, h.argmax(-1)))(m.d(m.a(x)))),
    "Softmax": lambda: nn.Sequential(nn.Linear(12, 5), nn.Softmax(-1)),
    "LogSoftmax": lambda: nn.Sequential(nn.Linear(12, 33), nn.LogSoftmax(1)),
    "attention of features": lambda: Joined(
        lambda m, x: m.d(m.a(x) * m.others[0](m.b(x))), nn.Softmax(-1)
    ),
    "LayerNorm": lambda: nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16), nn.Linear(16, 3)),
    "LayerNorm, plain": lambda: nn.Sequential(
        nn.LayerNorm(12, elementwise_affine=False), nn.Linear(12, 16), nn.LayerNorm(16, eps=1e-3)
    ),
    "BatchNorm1d": lambda: nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.SiLU(), nn.Linear(16, 3)
    ),
    "BatchNorm1d behind a join": lambda: Joined(
        lambda m, x: m.d(m.others[0](m.a(x) + m.b(x))), nn.BatchNorm1d(16)
    ),
    "blocks": lambda: nn.Sequential(
        nn.Linear(12, 17), Block(17), Block(17), nn.LayerNorm(17), nn.Linear(17, 5)
    ),
    "autoencoder": lambda: nn.Sequential(
        nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3), nn.Linear(3, 8), nn.GELU(),
        nn.Linear(8, 12), nn.Sigmoid(),
    ),
}  # fmt: skip


def made(kind: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Make a model, the same each time, in eval mode; norms as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.LayerNorm) and module.weight is not None:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.1, 3.0)
            if isinstance(module, nn.PReLU):
                nn.init.normal_(module.weight)
    return model.eval().requires_grad_(False)


def _trained_aware(model: nn.Module, rows: Any) -> nn.Module:
    prepared = fm.prepare_qat(model, fm.QAT("minmax")).train()
    for module in prepared.modules():
        if isinstance(module, nn.BatchNorm1d | nn.Dropout):
            module.eval()
    with torch.no_grad():
        if isinstance(rows, Mapping):
            prepared(**rows)
        else:
            prepared(rows)
    return fm.convert(prepared)


# By what a user calls them: how a float model becomes one of int8 layers.
WAYS: dict[str, Callable[[nn.Module, Any], nn.Module]] = {
    "Static": lambda model, rows: fm.quantize(model, fm.Static(rows)),
    "Dynamic": lambda model, rows: fm.quantize(model, fm.Dynamic()),
    "QAT": _trained_aware,
}


def odd_rows(x: Tensor) -> Tensor:
    """The same rows, some with NaN, infinities, zeros, and numbers beyond what was seen."""
    x = x.clone()
    flat = x.view(len(x), -1)
    flat[3, 3] = flat[9, 0] = float("nan")
    flat[4, 4] = float("inf")
    flat[5] = float("-inf")
    flat[6] = 0.0
    flat[7] = -0.0
    flat[8] *= 1e6
    return x


def parts_of(outputs: Any) -> list[np.ndarray]:
    """All outputs as arrays, in order."""
    if isinstance(outputs, Mapping):
        outputs = [*outputs.values()]
    if isinstance(outputs, tuple | list):
        return [part for output in outputs for part in parts_of(output)]
    return [outputs.numpy() if isinstance(outputs, Tensor) else outputs]


def assert_same_bits(want: Any, got: Any, what: object = "") -> None:
    """The same structure, shapes and bits; one NaN is as good as another."""
    assert type(want) is type(got), what
    if isinstance(want, Mapping):
        assert [*want] == [*got], what
    for a, b in zip(parts_of(want), parts_of(got), strict=True):
        assert a.dtype == b.dtype, what
        assert a.shape == b.shape, what
        both_nan = np.isnan(a) & np.isnan(b)
        bits = np.uint64 if a.dtype.itemsize == 8 else np.uint32
        different = (np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits)) & (
            ~both_nan
        )
        assert not different.any(), f"{what}: {a[different][:4]}, expected {b[different][:4]}"


def assert_compiled(
    q: nn.Module, net: fm.CompiledModel, *inputs: Tensor, sizes: tuple[int, ...] = SIZES
) -> None:
    """Whatever the number of rows and threads, a compiled model gives what its module gives."""
    rows = [odd_rows(x) for x in inputs]
    assert_answers_like(net, *(x[:33].numpy() for x in rows))
    try:
        for size in sizes:
            some = [x[:size] for x in rows]
            with torch.no_grad():
                want = q(*some)
            for threads in (1, 2):
                fm.set_num_threads(threads)
                assert_same_bits(want, net(*some), f"{size} rows, {threads} threads")
    finally:
        fm.set_num_threads(0)
