"""Which of torch's modules and calls are activations that kernels compute: as torch does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fastmnist import _ops
from fastmnist.int8.activation import NAMES, Activation
from fastmnist.layers.functions import activation_of, activation_of_call


def computed(x: Tensor, activation: Activation) -> Tensor:
    return _ops.activate(x, activation.number, *activation.parameters)


def check(activation: Activation | None, function: Callable[[Tensor], Tensor]) -> None:
    assert activation is not None
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(20_000, generator=generator) * scale for scale in (0.1, 1, 5, 50)])
    want = function(x.double().clone())
    got = computed(x, activation)
    assert got.dtype is torch.float32
    error = (got - want).abs() / want.abs().clamp(min=1)
    assert error.max() < 4e-7, activation


MODULES = [
    nn.LeakyReLU(), nn.LeakyReLU(0.3), nn.LeakyReLU(-1), nn.LeakyReLU(0.0, inplace=True),
    nn.PReLU(), nn.PReLU(init=0.7), nn.ELU(), nn.ELU(0.4), nn.CELU(), nn.CELU(2.5), nn.SELU(),
    nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.SiLU(inplace=True), nn.Mish(), nn.Hardswish(),
    nn.Hardsigmoid(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.Softplus(2, 5), nn.LogSigmoid(),
    nn.Softplus(-0.5), nn.Softsign(),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_modules(module: nn.Module) -> None:
    with torch.no_grad():
        check(activation_of(module), copy.deepcopy(module).double())


def test_every_activation_is_some_modules() -> None:
    found = (activation_of(module) for module in MODULES)
    assert {activation.name for activation in found if activation} == set(NAMES)


class Doubled(nn.Tanh):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_other_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    patched = nn.Tanh()
    patched.forward = lambda input: input  # type: ignore[method-assign]
    others: list[nn.Module | None] = [
        None, nn.ReLU(), nn.PReLU(3), Doubled(), patched, nn.CELU(-1), nn.Softplus(0),
        nn.LeakyReLU(float("inf")), nn.ELU(float("nan")), nn.Softshrink(), nn.RReLU(),
        nn.Linear(2, 2),
    ]  # fmt: skip
    assert [module for module in others if activation_of(module) is not None] == []
    monkeypatch.setattr(nn.SiLU, "forward", lambda self, x: x)
    assert activation_of(nn.SiLU()) is None


CALLS: dict[str, Callable[[Any], Any]] = {
    "F.leaky_relu(x)": lambda x: F.leaky_relu(x),
    "F.leaky_relu(x, 0.2)": lambda x: F.leaky_relu(x, 0.2),
    "F.leaky_relu(x, 0.2, True)": lambda x: F.leaky_relu(x, 0.2, True),
    "F.leaky_relu(input=x)": lambda x: F.leaky_relu(input=x, negative_slope=0.3, inplace=True),
    "F.leaky_relu_(x)": lambda x: F.leaky_relu_(x, 0.4),
    "F.elu(x)": lambda x: F.elu(x),
    "F.elu(x, alpha=2)": lambda x: F.elu(x, alpha=2),
    "F.elu_(x, 0.5)": lambda x: F.elu_(x, 0.5),
    "F.elu_(x, 0.5, 2, 3)": lambda x: F.elu_(x, 0.5, 2.0, 3.0),
    "F.celu(x, 3.0)": lambda x: F.celu(x, 3.0),
    "torch.celu(x, alpha=0.7)": lambda x: torch.celu(x, alpha=0.7),
    "F.selu(x)": lambda x: F.selu(x),
    "torch.selu(x)": lambda x: torch.selu(x),
    "F.gelu(x)": lambda x: F.gelu(x),
    "F.gelu(x, approximate=tanh)": lambda x: F.gelu(x, approximate="tanh"),
    "F.silu(x)": lambda x: F.silu(x),
    "F.silu(x, inplace=True)": lambda x: F.silu(x, inplace=True),
    "F.mish(x)": lambda x: F.mish(x),
    "F.hardswish(x)": lambda x: F.hardswish(x),
    "F.hardsigmoid(x)": lambda x: F.hardsigmoid(x),
    "torch.sigmoid(x)": lambda x: torch.sigmoid(x),
    "torch.special.expit(x)": lambda x: torch.special.expit(x),
    "x.sigmoid()": lambda x: x.sigmoid(),
    "x.sigmoid_()": lambda x: x.sigmoid_(),
    "torch.tanh(x)": lambda x: torch.tanh(x),
    "F.tanh(x)": lambda x: F.tanh(x),
    "x.tanh()": lambda x: x.tanh(),
    "x.tanh_()": lambda x: x.tanh_(),
    "F.softplus(x)": lambda x: F.softplus(x),
    "F.softplus(x, 2)": lambda x: F.softplus(x, 2),
    "F.softplus(x, beta=3, threshold=4)": lambda x: F.softplus(x, beta=3, threshold=4),
    "F.logsigmoid(x)": lambda x: F.logsigmoid(x),
    "F.softsign(x)": lambda x: F.softsign(x),
}


def call_of(function: Callable[[Any], Any]) -> fx.Node:
    nodes = [n for n in fx.symbolic_trace(function).graph.nodes if n.op.startswith("call_")]  # type: ignore[arg-type]
    assert len(nodes) == 1
    node = nodes[0]
    assert isinstance(node, fx.Node)
    return node


@pytest.mark.parametrize("text", CALLS)
def test_calls(text: str) -> None:
    check(activation_of_call(call_of(CALLS[text])), CALLS[text])


OTHER_CALLS: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: torch.relu(x),
    "exp": lambda x: x.exp(),
    "out=": lambda x: torch.tanh(x, out=torch.zeros(1)),
    "alpha=0": lambda x: F.celu(x, 0.0),
    "slope=inf": lambda x: F.leaky_relu(x, float("inf")),
    "prelu": lambda x: F.prelu(x, torch.ones(1)),
}


@pytest.mark.parametrize("text", OTHER_CALLS)
def test_other_calls(text: str) -> None:
    graph = fx.symbolic_trace(OTHER_CALLS[text]).graph  # type: ignore[arg-type]
    assert all(activation_of_call(node) is None for node in graph.nodes)


def test_a_slope_that_is_computed_is_none() -> None:
    def function(x: Any) -> Any:
        return F.leaky_relu(x, x.size(0))

    graph = fx.symbolic_trace(function).graph
    assert all(activation_of_call(node) is None for node in graph.nodes)
