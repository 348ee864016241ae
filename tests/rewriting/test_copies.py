"""What transforms return: a plain copy, of the model's own class."""

from __future__ import annotations

import torch
from models import IMAGES, MyModel, Nested, X, make
from torch import nn

import fastmnist as fm


class DataParallel(nn.Module):
    """The same name and attribute as torch's, without its devices."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


def test_wrappers_are_seen_through():
    model = make(Nested)
    expected = fm.quantize(model, fm.Dynamic())(X)
    compiled = torch.compile(model, backend="eager")
    compiled(X)
    for wrapped in (DataParallel(model), compiled, DataParallel(compiled)):
        q = fm.quantize(wrapped, fm.Dynamic())
        assert type(q) is Nested
        assert torch.equal(q(X), expected)
        assert type(fm.fuse(wrapped)) is Nested
        assert type(fm.prune(wrapped, fm.L1Unstructured(0.5))) is Nested
    model.compile(backend="eager")
    assert torch.equal(fm.quantize(model, fm.Dynamic())(X), expected)
    torch._dynamo.reset()


class Methods(MyModel):
    """Attributes and methods of its own."""

    classes = ("a", "b")

    def __init__(self, size=3):
        super().__init__()
        self.size = size
        self.note = {"trained": True}

    def label(self, x):
        return self.classes[int(self(x).argmax()) % 2]


def test_results_keep_class_attributes_and_methods():
    model = Methods()
    for result in (
        fm.fuse(model), fm.prune(model, fm.L1Unstructured(0.5)), fm.quantize(model, fm.Dynamic())
    ):  # fmt: skip
        assert type(result) is Methods
        assert result.size == 3
        assert result.note == {"trained": True}
        assert result.note is not model.note
        assert result.label(IMAGES[:1]) in "ab"
