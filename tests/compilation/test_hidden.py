"""compile: what a made-up row would hide, what is not float32, and parts of rows."""

from __future__ import annotations

import pytest
import torch
from models import Wrapped
from torch import nn
from torch.nn import functional as F

import fastmnist as fm

X = torch.randn(50, 12, generator=torch.Generator().manual_seed(2))


def doubled_in_place(self, x):
    h = self.layers[0](x)
    same = h
    h *= 2  # torch.fx sees a new tensor
    return self.layers[1](h) + same


def times_noise(self, x):
    return self.layers[0](x * torch.rand(12))


@pytest.mark.parametrize("function", [doubled_in_place, times_noise])
@pytest.mark.parametrize("example", [None, torch.zeros(1, 12)], ids=["made up", "zeros"])
def test_rows_of_zeros_hide_nothing(function, example):
    layers = [nn.Linear(12, 12, bias=False) for _ in range(2)]
    with pytest.raises(ValueError, match="gives the same each time"):
        fm.compile(Wrapped(function, *layers), dynamic=True, example=example)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h.softmax(-1, torch.float64),
        lambda h: h.sum(-1, dtype=torch.float64),
        lambda h: h * torch.ones(4, dtype=torch.float64),
    ],
)
def test_what_is_not_float32_is_refused(function):
    model = Wrapped(lambda self, x: function(self.layers[0](x)), nn.Linear(12, 4))
    with pytest.raises(ValueError, match=r"gives torch.float64.*computes in float32"):
        fm.compile(model)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h.chunk(2, 1)[1],
        lambda h: h.chunk(2, -1)[0] * 2,
        lambda h: h.split([3, 1, 12], dim=1)[2],
        lambda h: h.split(7, -1)[2],
        lambda h: torch.tensor_split(h, [3, 5], dim=1)[2],
    ],
)
def test_parts(function):
    model = Wrapped(lambda self, x: function(self.layers[0](x)), nn.Linear(12, 16)).eval()
    quantized = fm.quantize(model, fm.Dynamic())
    with torch.no_grad():
        assert torch.equal(fm.compile(quantized)(X), quantized(X))


def test_parts_that_overlap():
    def overlapping(self, x):
        return torch.tensor_split(self.layers[0](x), [5, 2], dim=1)[2]

    with pytest.raises(ValueError, match="'tensor_split': expected parts that lie side by side"):
        fm.compile(Wrapped(overlapping, nn.Linear(12, 8)))


def test_a_norm_over_a_shape_that_is_read_from_rows():
    def normalized(self, x):
        return F.layer_norm(self.layers[0](x), x.shape[1:])

    with pytest.raises(ValueError, match="'layer_norm': expected a normalized_shape that is"):
        fm.compile(Wrapped(normalized, nn.Linear(12, 12)))


def test_an_example_of_pixels_for_a_float_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8)).eval()
    pixels = torch.randint(0, 256, (5, 6, 6), dtype=torch.uint8)
    with torch.no_grad():
        want = model((pixels / 255 - 0.1) / 0.3)
    compiled = fm.compile(model, mean=0.1, std=0.3, example=pixels)
    assert torch.allclose(compiled(pixels), want, atol=1e-5)


def test_an_example_of_no_rows():
    with pytest.raises(ValueError, match="example: expected at least one row of 'input', got none"):
        fm.compile(nn.Sequential(nn.Linear(12, 4)), example=X[:0])


def into_out(self, x):
    h = self.layers[0](x)
    torch.add(h, 1, out=h)
    return self.layers[1](h)


def through_view_as(self, x):
    h = self.layers[0](x)
    h.view_as(x).mul_(3)
    return self.layers[1](h)


def through_tensor_split(self, x):
    h = self.layers[0](x)
    torch.tensor_split(h, 2, 1)[0].mul_(3)
    return self.layers[1](h)


def through_a_module(self, x):
    h = self.layers[0](x)
    self.layers[2](h).mul_(3)
    return self.layers[1](h)


@pytest.mark.parametrize(
    "function", [into_out, through_view_as, through_tensor_split, through_a_module]
)
def test_what_is_written_and_not_read_by_its_new_name(function):
    layers = [nn.Linear(12, 12), nn.Linear(12, 4), nn.Unflatten(1, (3, 4))]
    with pytest.raises(ValueError, match=r"it writes into .*use the form that returns"):
        fm.compile(Wrapped(function, *layers))
