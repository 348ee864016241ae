"""Compiled networks are called as their models are: optional arguments, shapes, no writing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastmnist as fm
from fastmnist.compilation import compiling
from fastmnist.runtime.compiled import CompiledModel

X = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))


class Unread(nn.Module):
    """Takes a mask and never reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.fc(x)


class Masked(Unread):
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        y: Tensor = self.fc(x)
        return y if mask is None else y * mask


class Scaled(Unread):
    def forward(self, x: Tensor, *, scale: float = 2.0) -> Tensor:
        y: Tensor = self.fc(x)
        return y * scale


@pytest.mark.parametrize("cls", [Unread, Masked])
@pytest.mark.parametrize("way", [{"calibration": X}, {"dynamic": True}, {"example": X}])
def test_an_argument_of_the_model_is_never_written_to(cls, way):
    net = fm.compile(cls(), **way)
    mask = torch.ones(20, 6)
    with pytest.raises(TypeError, match="takes at most 1 positional"):
        net(X, mask)
    assert bool((mask == 1).all())
    out = torch.empty(20, 6)
    assert net(X, out=out) is out
    assert torch.equal(net(X), out)


def test_optional_arguments_have_their_defaults_without_rows_of_them():
    for model in (Masked(), Scaled()):
        net = fm.compile(model, example=X)
        assert torch.allclose(net(X), model(X), atol=1e-6)
    with_mask = fm.compile(Masked(), example=(X, X))
    assert with_mask.network.inputs[1].name == "mask"


def test_out_stays_by_name_in_files(tmp_path):
    fm.save(tmp_path / "net.safetensors", fm.compile(Unread(), X))
    with pytest.raises(TypeError, match="at most 1"):
        fm.load(tmp_path / "net.safetensors")(X, X)


def test_rows_that_the_model_would_take_for_positions_are_refused():
    net = fm.compile(nn.Sequential(nn.Linear(6, 4), nn.Softmax(1)), example=X)
    with pytest.raises(ValueError, match=r"x\.reshape\(-1, 6\)"):
        net(X[:, None])
    assert torch.equal(net(X.reshape(20, 2, 3)), net(X))  # as pixels of an image


def test_squares_and_axes():
    class Squares(Unread):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(x)
            return torch.cat([y**2, y], axis=1)

    model = Squares()
    q = fm.quantize(model, fm.Static(X))
    assert torch.equal(fm.compile(q)(X), q(X))


def test_a_network_that_answers_otherwise_is_refused(monkeypatch):
    """Whatever went wrong: here, an output with its sign turned."""

    class Wrong(CompiledModel):
        def __call__(self, *inputs):
            return -super().__call__(*inputs)

    monkeypatch.setattr(compiling, "CompiledModel", Wrong)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh())
    for way in ({"calibration": X}, {"dynamic": True}, {}):
        with pytest.raises(ValueError, match="200% off"):
            fm.compile(model, **way)


def test_outputs_that_are_nearly_zero_are_no_error():
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)
    assert np.array_equal(fm.compile(model, X)(X.numpy()), np.zeros((20, 2), np.float32))


def test_what_fx_traced_is_a_model_like_any_other():
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    q = fm.quantize(model, fm.Static(X, mean=0.5, std=0.5))
    assert torch.equal(fm.compile(q)(X), q(X))
    assert fm.changes(q)
    again = fm.quantize(fm.fuse(model), fm.Dynamic(mean=0.5, std=0.5))
    assert fm.changes(again)
    assert fm.compile(again).pixels is not None  # kept by copies, which fx makes of the graph alone


def test_a_call_of_its_own_is_one_in_what_fx_traced_too():
    class Called(torch.fx.GraphModule):
        def __call__(self, *rows, **named):
            return super().__call__(*rows, **named) + 1

    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(6, 5)))
    model = Called(traced, traced.graph)
    assert not torch.equal(model(X), traced(X))
    with pytest.raises(ValueError, match="no hooks, got one on the model itself"):
        fm.compile(model)
