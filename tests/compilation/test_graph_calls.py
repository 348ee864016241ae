"""Calling compiled graphs: outputs given, pixels, classes, and whatever does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from graph_models import OTHER, ActorCritic, Block, Joined, X, assert_same_bits, made
from torch import nn

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr


def dynamic(model: nn.Module) -> fm.CompiledModel:
    return fm.compile(model, dynamic=True)


@pytest.fixture(scope="module")
def two() -> fm.CompiledModel:
    """Two inputs, state and goal, and two outputs, policy and value."""
    return dynamic(made(ActorCritic))


@pytest.fixture(scope="module")
def one() -> fm.CompiledModel:
    """A graph of one input and one output."""
    return dynamic(made(lambda: nn.Sequential(nn.Linear(12, 17), Block(17), nn.Linear(17, 4))))


def outs(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((count, 4), torch.nan), torch.full((count, 1), torch.nan)


# ---- out -----------------------------------------------------------------------------------------


def test_outs_are_written_to(two: fm.CompiledModel) -> None:
    want = [*two(X, OTHER).values()]
    policy, value = outs()
    for given in (
        (policy, value), [policy, value], {"policy": policy, "value": value},
        {"value": value, "policy": policy},
    ):  # fmt: skip
        policy.fill_(torch.nan)
        value.fill_(torch.nan)
        assert two(X, OTHER, out=given) is given
        assert torch.equal(policy, want[0])
        assert torch.equal(value, want[1])
    arrays = tuple(out.numpy() for out in outs())
    two(X.numpy(), OTHER.numpy(), out=arrays)
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(want, arrays, strict=True))


def test_one_out(one: fm.CompiledModel) -> None:
    out = torch.full((300, 4), torch.nan)
    assert one(X, out=out) is out
    assert torch.equal(out, one(X))


def test_indexes_have_an_out_of_integers() -> None:
    net = dynamic(made(lambda: Joined(lambda m, x: m.d(m.a(x)).argmax(1))))
    want = net(X)
    out = torch.empty(300, dtype=torch.int64)
    assert net(X, out=out) is out
    assert torch.equal(out, want)
    with pytest.raises((TypeError, ValueError), match=r"out.*int64"):
        net(X, out=torch.empty(300))


@pytest.mark.parametrize(
    "out",
    [
        outs()[0], [outs()[0]], outs()[:1], (*outs(), outs()[0]), (), (outs()[0], None), (3, "out"),
        outs()[::-1], outs(299), (outs()[0].double(), outs()[1]), (outs()[0].t(), outs()[1]),
        {"policy": outs()[0]}, {"policy": outs()[0], "other": outs()[1]}, {},
        {"policy": outs()[1], "value": outs()[0]}, (outs()[0], outs()[1].to("meta")),
    ],
)  # fmt: skip
def test_outs_that_do_not_fit(two: fm.CompiledModel, out: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="out"):
        two(X, OTHER, out=out)


def test_outs_that_overlap(two: fm.CompiledModel) -> None:
    memory = torch.zeros(1500)
    policy, value = memory[:1200].view(300, 4), memory[1199:1499].view(300, 1)
    with pytest.raises(ValueError, match=r"out.*(overlap|memory)"):
        two(X, OTHER, out=(policy, value))
    inside = X.clone()
    mine = inside.view(-1)[:1200].view(300, 4)
    with pytest.raises(ValueError, match=r"out.*(overlap|memory)|(overlap|memory).*out"):
        two(inside, OTHER, out=(mine, outs()[1]))


# ---- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "named", "message"),
    [
        ((), {}, "state|input|x"),
        ((X,), {}, "goal"),
        ((X, OTHER, X), {}, "out|argument"),
        ((X,), {"state": X}, "state|goal"),
        ((X, OTHER), {"goal": OTHER}, "goal|more than once|twice|multiple|2"),
        ((X, OTHER), {"other": X}, "other"),
        ((X, X), {}, "goal.*7|7.*12"),
        ((OTHER, OTHER), {}, "state.*12|12.*7"),
        ((X[:3], OTHER[:4]), {}, "3|4|rows"),
        ((X, OTHER[0]), {}, r"goal"),
        ((X, None), {}, "goal"),
        ((X, OTHER.double().to(torch.int64)), {}, "int64"),
        ((X, OTHER.to("meta")), {}, "meta|device"),
        ((X, [[0.0] * 7]), {}, "goal|asarray"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit(
    two: fm.CompiledModel, args: Any, named: Any, message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        two(*args, **named)


def test_no_rows(two: fm.CompiledModel, one: fm.CompiledModel) -> None:
    assert {k: [*v.shape] for k, v in two(X[:0], OTHER[:0]).items()} == {
        "policy": [0, 4],
        "value": [0, 1],
    }
    assert one(X[:0]).shape == (0, 4)


def test_rows_of_several_positions_have_one_shape() -> None:
    model = made(lambda: nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 4)))
    rows = X[:60].view(12, 5, 12)
    net = fm.compile(model, example=rows, dynamic=True)
    assert net(rows).shape == (12, 5, 4)
    for wrong in (X[:60], X[:60].view(10, 6, 12), X[:60].view(12, 60), X[:60].view(12, 5, 3, 4)):
        with pytest.raises(ValueError, match=r"5.*12"):
            net(wrong)


def test_rows_of_other_types(one: fm.CompiledModel) -> None:
    want = one(X)
    assert torch.equal(one(X.double()), want)
    assert np.array_equal(one(np.asfortranarray(X.numpy())), want.numpy())
    assert torch.equal(one(X.half()), one(X.half().float()))
    assert torch.equal(one(X.view(300, 3, 4)), want)
    assert torch.equal(one(torch.stack([X, X], 1)[:, 0]), want)


# ---- pixels --------------------------------------------------------------------------------------

PIXELS = torch.randint(
    0, 256, (70, 1, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
)


def pixel_models() -> dict[str, nn.Module]:
    return {
        "chain": nn.Sequential(nn.Flatten(), nn.Linear(24, 9), nn.GELU(), nn.Linear(9, 3)),
        "graph": nn.Sequential(nn.Flatten(), nn.Linear(24, 9), Block(9), nn.Linear(9, 3)),
        "norm first": nn.Sequential(nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, 9)),
    }


@pytest.mark.parametrize("name", pixel_models())
@pytest.mark.parametrize("way", ["static", "dynamic", "float"])
def test_pixels_are_as_good_as_their_rows(name: str, way: str) -> None:
    model = made(lambda: pixel_models()[name])
    mean, std = 0.1307, 0.3081
    options: dict[str, Any] = {"mean": mean, "std": std}
    if way == "static":
        options["calibration"] = PIXELS
    elif way == "dynamic":
        options["dynamic"] = True
    net = fm.compile(model, **options)
    rows = (PIXELS.float() / 255 - mean) / std
    if way == "float":
        assert sqnr(model(rows), net(PIXELS)) > 100
        assert sqnr(model(rows), net(rows)) > 100
    else:
        assert sqnr(model(rows), net(PIXELS)) > 20
        assert sqnr(net(rows), net(PIXELS)) > 30
    again = fm.CompiledModel(net.network)
    for size in (1, 2, 33, 70):
        want = net(PIXELS[:size])
        assert_same_bits(want, torch.from_numpy(net(PIXELS[:size].numpy())))
        assert_same_bits(want, again(PIXELS[:size]))


def test_pixels_nobody_told_of(one: fm.CompiledModel) -> None:
    with pytest.raises((TypeError, ValueError), match=r"uint8|pixel"):
        one(torch.zeros(3, 12, dtype=torch.uint8))


# ---- classes -------------------------------------------------------------------------------------

TAILS: dict[str, tuple[list[nn.Module], str]] = {
    "logits": ([], "softmax"),
    "Softmax": ([nn.Softmax(-1)], "same"),
    "LogSoftmax": ([nn.LogSoftmax(-1)], "exp"),
    "Sigmoid": ([nn.Sigmoid()], "same"),
    "LogSigmoid": ([nn.LogSigmoid()], "exp"),
    "Tanh": ([nn.Tanh()], "Tanh"),
    "GELU": ([nn.GELU()], "GELU"),
}
HEADS = {
    "chain": lambda: [nn.Linear(12, 5)],
    "graph": lambda: [nn.Linear(12, 9), Block(9), nn.Linear(9, 5)],
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"calibration": X}], ids=str)
def test_classes_and_probabilities(head: str, tail: str, options: dict[str, Any]) -> None:
    layers, meaning = TAILS[tail]
    model = made(lambda: nn.Sequential(*HEADS[head](), *layers))
    net = fm.compile(model, **options)
    outputs = net(X)
    for x in (X, X.numpy()):
        labels = net.predict(x)
        assert type(labels) is type(x)
        assert torch.equal(torch.as_tensor(labels), outputs.argmax(1))
        if meaning not in ("softmax", "same", "exp"):
            with pytest.raises(ValueError, match=f"predict_proba: .*{meaning}"):
                net.predict_proba(x)
            continue
        want = {"softmax": outputs.softmax(1), "same": outputs, "exp": outputs.exp()}[meaning]
        torch.testing.assert_close(torch.as_tensor(net.predict_proba(x)), want)


def test_what_has_no_classes(two: fm.CompiledModel) -> None:
    with pytest.raises(ValueError, match="predict_proba: expected a network with one output"):
        two.predict_proba(X, OTHER)
    with pytest.raises(ValueError, match=r"predict.*output"):
        two.predict(X, OTHER)
    single = dynamic(made(lambda: nn.Sequential(nn.Linear(12, 9), Block(9), nn.Linear(9, 1))))
    with pytest.raises(ValueError, match="two outputs"):
        single.predict(X)
    with pytest.raises(ValueError, match="at least two outputs, got 1"):
        single.predict_proba(X)


def test_indexes_are_classes_already() -> None:
    net = dynamic(made(lambda: Joined(lambda m, x: m.d(m.a(x)).argmax(-1))))
    with pytest.raises(ValueError, match="predict_proba: expected logits, got a network that"):
        net.predict_proba(X)
    assert torch.equal(net.predict(X), net(X))


def test_classes_can_be_given_a_place(one: fm.CompiledModel) -> None:
    out = torch.empty(300, dtype=torch.int64)
    assert one.predict(X, out=out) is out
    assert torch.equal(out, one(X).argmax(1))


# ---- float layers --------------------------------------------------------------------------------

FLOAT_MODELS = {
    "chain": lambda: nn.Sequential(nn.Linear(12, 33), nn.ReLU(), nn.Linear(33, 5)),
    "blocks": lambda: nn.Sequential(nn.Linear(12, 17), Block(17), Block(17), nn.Linear(17, 5)),
    "autoencoder": lambda: nn.Sequential(
        nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 12), nn.Sigmoid()
    ),
    "tabular": lambda: nn.Sequential(
        nn.BatchNorm1d(12), nn.Linear(12, 40), nn.BatchNorm1d(40), nn.SiLU(), nn.Linear(40, 50)
    ),
    "gate": lambda: Joined(lambda m, x: m.d(torch.sigmoid(m.a(x)) * torch.tanh(m.b(x)))),
    "function": lambda: Joined(lambda m, x: nn.functional.linear(m.a(x), m.c.weight, m.c.bias)),
    "matmul": lambda: Joined(lambda m, x: m.a(x) @ m.c.weight.t() + m.c.bias),
}


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_float_models_are_near_torch(name: str) -> None:
    model = made(FLOAT_MODELS[name])
    net = fm.compile(model)
    with torch.no_grad():
        for size in (1, 2, 33, 300):
            assert sqnr(model(X[:size]), net(X[:size])) > 100
    rows = X.clone()
    rows[3] = torch.nan
    assert torch.equal(net(rows).isnan(), model(rows).isnan())


@pytest.mark.parametrize("options", [{}, {"calibration": X}], ids=["dynamic", "static"])
def test_layers_left_in_float(options: dict[str, Any]) -> None:
    model = made(lambda: nn.Sequential(nn.Linear(12, 17), nn.GELU(), Block(17), nn.Linear(17, 5)))
    for name in ("0", "2.up", "3"):
        config = fm.Static(X) if options else fm.Dynamic()
        q = fm.quantize(model, config, exclude=[name])
        net = fm.compile(q)
        kinds = {getattr(layer, "kind", "int8") for layer in net.layers}
        assert kinds == {"int8", "float"}
        assert sqnr(q(X), net(X)) > 30  # a code may round otherwise
        assert sqnr(q(X[:1]), net(X[:1])) > 30
