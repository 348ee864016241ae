"""IDX sets that are not MNIST: found, named, and never mistaken for it."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from fastmnist.data import DatasetError, idx_sets, load_dataset
from fastmnist.data.idx import parse_idx

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, CODES[array.dtype.name], array.ndim])
    big = array.astype(array.dtype.newbyteorder(">"))
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + big.tobytes()


RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 16, 20), dtype=np.uint8)  # neither square nor 28 wide
LABELS = np.arange(12, dtype=np.uint8) % 4
NAMES = {
    "MNIST's names": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k"),
    "points": ("train-images.idx3-ubyte", "train-labels.idx1-ubyte", "test"),
    "a set's name": ("usps-train-images-idx3-ubyte", "usps-train-labels-idx1-ubyte", "test"),
    "own names": ("train_images.idx", "train_labels.idx", "val"),
    "by dimensions": ("train.3.idx", "train.1.idx", "test"),
}


def put(folder: Path, images=IMAGES, labels=LABELS, names="MNIST's names", packed=False) -> Path:
    """Write a set: 8 samples to train on, 4 to test on."""
    folder.mkdir(parents=True, exist_ok=True)
    of_images, of_labels, test = NAMES[names]
    for name, array in ((of_images, images), (of_labels, labels)):
        for file, part in ((name, array[:8]), (name.replace("train", test), array[8:])):
            content = idx(part)
            path = folder / (f"{file}.gz" if packed else file)
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("names", NAMES)
def test_a_set_of_any_size(names, packed, tmp_path):
    data = load_dataset("idx", put(tmp_path / "small", names=names, packed=packed))
    assert torch.equal(data.train.images, torch.from_numpy(IMAGES[:8, None]))
    assert data.test.labels.tolist() == [0, 1, 2, 3]
    assert data.test.labels.dtype == torch.int64
    assert data.classes == ("0", "1", "2", "3")
    assert data.name == ("usps" if names == "a set's name" else "small")


def test_a_root_of_torchvision_and_the_environment(tmp_path, monkeypatch):
    put(tmp_path / "FashionMNIST" / "raw")
    (tmp_path / "FashionMNIST" / "raw" / "README.md").write_text("read me")
    assert load_dataset("idx", tmp_path).name == "FashionMNIST"
    monkeypatch.setenv("FASTMNIST_DATA", str(tmp_path))
    assert len(load_dataset("idx").train) == 8
    monkeypatch.delenv("FASTMNIST_DATA")
    with pytest.raises(ValueError, match="root: expected a folder"):
        load_dataset("idx")
    put(tmp_path / "KMNIST" / "raw")
    with pytest.raises(DatasetError, match=r"FashionMNIST/raw and KMNIST/raw: name one"):
        load_dataset("idx", tmp_path)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_labels_of_other_types(dtype, tmp_path):
    data = load_dataset("idx", put(tmp_path, labels=LABELS.astype(dtype)))
    assert data.train.labels.tolist() == [*LABELS[:8]]


def test_colours(tmp_path):
    images = RNG.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
    data = load_dataset("idx", put(tmp_path, images), mean=(0.1, 0.2, 0.3), std=0.5)
    assert data.train.images.shape == (8, 3, 5, 4)
    assert data.train.images[0, 2, 4, 3] == images[0, 4, 3, 2]
    assert data.train[0][0].shape == (3, 5, 4)
    last = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    put(tmp_path / "first", last.numpy())
    assert torch.equal(load_dataset("idx", tmp_path / "first").train.images, last[:8])


def test_names_of_classes_of_known_sets(tmp_path, monkeypatch):
    folder = put(tmp_path / "here", packed=True)
    sums = [
        hashlib.md5((folder / f"{half}-labels-idx1-ubyte.gz").read_bytes()).hexdigest()
        for half in ("train", "t10k")
    ]
    monkeypatch.setitem(idx_sets._KNOWN, tuple(sums), ("clothes", ("a", "b", "c", "d")))
    data = load_dataset("idx", folder)
    assert (data.name, data.classes) == ("clothes", ("a", "b", "c", "d"))
    assert data.train.subset(3).classes == data.classes


def test_emnist_keeps_its_sets_in_one_folder(tmp_path):
    for name in ("letters", "balanced"):
        NAMES[name] = (f"emnist-{name}-train-images-idx3-ubyte",
                       f"emnist-{name}-train-labels-idx1-ubyte", "test")  # fmt: skip
        put(tmp_path, labels=np.arange(1, 13, dtype=np.uint8), names=name)
        del NAMES[name]
    letters = load_dataset("idx", tmp_path / "emnist-letters")
    assert letters.classes[1] == "a"
    assert letters.classes[26] == "z"
    assert letters.train.labels[0] == 1
    balanced = load_dataset("idx", tmp_path / "emnist-balanced")
    assert len(balanced.classes) == 47
    assert balanced.classes[36:39] == ("a", "b", "d")
    with pytest.raises(DatasetError, match=r"name .*emnist-balanced or .*emnist-letters"):
        load_dataset("idx", tmp_path)


def test_mnist_itself_is_a_set(mnist_root, mnist):
    data = load_dataset("idx", mnist_root)
    assert torch.equal(data.test.images, mnist.test.images)
    assert data.classes == mnist.classes == tuple("0123456789")


@pytest.mark.parametrize("images", [IMAGES, np.zeros((12, 28, 28), np.uint8)])
@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_mnist_refuses_it_and_says_how_it_loads(images, name, tmp_path):
    put(tmp_path, images)
    with pytest.raises(DatasetError, match=r'load_dataset\("idx", root=…\) reads') as caught:
        load_dataset(name, tmp_path)
    assert "elete" not in str(caught.value)
    assert "8 x" in str(caught.value)


def test_mnist_refuses_a_larger_set(tmp_path):
    put(tmp_path, np.zeros((12, 28, 28), np.uint8))
    large = idx(np.zeros((70_000, 28, 28), np.uint8))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(large)
    with pytest.raises(
        DatasetError, match=r"expected MNIST's, got an IDX file of 70,000 x 28 x 28 values"
    ):
        load_dataset("mnist", tmp_path)


def broken(kind: str, folder: Path) -> None:
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    content = images.read_bytes()
    {
        "cut": lambda: images.write_bytes(content[:-1]),
        "longer": lambda: images.write_bytes(content + b"\0"),
        "html": lambda: images.write_bytes(b"<html>not found</html>"),
        "empty": lambda: images.write_bytes(b""),
        "type": lambda: images.write_bytes(bytes([0, 0, 7]) + content[3:]),
        "floats": lambda: images.write_bytes(idx(np.zeros((8, 16, 20), np.float32))),
        "rows": lambda: images.write_bytes(idx(np.zeros((8, 320), np.uint8))),
        "gzip": lambda: images.write_bytes(gzip.compress(content)[:-30]),
        "count": lambda: labels.write_bytes(idx(LABELS[:7])),
        "columns": lambda: labels.write_bytes(idx(np.zeros((8, 8), np.int32))),
        "negative": lambda: labels.write_bytes(idx(np.full(8, -1, np.int8))),
        "sizes": lambda: images.write_bytes(idx(np.zeros((8, 9, 9), np.uint8))),
        "gone": images.unlink,
        "swapped": lambda: (labels.write_bytes(content), images.write_bytes(idx(LABELS[:8]))),
    }[kind]()


BROKEN = {
    "cut": r"train-images-idx3-ubyte: expected 2,560 values \(8 x 16 x 20\) .* got 2,575",
    "longer": "expected 2,560 values .* got 2,577",
    "html": "train-images-idx3-ubyte: expected an IDX file, got bytes b'<htm'",
    "empty": "train-images-idx3-ubyte: expected an IDX file, got bytes b''",
    "type": "expected an IDX type of 8, 9",
    "floats": "train-images-idx3-ubyte: expected uint8, got float32",
    "rows": r"expected images \[N, height, width\].* got 8 x 320",
    "gzip": "train-images-idx3-ubyte: expected whole gzip data",
    "count": "expected as many train labels as images.* got 7 and 8",
    "columns": "train-labels-idx1-ubyte: expected labels of one dimension, got 8 x 8",
    "negative": "expected labels from 0, got -1",
    "sizes": "expected images of one size, got 1 x 9 x 9 .* 1 x 16 x 20",
    "gone": "got no train images: add them",
    "swapped": "expected labels of one dimension|height, width",
}


@pytest.mark.parametrize(("kind", "words"), BROKEN.items())
def test_what_is_wrong_with_a_file(kind, words, tmp_path):
    broken(kind, put(tmp_path))
    with pytest.raises(DatasetError, match=words):
        load_dataset("idx", tmp_path)


def test_a_sound_copy_beside_a_broken_one(tmp_path):
    put(tmp_path)
    put(tmp_path, packed=True)
    broken("cut", tmp_path)
    assert len(load_dataset("idx", tmp_path).train) == 8


def test_folders_that_hold_no_set(tmp_path):
    with pytest.raises(DatasetError, match="is no folder"):
        load_dataset("idx", tmp_path / "none")
    with pytest.raises(DatasetError, match="which has none"):
        load_dataset("idx", tmp_path)
    (tmp_path / "a.idx").write_bytes(idx(LABELS))
    with pytest.raises(DatasetError, match=r"got a.idx: rename"):
        load_dataset("idx", tmp_path)


def test_a_gzip_bomb_is_not_inflated(tmp_path):
    put(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(IMAGES[:8]) + bytes(50_000_000)))
    with pytest.raises(DatasetError, match=r"expected 2,560 values .* got 2,577"):
        load_dataset("idx", tmp_path)
    shape = b"".join(n.to_bytes(4, "big") for n in (2**31, 28, 28))
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + shape))
    with pytest.raises(DatasetError, match="at most 16 GB"):
        load_dataset("idx", tmp_path)


def test_types_that_were_not_asked_for():
    for name in CODES:
        content = idx(np.array([1, 2], name))
        assert parse_idx(content, "x", (name,)).tolist() == [1, 2]
        assert parse_idx(content, "x", (name,)).dtype.isnative
        if name != "uint8":
            with pytest.raises(DatasetError, match=f"x: expected uint8, got {name}"):
                parse_idx(content, "x")
