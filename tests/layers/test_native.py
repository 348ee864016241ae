"""Modules that run native kernels do what torch's do, beyond the numbers that they give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fastmnist as fm

X = torch.randn(20, 8, generator=torch.Generator().manual_seed(3))


class Skipping(nn.Module):
    """What the activation was given is read again."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(8, 8), act, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(self.act(h)) + 3 * h


IN_PLACE = [
    nn.LeakyReLU(-1.5, inplace=True), nn.ELU(4.0, inplace=True), nn.CELU(4.0, inplace=True),
    nn.SELU(inplace=True), nn.SiLU(inplace=True), nn.Mish(inplace=True),
    nn.Hardswish(inplace=True), nn.Hardsigmoid(inplace=True),
]  # fmt: skip


@pytest.mark.parametrize("act", IN_PLACE, ids=lambda act: type(act).__name__)
def test_in_place_stays_in_place(act: nn.Module, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Skipping(act).eval()
    quantized = fm.quantize(model, fm.Dynamic())
    fm.save(tmp_path / "model.fastmnist", quantized)
    loaded = fm.load(tmp_path / "model.fastmnist", Skipping(act))
    with torch.no_grad():
        want, got = model(X), quantized(X)
        assert (got - want).abs().max() < 0.03 * want.abs().max()
        assert torch.equal(loaded(X), got)


def test_a_slope_that_is_written_by_its_data() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.PReLU(), nn.Linear(8, 4))
    quantized = fm.quantize(model.eval(), fm.Dynamic())
    with torch.no_grad():
        before = quantized(X)
        quantized[2].weight.data.fill_(-3.0)
        after = quantized(X)
    assert not torch.equal(before, after)
    assert torch.equal(fm.compile(quantized)(X), after)


@pytest.mark.parametrize("dim", [-1, 1])
def test_glu_gives_the_bits_of_a_compiled_one(dim: int) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.GLU(dim), nn.Linear(8, 6), nn.GLU(dim))
    quantized = fm.quantize(model.eval(), fm.Dynamic())
    with torch.no_grad():
        assert torch.equal(fm.compile(quantized)(X), quantized(X))
        assert (quantized(X) - model(X)).abs().max() < 0.05
