"""Several inputs: what a forward takes says how a batch becomes its arguments."""

from __future__ import annotations

import pytest
import torch
from models import TwoInputs
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import fastmnist as fm
from fastmnist.layers.linear import is_int8_linear

A = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
B = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
Y = torch.arange(64) % 4


class OnePair(nn.Module):
    """A forward that takes both inputs as one."""

    def __init__(self):
        super().__init__()
        self.two = TwoInputs()

    def forward(self, pair):
        image, numbers = pair
        return self.two(image, numbers)


def batched(*tensors):
    return list(zip(*(tensor.split(24) for tensor in tensors), strict=True))


LABELLED = {
    "((a, b), y)": ((A, B), Y),
    "a list of ((a, b), y)": [((a, b), y) for a, b, y in batched(A, B, Y)],
    "a list of samples": [((a, b), int(y)) for a, b, y in zip(A, B, Y, strict=True)],
    "a loader": DataLoader([((a, b), int(y)) for a, b, y in zip(A, B, Y, strict=True)], 24),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_nested_inputs_are_two_arguments_or_one_pair(kind):
    for model in (TwoInputs().eval(), OnePair().eval()):
        data = LABELLED[kind]
        inputs = (A, B) if isinstance(model, TwoInputs) else ((A, B),)
        expected = (model(*inputs).argmax(1) == Y).double().mean()
        q = fm.quantize(model, fm.Static(data))
        assert any(map(is_int8_linear, q.modules()))
        assert fm.evaluate(model, data) == pytest.approx(float(expected))
        assert fm.compare({"a": model, "q": q}, data, rounds=1).about["n"] == 64
        assert len(fm.sensitivity(model, data, rounds=1)) == 3
        fm.prune(model, fm.L1Unstructured(0.1), max_drop=100, data=data)
        assert fm.train(model, data, epochs=2).loss[1] > 0


UNLABELLED = {
    "(a, b)": lambda: (A, B),
    "((a, b),)": lambda: ((A, B),),
    "a list": lambda: batched(A, B),
    "a loader": lambda: DataLoader(TensorDataset(A, B), 24),
    "a generator": lambda: (batch for batch in batched(A, B)),
    "dicts": lambda: [{"image": a, "numbers": b} for a, b in batched(A, B)],
}


@pytest.mark.parametrize("kind", UNLABELLED)
def test_two_inputs_without_a_target_calibrate(kind):
    model = TwoInputs().eval()
    same = fm.quantize(model, fm.Static((A, B, Y)))
    q = fm.quantize(model, fm.Static(UNLABELLED[kind]()))
    with torch.no_grad():
        assert torch.equal(q(A, B), same(A, B))
    with pytest.raises((TypeError, ValueError), match="batch_fn="):
        fm.evaluate(model, UNLABELLED[kind]())


def test_a_forward_that_takes_other_inputs_is_told():
    one = nn.Sequential(nn.Linear(12, 4))
    for action in (
        lambda: fm.quantize(one, fm.Static((A, B, Y))),
        lambda: fm.compile(one, (A, B, Y)),
        lambda: fm.evaluate(one, (A, B, Y)),
        lambda: fm.train(one, (A, B, Y), epochs=1),
        lambda: fm.quantize(one, fm.Static([{"image": A, "label": Y}])),
    ):
        with pytest.raises(TypeError, match=r"forward\(input.*batch_fn="):
            action()
    with pytest.raises(RuntimeError, match=r"\[64, 3\].*batch_fn="):
        fm.evaluate(one, (B, Y))


def test_what_batch_fn_says_holds():
    class PairAndMore(OnePair):
        def forward(self, pair, more=None):
            assert more is None
            return super().forward(pair)

    rows = [{"a": a, "b": b, "y": y} for a, b, y in batched(A, B, Y)]
    read = lambda batch: (((batch["a"], batch["b"]),), batch["y"])  # noqa: E731
    model = PairAndMore().eval()
    assert fm.evaluate(model, rows, batch_fn=read).n == 64
    q = fm.quantize(model, fm.Static(rows, batch_fn=read))
    assert len(fm.compare({"a": model, "q": q}, rows, rounds=1, batch_fn=read)) == 2
    no_target = lambda batch: (batch["a"], batch["b"])  # noqa: E731
    with pytest.raises(TypeError, match="batch_fn="):
        fm.quantize(TwoInputs(), fm.Static(rows, batch_fn=no_target))


def test_a_hook_may_add_what_forward_needs():
    model = TwoInputs()
    model.register_forward_pre_hook(lambda module, args: (*args, B[: len(args[0])]))
    assert fm.evaluate(model, (A, Y)).n == 64


def test_batch_fn_wherever_data_goes():
    rows = [{"x": a, "label": y} for a, y in batched(A, Y)]
    read = lambda batch: (batch["x"], batch["label"])  # noqa: E731
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    options = {"max_drop": 100, "data": rows, "batch_fn": read}
    for result in (
        fm.quantize(model, fm.Static(rows), batch_fn=read),
        fm.quantize(model, fm.Static(rows), max_drop=100, batch_fn=read),
        fm.quantize(model, fm.Dynamic(), **options),
        fm.prune(model, fm.L1Unstructured(0.5), **options),
        fm.prune(model, fm.L1Unstructured(0.5), finetune=rows, batch_fn=read),
        fm.variants(model, rows, batch_fn=read)["compiled"],
    ):
        assert fm.evaluate(result, rows, batch_fn=read).n == 64


def test_a_generator_serves_once():
    rows = [(a, y) for a, y in batched(A, Y)]
    model = nn.Sequential(nn.Linear(12, 4))
    assert fm.evaluate(model, iter(rows)).n == 64
    assert len(fm.train(model, iter(rows), epochs=1)) == 1
    for action in (
        lambda: fm.train(model, iter(rows), epochs=2),
        lambda: fm.sensitivity(model, iter(rows)),
        lambda: fm.quantize(model, fm.Static(iter(rows)), max_drop=1),
        lambda: fm.quantize(model, fm.Dynamic(), max_drop=1, data=iter(rows)),
        lambda: fm.variants(model, iter(rows)),
    ):
        with pytest.raises(ValueError, match="gone through more than once"):
            action()
