"""Lists and tuples: one data set, batches, or samples; and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import fastmnist as fm
from fastmnist.data.batches import count_samples, data_pixels, iter_batches
from fastmnist.data.forms import form_of

X, Y = torch.arange(60.0).reshape(20, 3), torch.arange(20) % 2
IMAGES = torch.rand(20, 1, 4, 4)
TOKENS = torch.arange(100).reshape(20, 5)


def parts(*tensors, sizes=(8, 8, 4)):
    """Cut tensors into batches: tuples, or tensors where there is only one."""
    cut = list(zip(*(tensor.split(sizes) for tensor in tensors), strict=True))
    return [batch[0] for batch in cut] if len(tensors) == 1 else cut


def batches(data, **options):
    return list(iter_batches(data, **{"split": "train", "batch_size": 16, **options}))


BATCHES = {
    "tensors": parts(X),
    "tensors of one size": parts(X, sizes=(5,) * 4),
    "images in a tuple": tuple(parts(IMAGES)),
    "tokens of other lengths": [TOKENS[:8], TOKENS[8:16, :4], TOKENS[16:, :3]],
    "(x, y)": parts(X, Y),
    "(x, y) of one size": parts(X, Y, sizes=(10, 10)),
    "one (x, y)": [(X, Y)],
    "[x, y]": [list(batch) for batch in parts(X, Y)],
    "a tuple of (x, y)": tuple(parts(X, Y)),
    "(x, list of labels)": [(x, y.tolist()) for x, y in parts(X, Y)],
    "(x, None)": [(x, None) for x in parts(X)],
    "((a, b), y)": [((a, b), y) for a, b, y in parts(X, IMAGES, Y)],
    "dicts": [{"a": a, "b": b} for a, b in parts(X, IMAGES)],
    "(dict, y)": [({"a": a}, y) for a, y in parts(X, Y)],
    "arrays": [(x.numpy(), y.numpy()) for x, y in parts(X, Y)],
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batches_in_lists_stay_as_they_are(kind):
    data = BATCHES[kind]
    found = batches(data)
    assert len(found) == len(data)
    assert sum(batch.size for batch in found) == 20
    labelled = not kind.startswith(("tensors", "images", "tokens", "dicts", "(x, None)"))
    assert (found[0].target is not None) == labelled
    if labelled:
        assert torch.equal(torch.cat([batch.target for batch in found]), Y)
    assert count_samples(data, "train") is None
    assert sum(batch.size for batch in batches(data, max_samples=7)) == 7


SETS = {
    "(x, y)": (X, Y),
    "[x, y]": [X, Y],
    "[x, y] of a regression": [X, X[:, :1]],
    "[a, b, y]": [X, IMAGES, Y],
    "(x, same shape)": (X, X),
    "((a, b), y)": ((X, IMAGES), Y),
    "([a, b], y)": ([X, IMAGES], Y),
    "(x, None)": (X, None),
    "((a, b),)": ((X, IMAGES),),
}


@pytest.mark.parametrize("kind", SETS)
def test_one_data_set(kind):
    found = batches(SETS[kind])
    assert [batch.size for batch in found] == [16, 4]
    assert (found[0].target is not None) == (kind not in ("(x, None)", "((a, b),)"))
    assert torch.equal(found[1].args[0], X[16:])
    assert len(found[0].args) == (2 if "b" in kind else 1)


SAMPLES = {
    "rows": list(X),
    "(x, number)": [(x, int(y)) for x, y in zip(X, Y, strict=True)],
    "(x, array without dimension)": list(zip(X.numpy(), Y.numpy(), strict=True)),
    "(x, y) of other lengths": [(x, x[:2]) for x in X],
    "(x, x) of an autoencoder": [(x, x) for x in X],
    "((a, b), number)": [((x, x), 1) for x in X],
    "dicts of tokens": [{"ids": t, "mask": t} for t in TOKENS],
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_are_stacked(kind):
    assert form_of(SAMPLES[kind], "data") == "samples"
    assert [batch.size for batch in batches(SAMPLES[kind])] == [16, 4]
    assert count_samples(SAMPLES[kind], "train") == 20


UNCLEAR = {
    "two rows or (x, y)": [X[0], X[1]],
    "rows of several lengths": [X[0], X[1, :2], X[2]],
    "words and tags": [(TOKENS[0], TOKENS[1]), (TOKENS[2], TOKENS[3])],
    "tokens of one batch size": [TOKENS, TOKENS[:, :3]],
    "samples and batches": [(X, Y), (X[0], 1)],
    "several targets": ((X, IMAGES), (Y, Y)),
    "a dict as target": (X, {"boxes": X}),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_what_may_be_several_things_is_refused(kind):
    for options in ({}, {"max_samples": 3}):
        with pytest.raises(
            ValueError, match=r"calibration: expected one.*batch_size=None.*batch_fn="
        ):
            batches(UNCLEAR[kind], name="calibration", **options)


@pytest.mark.parametrize("data", [(X.tolist(), Y.tolist()), X.tolist(), [{"ids": [1, 2], "y": 1}]])
def test_lists_of_numbers_are_no_inputs(data):
    """A DataLoader would give their columns."""
    with pytest.raises(TypeError, match=r"data: expected tensors or arrays.*torch\.tensor"):
        batches(data)
    with pytest.raises(TypeError, match=r"calibration: expected tensors or arrays"):
        fm.quantize(torch.nn.Linear(3, 2), fm.Static(data))


def test_ways_out_of_what_is_unclear():
    pairs = [(TOKENS[0], TOKENS[1]), (TOKENS[2], TOKENS[3])]
    assert [b.size for b in batches(DataLoader(pairs, batch_size=None))] == [5, 5]
    assert [b.size for b in batches(DataLoader(pairs, batch_size=2))] == [2]
    assert [b.size for b in batches(iter(pairs))] == [5, 5]


def test_other_objects_are_batches_for_batch_fn():
    class Graphs:
        def __init__(self, x, y):
            self.x, self.y = x, y

    data = [Graphs(x, y) for x, y in parts(X, Y)]
    found = batches(data, batch_fn=lambda b: (b.x, b.y))
    assert [b.size for b in found] == [8, 8, 4]
    with pytest.raises(TypeError, match="batch_fn="):
        batches(data)


def test_batches_come_in_another_order():
    def order(seed):
        generator = torch.Generator().manual_seed(seed)
        found = batches(parts(X, Y), shuffle=True, generator=generator)
        assert sorted(b.size for b in found) == [4, 8, 8]
        return [int(b.args[0][0, 0]) for b in found]

    assert len({tuple(order(seed)) for seed in range(9)}) > 2
    assert order(3) == order(3)


def test_long_lists_are_told_by_their_last_item_too():
    assert form_of([torch.zeros(8, 3)] * 99 + [torch.zeros(2, 3)], "data") == "batches"
    with pytest.raises(ValueError, match="expected one data set"):
        form_of([(X, Y)] * 99 + [(X, Y.float()[:, None])], "data")


def test_pixels_in_lists():
    codes = torch.zeros(4, 16, dtype=torch.uint8)
    for data in ([codes, codes], [(codes, Y[:4])] * 2, ((codes, X[:4]), Y[:4])):
        assert data_pixels(data).is_identity
    assert data_pixels([(X, Y)]) is None
    assert batches([codes + 255] * 2)[0].args[0].max() == 1


def test_a_sample_is_no_batch():
    """zip over tensors gives rows: their features must not pass for a batch."""
    for data in (zip(X, Y, strict=True), DataLoader([(X[0], 1)], batch_size=None)):
        with pytest.raises(ValueError, match=r"target: expected one for each row.*DataLoader"):
            batches(data)
    assert np.isfinite(fm.evaluate(torch.nn.Linear(3, 2), list(zip(X, Y, strict=True))))
