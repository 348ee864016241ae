"""A compiled graph gives its quantized module's bits: activations, joins, tails."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_models import (
    ACTIVATIONS,
    OTHER,
    POSITIONS,
    WAYS,
    ActorCritic,
    Block,
    Joined,
    X,
    assert_compiled,
    assert_same_bits,
    made,
    odd_rows,
)
from torch import nn

import fastmnist as fm


def _in_a_chain(act: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), act(), nn.Linear(16, 16), act(), nn.Linear(16, 4))


def _behind_an_addition(act: Callable[[], nn.Module]) -> nn.Module:
    return Joined(lambda m, x: m.d(m.others[0](m.a(x) + m.b(x))), act())


def _as_tail(act: Callable[[], nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), act())


PLACES = {"in a chain": _in_a_chain, "join": _behind_an_addition, "tail": _as_tail}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activations(act: str, place: str, way: str) -> None:
    model = made(lambda: PLACES[place](ACTIVATIONS[act]))
    q = WAYS[way](model, X)
    net = fm.compile(q)
    assert_compiled(q, net, X)
    if place == "in a chain" and act != "PReLU(16)":
        assert len(net.layers) == 3
        assert isinstance(net.network, fm.int8.network.QuantizedNetwork)  # one chain, fused


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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", JOINS)
def test_joins_and_tails(name: str, way: str) -> None:
    q = WAYS[way](made(JOINS[name]), X)
    assert_compiled(q, fm.compile(q), X)


@pytest.mark.parametrize("way", WAYS)
def test_several_inputs_and_outputs(way: str) -> None:
    q = WAYS[way](made(ActorCritic), {"state": X, "goal": OTHER})
    net = fm.compile(q)
    assert_compiled(q, net, X, OTHER)
    want = net(X, OTHER)
    for given in (
        net(X, goal=OTHER), net(goal=OTHER, state=X), net(X.numpy(), OTHER.numpy())
    ):  # fmt: skip
        for key, value in want.items():
            assert np.array_equal(value.numpy(), np.asarray(given[key]))


def _in_positions(function: Callable[..., object], *layers: nn.Module) -> nn.Module:
    return Joined(function, *layers)


POSITIONED: dict[str, Callable[[], nn.Module]] = {
    "layers": lambda: nn.Sequential(nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 3)),
    "norm": lambda: nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 16), nn.Softmax(-1)),
    "norm of all": lambda: nn.Sequential(nn.LayerNorm((5, 12)), nn.Linear(12, 16)),
    "mixer": lambda: Joined(
        lambda m, x: x + m.others[0](x.transpose(1, 2)).transpose(1, 2), nn.Linear(5, 5)
    ),
    "permute": lambda: Joined(lambda m, x: m.others[0](x.permute(0, 2, 1)), nn.Linear(5, 3)),
    "flattened": lambda: nn.Sequential(nn.Linear(12, 4), nn.Flatten(), nn.Linear(20, 3)),
    "split": lambda: Joined(lambda m, x: m.d(m.a(x).view(-1, 10, 8).flatten(2).view(-1, 5, 16))),
    "slices": lambda: Joined(lambda m, x: torch.cat([m.a(x)[:, :, 4:], x[..., :3]], -1)),
    "cat of positions": lambda: Joined(lambda m, x: torch.cat([m.a(x), m.b(x)], 1)),
    "BatchNorm1d": lambda: nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.BatchNorm1d(5)),
    "PReLU": lambda: nn.Sequential(nn.Linear(12, 16), nn.PReLU(5), nn.Linear(16, 4)),
    "argmax": lambda: nn.Sequential(nn.Linear(12, 16), nn.ReLU(), Last()),
}


class Last(nn.Module):
    """The index of the largest."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(-1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", POSITIONED)
def test_rows_of_several_positions(name: str, way: str) -> None:
    q = WAYS[way](made(POSITIONED[name]), POSITIONS)
    net = fm.compile(q, example=POSITIONS)
    assert_compiled(q, net, POSITIONS, sizes=(1, 2, 33, 64))


@pytest.mark.parametrize("way", WAYS)
def test_a_mean_over_positions_is_nearly_torchs(way: str) -> None:
    """Torch adds in an order of its own."""
    q = WAYS[way](made(lambda: Joined(lambda m, x: m.a(x).mean(1))), POSITIONS)
    got = fm.compile(q, example=POSITIONS)(POSITIONS)
    torch.testing.assert_close(got, q(POSITIONS), rtol=1e-5, atol=1e-6)


def _kept(path: Path, net: fm.CompiledModel) -> dict[str, fm.CompiledModel]:
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    fm.save(path, net)
    return {
        "pickle": pickle.loads(pickle.dumps(net)),
        "deepcopy": copy.deepcopy(net),
        "torch.save": torch.load(buffer, weights_only=False),
        "file": fm.load(path),
        "network": fm.CompiledModel(net.network),
        "fixed": fm.CompiledModel(net.network, "fixed"),
    }


@pytest.mark.parametrize("way", [*WAYS, "float"])
@pytest.mark.parametrize("name", JOINS)
def test_kept_ones_give_the_same(name: str, way: str, tmp_path: Path) -> None:
    model = made(JOINS[name])
    net = fm.compile(model if way == "float" else WAYS[way](model, X))
    x = odd_rows(X)[:33]
    for how, again in _kept(tmp_path / "net.safetensors", net).items():
        assert_same_bits(net(x), again(x), how)
        assert repr(again) == repr(net)


@pytest.mark.parametrize("way", ["Static", "Dynamic"])
def test_kept_ones_with_several_inputs(way: str, tmp_path: Path) -> None:
    net = fm.compile(WAYS[way](made(ActorCritic), {"state": X, "goal": OTHER}))
    for how, again in _kept(tmp_path / "net.safetensors", net).items():
        assert_same_bits(net(X, OTHER), again(goal=OTHER, state=X), how)
