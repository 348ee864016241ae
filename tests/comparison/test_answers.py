"""Which rows and classes change, and what each layer gives: held against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from models import MyModel
from torch import nn

import fastmnist as fm
from fastmnist.comparison.answers import MOST_FLIPS
from fastmnist.measuring.sqnr import sqnr


def answering(classes):
    """A function that gives these classes, whatever the rows are; rows are their own numbers."""
    scores = nn.functional.one_hot(classes).float()
    return lambda x: scores[x.flatten(1)[:, 0].long()]


def compared(before, after, target, rows=None):
    rows = torch.arange(float(len(target)))[:, None] if rows is None else rows
    variants = {"before": answering(before), "after": answering(after)}
    return fm.compare(variants, (rows, target), rounds=1, batches=(1,))["after"]


def test_recall_flips_and_bits():
    target = torch.arange(300) % 3
    before, after = target.clone(), target.clone()
    before[:30], after[270:] = 0, 1
    row = compared(before, after, target)
    for index in range(3):
        of_class = target == index
        assert row.recall[index] == float((after[of_class] == index).double().mean())
    differ = [i for i in range(300) if before[i] != after[i]]
    assert row.flip_count == len(differ)
    assert [flip.index for flip in row.flips] == differ[:MOST_FLIPS]
    for flip in row.flips:
        numbers = (target[flip.index], before[flip.index], after[flip.index])
        assert (flip.target, flip.before, flip.after) == numbers
        assert flip.pixels is None
    bits = np.unpackbits(np.frombuffer(row.correct, np.uint8))[:300].astype(bool)
    assert bits.tolist() == (after == target).tolist()


def test_classes_lose_beyond_noise_only():
    target = torch.arange(400) % 4
    before, after = target.clone(), target.clone()
    twos = torch.nonzero(target == 2).flatten()
    ones = torch.nonzero(target == 1).flatten()
    after[twos[:12]] = 0  # p = 0.0005
    after[ones[:6]] = 0  # p = 0.03, of four classes no wonder
    row = compared(before, after, target)
    assert row.losing == (2,)
    assert compared(after, before, target).losing == ()


def test_many_classes_and_a_class_without_rows():
    target = torch.arange(500) * 2
    row = compared(target, target, target)
    assert len(row.recall) == 999
    assert math.isnan(row.recall[1])
    assert row.recall[2] == 1
    assert row.losing == ()


@pytest.mark.parametrize("kind", ["uint8", "float", "raw", "large", "colors"])
def test_flips_have_their_image(kind):
    generator = torch.Generator().manual_seed(0)
    side, colors = (64, 1) if kind == "large" else (8, 3 if kind == "colors" else 1)
    shape = (20, colors, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    rows = {"float": images / 255, "raw": images.float()}.get(kind, images)
    target = torch.arange(20) % 2
    variants = {
        "before": lambda x: nn.functional.one_hot(torch.zeros(len(x)).long(), 2).float(),
        "after": lambda x: nn.functional.one_hot(torch.ones(len(x)).long(), 2).float(),
    }
    row = fm.compare(variants, (rows, target), rounds=1, batches=(1,))["after"]
    assert row.flip_count == 20
    pixels = torch.tensor(row.flips[3].pixels)
    assert pixels.shape == ((32, 32) if kind == "large" else (8, 8))
    expected = images[3].double().mean(0)
    if kind == "large":
        expected = nn.functional.avg_pool2d(expected[None], 2)[0]
    assert (pixels - expected).abs().max() <= 1


def by_hand(model, x):
    """What each Linear of MyModel gives, and what its activation makes of it."""
    found, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            keep = lambda m, a, y, name=name: found.update({name: y.detach().clone()})  # noqa: E731
            hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        found["outputs"] = model.eval()(x)
    for hook in hooks:
        hook.remove()
    return found


def test_decibels_of_layers_with_their_activations():
    torch.manual_seed(0)
    model, x = MyModel().eval(), torch.rand(64, 1, 28, 28)
    q = fm.quantize(model, fm.Static(x))
    data = x, torch.arange(64) % 10
    row = fm.compare({"original": model, "int8": q}, data, rounds=1, batches=(1,))["int8"]
    expected, got = by_hand(model, x), by_hand(q, x)
    names = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    assert [*row.sqnr] == names
    for name in names:
        before = expected[name].relu() if name != names[-1] else expected[name]
        assert row.sqnr[name] == pytest.approx(sqnr(before, got[name]), abs=1e-3)
    outputs = sqnr(expected["outputs"], got["outputs"])
    assert row.output_sqnr == pytest.approx(outputs, abs=1e-3)


def test_decibels_behind_a_norm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    x = torch.randn(64, 12)
    model(x * 3 + 1)
    model.eval()
    data, fused = (x, torch.arange(64) % 4), fm.fuse(model)
    report = fm.compare({"a": model, "same": model, "fused": fused}, data, rounds=1, batches=(1,))
    assert report["same"].sqnr == dict.fromkeys(("0", "1", "3"))
    assert report["same"].output_sqnr is None
    assert report["fused"].sqnr["0"] is None or report["fused"].sqnr["0"] > 100
    hooks = [len(part._forward_hooks) for part in (*model.modules(), *fused.modules())]
    assert not any(hooks)


def test_functions_and_other_shapes_have_no_layers():
    model, x = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(60, 12)
    smaller = fm.prune(model, fm.Structured(0.5))
    variants = {"a": model, "smaller": smaller, "f": lambda v: model(v).numpy()}
    report = fm.compare(variants, (x, torch.arange(60) % 4), rounds=1, batches=(1,))
    assert [*report["smaller"].sqnr] == ["2"]
    assert report["f"].sqnr == {}
    assert report["f"].output_sqnr is None
    assert (report["f"].sparsity, report["f"].bits) == (None, None)


def test_sparsity_and_bits():
    torch.manual_seed(0)
    model, x = fm.NeuralNetwork(), torch.rand(64, 1, 28, 28)
    pruned = fm.prune(model, fm.L1Unstructured(0.75))
    four = fm.Static(x, weight_bits=4, check=None)
    mixed = fm.Static(x, weight_bits={"linear1": 4, "*": 8}, check=None)
    variants = {
        "original": model,
        "pruned": pruned,
        "half": fm.quantize(model, fm.Half()),
        "int8": fm.quantize(model, fm.Static(x)),
        "4": fm.quantize(model, four),
        "mixed": fm.quantize(model, mixed),
        "clustered": fm.quantize(fm.cluster(model, fm.Clusters(8)), fm.Static(x)),
        "compiled": fm.compile(fm.quantize(pruned, fm.Static(x))),
        "float": fm.compile(pruned, example=x),
    }
    data = x, torch.arange(64) % 10
    report = fm.compare(variants, data, rounds=1, batches=(1,))
    bits = {row.name: row.bits for row in report}
    weights = 784 * 96, 96 * 256 + 256 * 10
    assert bits == {
        "original": 32, "pruned": 32, "half": 16, "int8": 8, "4": 4, "clustered": 3, "compiled": 8,
        "float": 32, "mixed": pytest.approx((4 * weights[0] + 8 * weights[1]) / sum(weights)),
    }  # fmt: skip
    for name in ("pruned", "compiled", "float"):
        assert report[name].sparsity == pytest.approx(0.75, abs=0.005)
    assert report["original"].sparsity == 0


def test_batches_are_chosen():
    model, x = nn.Linear(12, 4), torch.randn(90, 12)
    data = x, torch.arange(90) % 4
    report = fm.compare({"a": model}, data, rounds=1, batches=(64, 1, 200))
    assert [timing.batch for timing in report[0].timings] == [1, 64, 90]
    assert report.about["batches"] == [1, 64, 90]
    assert report[0].throughput == report[0].timings[-1].throughput
    assert "p50_batch_64" in report.to_frame().columns
    for wrong, error in (((0,), ValueError), ((), ValueError), ("1", TypeError), (3, TypeError)):
        with pytest.raises(error, match="batches: expected"):
            fm.compare({"a": model}, data, batches=wrong)
    for wrong in (0, -1.0, True, "1", float("nan")):
        with pytest.raises(ValueError, match="seconds: expected a number above 0"):
            fm.compare({"a": model}, data, seconds=wrong)
