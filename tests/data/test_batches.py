"""How data of every kind becomes batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
)

from fastmnist.data import load_dataset
from fastmnist.data.batches import Batch, count_samples, data_pixels, iter_batches
from fastmnist.pixels import PixelNormalization

X, Y = torch.arange(20.0).reshape(10, 2), torch.arange(10)


def batches(data, **options) -> list[Batch]:
    return list(iter_batches(data, **{"split": "train", "batch_size": 4, **options}))


class MapStyle(Dataset):
    def __getitem__(self, i):
        return X[i], int(Y[i])

    def __len__(self):
        return 10


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y.tolist(), strict=True))


class Frame:
    """Stands in for a table of pandas."""

    def __init__(self, array):
        self.array = array

    def to_numpy(self):
        return self.array


SOURCES = {
    "tuple": lambda: (X, Y),
    "list": lambda: [X, Y],
    "numpy": lambda: (X.numpy(), Y.numpy()),
    "numpy of other types": lambda: (X.numpy().astype(">f8"), Y.numpy().astype(np.int32)),
    "numpy strided": lambda: (np.flip(np.flip(X.numpy(), 0).copy(), 0), Y.numpy()),
    "list of labels": lambda: (X.numpy(), Y.tolist()),
    "frames": lambda: (Frame(X.numpy()), Frame(Y.numpy())),
    "half floats": lambda: (X.to(torch.bfloat16), Y),
    "TensorDataset": lambda: TensorDataset(X, Y),
    "Subset": lambda: Subset(Subset(TensorDataset(X, Y), range(10)), list(range(10))),
    "map style": MapStyle,
    "list of samples": lambda: list(zip(X, Y.tolist(), strict=True)),
    "iterable": Stream,
    "DataLoader": lambda: DataLoader(MapStyle(), batch_size=4),
    "batches": lambda: iter([(X[i : i + 4], Y[i : i + 4]) for i in (0, 4, 8)]),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same(source):
    found = batches(SOURCES[source]())
    assert [b.size for b in found] == [4, 4, 2]
    assert torch.equal(torch.cat([b.args[0] for b in found]), X)
    assert torch.equal(torch.cat([b.target for b in found]), Y)
    assert all(len(b.args) == 1 and not b.kwargs for b in found)
    assert found[0].args[0].dtype == torch.float32
    assert found[0].target.dtype == torch.int64


@pytest.mark.parametrize("source", SOURCES)
def test_max_samples_cuts_the_last_batch(source):
    assert [b.size for b in batches(SOURCES[source](), max_samples=6)] == [4, 2]
    assert sum(b.size for b in batches(SOURCES[source](), max_samples=99)) == 10


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"iterable", "DataLoader", "batches"}))
def test_shuffles_from_the_generator(source):
    def order(seed):
        generator = torch.Generator().manual_seed(seed)
        found = batches(SOURCES[source](), shuffle=True, generator=generator)
        for b in found:
            assert torch.equal(b.args[0][:, 0], b.target * 2.0)
        return torch.cat([b.target for b in found]).tolist()

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(10))


def test_a_dataloader_keeps_its_batch_size_and_order():
    loader = DataLoader(MapStyle(), batch_size=3, drop_last=True)
    assert [b.size for b in batches(loader, shuffle=True)] == [3, 3, 3]
    assert batches(loader)[0].target.tolist() == [0, 1, 2]
    assert count_samples(loader, "train") == 9


def test_what_is_target_and_what_are_arguments():
    def keys(data, **options):
        b = batches(data, **options)[0]
        return len(b.args), sorted(b.kwargs), b.target is not None

    assert keys(X) == keys([X]) == keys((X,)) == keys(X.numpy()) == (1, [], False)
    assert keys((X, X, Y)) == (2, [], True)
    assert keys({"x": X, "m": X}) == (0, ["m", "x"], False)
    assert keys(({"x": X}, Y)) == (0, ["x"], True)
    assert keys(DataLoader([({"x": x}, 1) for x in X])) == (0, ["x"], True)
    assert keys(DataLoader([{"x": x} for x in X])) == (0, ["x"], False)
    assert keys(list(X)) == (1, [], False)
    assert keys(({"x": X}, X, Y)) == (1, ["x"], True)


def test_batch_fn():
    loader = DataLoader([{"image": x, "label": 1} for x in X], batch_size=4)
    first = batches(loader, batch_fn=lambda b: (b["image"], b["label"]))[0]
    assert torch.equal(first.args[0], X[:4])
    assert first.target.tolist() == [1] * 4
    first = batches(loader, batch_fn=lambda b: ((), {"x": b["image"].double()}, None))[0]
    assert first.kwargs["x"].dtype == torch.float32
    assert first.target is None
    for wrong in (1, (X,), (X, X, X), (X, X, X, X)):
        with pytest.raises(TypeError, match="batch_fn: expected"):
            batches(loader, batch_fn=lambda b, result=wrong: result)


def test_pixels(digits):
    half = digits.train
    b = batches(digits)[0]
    assert torch.equal(b.args[0], torch.stack([half[i][0] for i in range(4)]))
    assert torch.equal(batches(digits, raw=True)[0].args[0], half.images[:4])
    assert len(batches(digits, split="test")[0].target) == 4
    assert torch.equal(batches(digits, split="test")[0].target, digits.test.labels[:4])
    scaled = load_dataset("digits", mean=0.5, std=0.5)
    assert batches(scaled)[0].args[0].min() == -1
    assert torch.equal(batches(scaled.train)[0].args[0], batches(scaled)[0].args[0])
    assert torch.equal(batches(DataLoader(scaled.train))[0].args[0][0], scaled.train[0][0])
    rows = half.images.flatten(1)
    px = PixelNormalization.of(0.5, 0.5)
    assert torch.equal(batches(rows, pixels=px)[0].args[0], batches(scaled)[0].args[0].flatten(1))
    assert batches(rows)[0].args[0].max() <= 1
    seen = batches(scaled, batch_fn=lambda b: (b[0] * 2, b[1]))[0].args[0]
    assert seen.min() == -2
    assert batches(half.images, raw=True)[0].args[0].dtype == torch.uint8
    assert batches((X.to(torch.int32), Y))[0].args[0].dtype == torch.int32


def test_targets_are_left_alone_unless_classes():
    def target(y):
        return batches((X, y))[0].target.dtype

    assert target(Y.to(torch.uint8)) == target(Y.to(torch.int16)) == torch.int64
    assert target(Y.double()) == torch.float64
    assert target(Y.to(torch.int32)[:, None]) == torch.int32
    assert target(Y > 3) == torch.bool


def test_data_pixels(digits):
    px = load_dataset("digits", mean=0.1, std=0.2)
    expected = PixelNormalization.of(0.1, 0.2)
    half = px.train
    for data in (
        px,
        half,
        Subset(Subset(half, range(9)), [1]),
        DataLoader(Subset(half, [1])),
        ConcatDataset([half, px.test]),
    ):
        assert data_pixels(data) == expected
    raw = half.images
    for data in (raw, raw.numpy(), (raw, half.labels), TensorDataset(raw), {"x": raw}):
        assert data_pixels(data).is_identity
    for data in (X, (X, Y), DataLoader(MapStyle()), [], ConcatDataset([half, digits.test])):
        assert data_pixels(data) is None


def test_a_subset_of_a_half_is_fast_and_right(digits):
    part = Subset(digits.train, [5, 3, 8])
    b = batches(part, raw=True)[0]
    assert torch.equal(b.args[0], digits.train.images[[5, 3, 8]])
    assert b.target.tolist() == digits.train.labels[[5, 3, 8]].tolist()


def test_count_samples(digits):
    assert count_samples(digits, "train") == 1437
    assert count_samples(digits, "test") == 360
    assert count_samples((X, Y), "train") == count_samples(MapStyle(), "train") == 10
    assert count_samples(DataLoader(digits.test, batch_size=7), "train") == 360
    assert count_samples(Stream(), "train") is None
    assert count_samples(DataLoader(Stream()), "train") is None
    assert count_samples(iter([X]), "train") is None


def test_batches_are_copies():
    x = X.clone()
    for b in batches((x, Y)):
        b.args[0].zero_()
    assert torch.equal(x, X)


def test_errors():
    for empty in ((X[:0], Y[:0]), [], (), DataLoader([]), iter([]), X[:0]):
        with pytest.raises(ValueError, match="calibration: expected samples, got none"):
            batches(empty, name="calibration")
    with pytest.raises(ValueError, match=r"same number of rows.*10, 2.*9"):
        batches((X, Y[:9]))
    with pytest.raises(ValueError, match="batch dimension"):
        batches((X, torch.tensor(1)))
    with pytest.raises(TypeError, match="expected numbers"):
        batches(np.array(["a"]))
    for wrong in (None, 3, "mnist"):
        with pytest.raises(TypeError, match="data: expected a bundle"):
            batches(wrong)
    with pytest.raises(TypeError, match="ToTensor"):
        batches([(object(), 1)])
    with pytest.raises(TypeError, match="batch_fn="):
        batches(iter([object()]))
    with pytest.raises(ValueError, match="batch_size"):
        batches((X, Y), batch_size=0)
    with pytest.raises(ValueError, match="max_samples"):
        batches((X, Y), max_samples=0)
    with pytest.raises(ValueError, match="split"):
        batches((X, Y), split="valid")
