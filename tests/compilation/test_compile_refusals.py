"""compile: what it refuses, by name, and with what to do instead."""

from __future__ import annotations

import copy
import re
import types

import pytest
import torch
from models import (
    IMAGES,
    SEQUENCES,
    Attention,
    ControlFlow,
    Convolutional,
    Encoder,
    TwoInputs,
    mlp,
)
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr

X = torch.randn(50, 12, generator=torch.Generator().manual_seed(2))

STEPWISE = {
    "flatten of all": (
        lambda: nn.Sequential(nn.Flatten(0), nn.Linear(12, 4)), r"'1' \(\w*Linear\) raised"
    ),
    "convolution": (Convolutional, r"'features.0' \(Conv2d\)"),
    "attention": (Attention, r"'attention' \(MultiheadAttention\)"),
    "encoder": (Encoder, r"'encoder' \(TransformerEncoder\)"),
    "norm of groups": (lambda: nn.Sequential(nn.Linear(12, 4), nn.GroupNorm(2, 4)), "GroupNorm"),
    "a norm of each batch": (
        lambda: nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        r"'1' \(BatchNorm1d\): it has no running statistics",
    ),
    "no dimension": (lambda: nn.Sequential(nn.Linear(12, 4), nn.Softmax()), r"'1' \(Softmax\)"),
    "sine": (lambda: after(torch.sin), "'sin'"),
    "power": (lambda: after(lambda h: h**3), "'pow'"),
    "running sum": (lambda: after(lambda h: torch.cumsum(h, 1)), "'cumsum'"),
    "rows times rows": (lambda: after(lambda h: h @ h.t()), "'t'|'matmul'"),
    "a mean of rows": (lambda: after(lambda h: h - h.mean(0)), "'mean'"),
    "a mean of all": (lambda: after(lambda h: h - h.mean()), "'mean'"),
    "a sum of rows": (lambda: after(lambda h: h.sum(0)), "'sum': dimension 0 is that of"),
    "softmax of rows": (lambda: after(lambda h: h.softmax(0)), "'softmax': dimension 0"),
    "cat of rows": (lambda: after(lambda h: torch.cat([h, h])), "'cat'"),
    "every other number": (lambda: after(lambda h: h[:, ::2]), "'getitem'.*slice"),
    "fewer rows": (lambda: after(lambda h: h[1:]), "'getitem'.*slice"),
    "nothing": (lambda: after(lambda h: h[:, 3:3]), "'getitem'.*not empty"),
    "a factor of a join": (lambda: after(lambda h: torch.add(h, h, alpha=2)), "'add'.*further"),
    "indexes of all": (lambda: after(lambda h: h.argmax()), "'argmax'.*one dimension"),
    "indexes are computed with": (lambda: after(lambda h: h.argmax(1) + 1), "'add'.*indexes"),
    "indexes twice": (lambda: after(lambda h: (h.argmax(1),) * 2), "indexes"),
    "written, and read again": (
        lambda: after(lambda h: F.relu(h, inplace=True) + h),
        "'relu': it writes into 'layer', which 'add' reads after that",
    ),
    "other numbers each time": (lambda: after(lambda h: h + torch.rand(16)), "each time"),
}  # fmt: skip
WHOLE = {
    "control flow": (ControlFlow, "torch.fx cannot trace"),
    "a number as output": (lambda: after(lambda h: (h, 3)), "outputs that are tensors.*got 3"),
    "nested outputs": (lambda: after(lambda h: (h, (h,))), "outputs that are tensors"),
    "no outputs": (lambda: after(lambda h: ()), "expected outputs, got none"),
    "keys that are no text": (lambda: after(lambda h: {1: h}), "text as keys"),
    "rows that do not fit": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.Flatten(), nn.Linear(8, 4)), "run on rows of"
    ),
}  # fmt: skip


class After(nn.Module):
    """A function of what a layer gives."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.layer = nn.Linear(12, 16)

    def forward(self, x):
        return self.function(self.layer(x))


def after(function):
    return After(function)


def example_of(model):
    if isinstance(model, Convolutional):
        return IMAGES
    return SEQUENCES if isinstance(model, Attention | Encoder) else X


@pytest.mark.parametrize("name", STEPWISE)
@pytest.mark.parametrize("options", [{}, {"dynamic": True}], ids=str)
def test_a_step_that_is_no_part_of_one_call_is_named(name, options):
    make, message = STEPWISE[name]
    model = make().eval()
    with pytest.raises(ValueError, match=message) as refused:
        fm.compile(model, example=example_of(model), **options)
    assert re.search(r"fm.quantize\(\.\.\.\)|use the form that", str(refused.value))


def test_a_quantized_model_is_to_be_called_as_it_is():
    quantized = fm.quantize(Convolutional().eval(), fm.Dynamic())
    with pytest.raises(ValueError, match=r"cannot compile 'features\.0'.*: call it as it is$"):
        fm.compile(quantized, example=IMAGES)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("options", [{}, {"dynamic": True}], ids=str)
def test_a_model_that_is_no_graph_of_steps(name, options):
    make, message = WHOLE[name]
    with pytest.raises(ValueError, match=message) as refused:
        fm.compile(make().eval(), **options)
    assert "fm.quantize(...)" in str(refused.value)


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Flatten(0), nn.Linear(12, 4)), nn.ReLU(), nn.Identity(), nn.Softmax(-1)],
    ids=str,
)
def test_rows_whose_width_nobody_tells(model):
    with pytest.raises(ValueError, match=r"how wide rows of 'input' are.*give example="):
        fm.compile(model)


def test_one_of_several_inputs_is_missing_in_the_example():
    with pytest.raises(ValueError, match="example: expected rows of 'numbers', too, got none"):
        fm.compile(TwoInputs(), example=X)


def doubled(self, x):
    return type(self).forward(self, x) * 2


PATCHED = [
    nn.LayerNorm(16), nn.BatchNorm1d(16), nn.PReLU(16), nn.PReLU(), nn.GLU(), nn.Softmax(-1),
    nn.LogSoftmax(-1), nn.GELU(), nn.Sigmoid(), nn.ReLU(), nn.Hardtanh(), nn.Flatten(),
    nn.Identity(), nn.Dropout(), nn.Linear(16, 16), nn.Unflatten(1, (2, 8)),
]  # fmt: skip


@pytest.mark.parametrize("layer", PATCHED, ids=str)
@pytest.mark.parametrize("options", [{}, {"dynamic": True}, {"calibration": X}], ids=str)
def test_a_layer_with_a_forward_of_its_own_is_right_or_refused(layer, options):
    model = nn.Sequential(nn.Linear(12, 16), copy.deepcopy(layer)).eval()
    model[1].forward = types.MethodType(doubled, model[1])
    with torch.no_grad():
        want = model(X)
    try:
        net = fm.compile(model, **options)
    except ValueError as refused:
        assert re.search(r"'1'.*(forward|no layer)", str(refused)), refused  # noqa: PT017
    else:
        assert sqnr(want, net(X)) > 20


def test_hooks_inside_are_refused():
    for name in ("0", "1"):
        model = mlp()
        model.get_submodule(name).register_forward_hook(lambda m, a, y: y * 2)
        with pytest.raises(ValueError, match=f"expected no hooks, got one on '{name}'"):
            fm.compile(model, dynamic=True)
