"""Steps in each of their spellings, and what predict_proba makes of what stands behind layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fastmnist as fm

X = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))


class Ending(nn.Module):
    """Two layers, and a function of both."""

    def __init__(self, ending: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 4)
        self.ending = ending

    def forward(self, x: Tensor) -> Tensor:
        return self.ending(self.a(x), self.b(x))


SPELLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "F.softmax": lambda a, b: F.softmax(a, dim=-1),
    "F.softmax(x, 1)": lambda a, b: F.softmax(a, 1),
    "torch.softmax": lambda a, b: torch.softmax(a, 1),
    "x.softmax": lambda a, b: a.softmax(-1),
    "F.log_softmax": lambda a, b: F.log_softmax(a, dim=1),
    "torch.log_softmax": lambda a, b: torch.log_softmax(a, dim=1),
    "x.log_softmax": lambda a, b: a.log_softmax(dim=1),
    "F.softmax of float32": lambda a, b: F.softmax(a, 1, dtype=None),
    "F.logsigmoid": lambda a, b: F.logsigmoid(a),
    "F.layer_norm": lambda a, b: F.layer_norm(a, (4,)),
    "F.glu": lambda a, b: F.glu(a),
    "abs": lambda a, b: (a - b).abs(),
    "torch.abs": lambda a, b: torch.abs(a - b),
    "abs()": lambda a, b: abs(a - b),
    "power": lambda a, b: (a - b) ** 2,
    "torch.pow": lambda a, b: torch.pow(a, 2),
    "square": lambda a, b: (a * b).square(),
    "torch.cat": lambda a, b: torch.cat((a, b), -1),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_compiles(name):
    model = Ending(SPELLINGS[name])
    assert torch.allclose(fm.compile(model)(X), model(X), atol=1e-5)
    q = fm.quantize(model, fm.Static(X))
    assert torch.allclose(fm.compile(q)(X), q(X), atol=1e-5)


def test_abs_keeps_bits():
    net = fm.compile(Ending(lambda a, b: (a - b).abs()), X)
    signed = fm.compile(Ending(lambda a, b: a - b), X)
    x = X.clone()
    x[3, 2] = float("nan")
    assert np.array_equal(net(x).numpy(), signed(x).abs().numpy(), equal_nan=True)


@pytest.mark.parametrize(
    "ending",
    [
        lambda a, b: (a.softmax(1) + b.softmax(1)) / 2,
        lambda a, b: a.softmax(1) * 1.5,
        lambda a, b: 1 - a.sigmoid(),
        lambda a, b: a.softmax(1)[:, :3],
        lambda a, b: torch.cat([a.softmax(1), b], 1),
        lambda a, b: a.log_softmax(1).clamp(min=-5),
    ],
)
def test_probabilities_that_are_computed_with_are_no_logits(ending):
    net = fm.compile(Ending(ending), X)
    with pytest.raises(ValueError, match="call the model"):
        net.predict_proba(X)
    assert net.predict(X).shape == (30,)


def test_what_is_computed_with_before_the_end_is_logits():
    net = fm.compile(Ending(lambda a, b: a + b), X)
    assert torch.allclose(net.predict_proba(X).sum(1), torch.ones(30))
    assert torch.equal(net.predict_proba(X).argmax(1), net.predict(X))


def test_a_reshape_at_the_end_changes_no_meaning():
    net = fm.compile(Ending(lambda a, b: a.sigmoid().view(-1, 2, 2)), X)
    assert torch.equal(net.predict_proba(X), net(X))


def test_a_layer_that_is_called_twice_is_held_once(tmp_path):
    class Once(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared, self.head = nn.Linear(64, 64), nn.Linear(64, 3)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.head(torch.relu(self.shared(left)) * right)

    class Twice(Once):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.head(torch.relu(self.shared(left)) * torch.relu(self.shared(right)))

    rows = torch.randn(2, 20, 64)
    example = tuple(rows)
    for dynamic in (False, True):
        once, net = (
            fm.compile(cls(), dynamic=dynamic, example=example, plan="fixed")
            for cls in (Once, Twice)
        )
        assert once.nbytes < net.nbytes < once.nbytes + 1024  # a step more, no weights
        sizes = []
        for made in (once, net):
            fm.save(tmp_path / "net.safetensors", made)
            sizes.append((tmp_path / "net.safetensors").stat().st_size)
        assert sizes[1] < sizes[0] + 1024
        loaded = fm.load(tmp_path / "net.safetensors")
        assert torch.equal(loaded(*rows), net(*rows))


def test_variants_of_two_heads():
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.p, self.v = nn.Linear(6, 32), nn.Linear(32, 3), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.trunk(x).tanh()
            return self.p(h), self.v(h)

    with pytest.warns(UserWarning, match="left out"):
        made = fm.variants(Heads(), (X, torch.zeros(30).long()))
    assert {"compiled", "compiled float32"} <= {*made}


@pytest.mark.parametrize("rows", [(0,), "a", (-1, 3), ()])
def test_explain_of_what_are_no_batches(rows):
    with pytest.raises(ValueError, match="positive integers"):
        fm.compile(Ending(lambda a, b: a + b)).explain(rows=rows)
