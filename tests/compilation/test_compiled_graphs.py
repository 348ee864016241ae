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
    JOINS,
    OTHER,
    POSITIONS,
    WAYS,
    ActorCritic,
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
