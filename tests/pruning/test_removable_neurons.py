"""prune(Structured): which neurons cannot be removed, and what is said then."""

from __future__ import annotations

import pytest
import torch
from models import (
    Attention,
    ControlFlow,
    Convolutional,
    Custom,
    Encoder,
    ReadsWeights,
    Residual,
    Tied,
    TwoInputs,
    UsedTwice,
    assert_unchanged,
    mlp,
    snapshot,
)
from torch import nn

import fastmnist as fm

X = torch.linspace(-1, 1, 20 * 12).reshape(20, 12)


def half(**what):
    return fm.Structured(0.5, multiple_of=1, **what)


# --- what cannot lose neurons


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 6), nn.Linear(18, 4)

    def forward(self, x):
        return self.b(torch.cat([x, self.a(x)], 1))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 6), nn.Linear(6, 4), nn.Linear(12, 6)

    def forward(self, x):
        return self.b(self.a(x))


def hooked():
    model = mlp()
    model[1].register_forward_hook(lambda *args: None)
    return model


def shared():
    model = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12), nn.Linear(12, 4))
    model[2].weight = model[0].weight
    return model


BLOCKED = [
    (Residual, r"got 'a': what it gives goes into 'add'"),
    (TwoInputs, r"got 'image': what it gives goes into 'add'"),
    (Concatenated, r"got 'a': what it gives goes into 'cat'"),
    (UsedTwice, r"got 'inside': it is called more than once"),
    (Tied, r"got 'a': it is called more than once"),
    (Unused, r"got 'c': it is not called as a plain torch.nn.Linear in forward"),
    (ReadsWeights, r"got 'encoder': it has weights that forward reads itself"),
    (hooked, r"got '0': what it gives goes into '1', which has hooks"),
    (shared, r"got '0': it shares a weight with another layer"),
    (Encoder, r"got 'encoder.layers.0.self_attn.out_proj': it is not called"),
    (Attention, r"got 'attention.out_proj': it is not called"),
    (
        lambda: nn.Sequential(nn.Linear(12, 12), nn.LayerNorm(12), nn.Linear(12, 4)),
        r"got '0': what it gives goes into '1', which is a LayerNorm",
    ),
    (
        lambda: fm.quantize_dynamic(mlp(), {"5"}),
        r"got '3': what it gives goes into '5', which is a QuantizedLinear",
    ),
    (
        lambda: nn.Sequential(nn.Linear(12, 12), nn.Softmax(1), nn.Linear(12, 4)),
        r"got '0': what it gives goes into '1', which is a Softmax",
    ),
    (
        lambda: nn.Sequential(nn.Linear(12, 4), nn.Flatten(), nn.Linear(8, 4)),
        r"goes into '2', which has 8 inputs, not 4: rows are rearranged",
    ),
    (lambda: Custom(lambda m, x: x.view(-1, 12)), r"got 'a': what it gives goes into 'view'"),
    (lambda: Custom(lambda m, x: x * m.scale), r"goes into 'mul'"),
    (lambda: Custom(lambda m, x: x / x.size(1)), r"goes into 'size'"),
    (lambda: Custom(lambda m, x: x / x.sum()), r"goes into 'sum'"),
    (lambda: Custom(lambda m, x: x.softmax(1)), r"goes into 'softmax'"),
    (lambda: Custom(lambda m, x: x[:, :6], after=6), r"goes into 'getitem'"),
    (lambda: Custom(lambda m, x: x.t()), r"goes into 't'"),
    (lambda: Custom(lambda m, x: m.b(m.norm(x)) + m.norm(x).sum()), r"goes into"),
    (ControlFlow, r"expected a forward that torch.fx can trace"),
]


@pytest.mark.parametrize(("make", "match"), BLOCKED)
def test_what_the_graph_cannot_follow(make, match):
    model = make()
    before = snapshot(model)
    with pytest.raises(ValueError, match=match):
        fm.prune(model, half())
    # And nothing is trained first.
    with pytest.raises(ValueError, match=match):
        fm.prune(model, half(), finetune=lambda m: pytest.fail("trained"))
    assert_unchanged(model, before)


def test_the_rest_of_such_models():
    assert fm.prune(UsedTwice(), fm.L1Unstructured(0.5))
    assert fm.prune(Unused(), half(), exclude="c").b.in_features == 3
    head = Convolutional()
    assert fm.prune(head, half()).head[3].in_features == 16
    encoder = Encoder()
    linears = [f"encoder.layers.{i}.linear1" for i in (0, 1)]
    with pytest.raises(ValueError, match="it is not called as a plain"):
        fm.prune(encoder, half(), include=linears)


@pytest.mark.parametrize(
    "what", [{"include": "5"}, {"include": ["0", "5"]}, {"amounts": {"5": 0.5}}]
)
def test_the_output_layer(what):
    with pytest.raises(ValueError, match="expected layers before the output, got '5'"):
        fm.prune(mlp(), half(), **what)


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(12, 4), lambda: nn.Sequential(nn.Linear(12, 4))]
)
def test_only_an_output_layer(make):
    with pytest.raises(ValueError, match="expected a Linear layer before the output layer"):
        fm.prune(make(), half())


def test_nothing_removed():
    with pytest.raises(ValueError, match=r"removes none when widths \[33, 17\] are rounded"):
        fm.prune(mlp(), fm.Structured(0))
    with pytest.raises(ValueError, match="use a smaller multiple_of"):
        fm.prune(nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 2)), fm.Structured(0.5))
    with pytest.raises(ValueError, match=r"amounts\['0'\]: expected a share of neurons"):
        fm.prune(mlp(), half(), amounts={"0": 1.0})
