"""Where data comes from, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import pickle
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fastmnist.data import (
    Data,
    DatasetError,
    DatasetFallbackWarning,
    DatasetWarning,
    Split,
    download,
    load_dataset,
    mnist,
)
from fastmnist.data.digits import enlarge
from fastmnist.data.idx import parse_idx

SIZES = {"train_images": 20, "train_labels": 20, "test_images": 5, "test_labels": 5}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim])
    return header + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture
def files(monkeypatch, tmp_path):
    """A tiny MNIST in place of the real one: {file name: content}; nothing else is findable."""
    rng = np.random.default_rng(0)
    contents = {}
    for key, n in SIZES.items():
        shape = (n, 28, 28) if key.endswith("images") else (n,)
        content = idx(rng.integers(0, 10, shape, dtype=np.uint8))
        file = replace(mnist.FILES[key], size=len(content), md5=hashlib.md5(content).hexdigest())
        monkeypatch.setitem(mnist.FILES, key, file)
        contents[file.download_name] = gzip.compress(content)
    monkeypatch.delenv("FASTMNIST_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(download, "MIRRORS", ())
    return contents


@pytest.fixture
def mirror(files, monkeypatch):
    """A local mirror that serves what the dict holds; `requests` lists what was asked for."""
    served, requests = dict(files), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            requests.append(name)
            if name not in served or "/dead/" in self.path:
                self.send_error(404)
                return
            content, cut = served[name], 0
            if isinstance(content, tuple):
                content, cut = content
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) - cut])

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(download, "MIRRORS", (url + "dead/", url))
    yield served, requests
    server.shutdown()
    server.server_close()
    thread.join()


def put(folder: Path, files: dict[str, bytes], *, plain: bool = False, dot: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if plain:
            name, content = name.removesuffix(".gz"), gzip.decompress(content)
        (folder / (name.replace("-idx", ".idx") if dot else name)).write_bytes(content)
    return folder


def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "fastmnist" / "mnist"


def check(data: Data) -> None:
    assert data.name == "mnist"
    assert len(data.train) == 20
    assert len(data.test) == 5
    assert data.train.images.shape == (20, 1, 28, 28)
    assert data.train.images.dtype == torch.uint8
    assert data.test.labels.shape == (5,)
    assert data.test.labels.dtype == torch.int64


# --- The halves


def test_real_mnist(mnist):
    assert (mnist.name, len(mnist.train), len(mnist.test)) == ("mnist", 60_000, 10_000)
    assert mnist.train.labels[:6].tolist() == [5, 0, 4, 1, 9, 2]
    assert mnist.train.labels.bincount().tolist()[:3] == [5923, 6742, 5958]
    assert mnist.train.images.float().div(255).mean().item() == pytest.approx(0.1307, abs=1e-4)


def test_digits(digits):
    assert digits.name == "digits"
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.shape[1:] == (1, 28, 28)
    assert digits.train.images.max() == 255
    counts = digits.test.labels.bincount()
    assert counts.min() >= 34
    assert counts.max() <= 38
    again = load_dataset("digits")
    assert torch.equal(again.train.images, digits.train.images)
    assert torch.equal(again.test.labels, digits.test.labels)
    rows = {image.numpy().tobytes() for image in digits.train.images}
    assert not any(image.numpy().tobytes() in rows for image in digits.test.images)


def test_enlarging_repeats_pixels():
    small = np.arange(64).reshape(1, 8, 8) % 17
    large = enlarge(small)
    assert large.shape == (1, 1, 28, 28)
    assert large.dtype == np.uint8
    for row in range(3):
        for column in range(3):
            part = large[:, 0, 2 + row : 26 : 3, 2 + column : 26 : 3]
            assert np.abs(part - small * 255 / 16).max() <= 0.5
    assert large[:, :, :2].max() == large[:, :, :, -2:].max() == 0


def test_items_are_what_totensor_and_normalize_give(digits):
    image, label = digits.train[3]
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.float32
    assert type(label) is int
    assert torch.equal(image, digits.train.images[3].float().div(255))
    assert torch.equal(digits.train[-1][0], digits.train[len(digits.train) - 1][0])
    scaled = load_dataset("digits", mean=(0.1307,), std=(0.3081,))
    assert scaled.mean == (0.1307,)
    assert scaled.pixels.std == (0.3081,)
    expected = digits.train[3][0].sub(torch.tensor(0.1307)).div(torch.tensor(0.3081))
    assert torch.equal(scaled.train[3][0], expected)
    for index, error in ((len(digits.train), IndexError), (slice(2), TypeError), ("0", TypeError)):
        with pytest.raises(error):
            digits.train[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_dataloader(digits, workers):
    half = digits.test.subset(40)
    x, y = next(iter(DataLoader(half, batch_size=32, num_workers=workers)))
    assert x.shape == (32, 1, 28, 28)
    assert x.dtype == torch.float32
    assert y.shape == (32,)
    assert y.dtype == torch.int64
    assert torch.equal(x, torch.stack([half[i][0] for i in range(32)]))


def test_subset_repr_and_pickle(digits):
    small = digits.train.subset(7, seed=1)
    assert len(small) == 7
    assert torch.equal(small.images, digits.train.subset(7, seed=1).images)
    assert not torch.equal(small.images, digits.train.subset(7, seed=2).images)
    copy = pickle.loads(pickle.dumps(Data("few", small, small)))
    assert torch.equal(copy.train.images, small.images)
    assert copy.pixels == digits.pixels
    assert "digits" in repr(digits)
    assert "1,437" in repr(digits)
    assert "train" in repr(small)
    for n in (0, 2000):
        with pytest.raises(ValueError, match="n must be"):
            digits.train.subset(n)


def test_halves_refuse_what_they_cannot_hold():
    images, labels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TypeError, match="images"):
        Split(images.float(), labels)
    with pytest.raises(TypeError, match="labels"):
        Split(images, [0, 1])
    with pytest.raises(ValueError, match="shape"):
        Split(images, labels[:1])
    with pytest.raises(ValueError, match="channels"):
        Split(images, labels, mean=(0, 0, 0), std=1)
    half = Split(images, labels)
    with pytest.raises(ValueError, match="same mean"):
        Data("x", half, Split(images, labels, mean=0.5))
    with pytest.raises(TypeError, match="test"):
        Data("x", half, None)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"name": "cifar"}, ValueError, "name"),
        ({"root": 3}, TypeError, "root"),
        ({"name": "digits", "root": "x"}, ValueError, "root"),
        ({"mean": (0, 0, 0)}, ValueError, "one value"),
        ({"std": 0}, ValueError, "std"),
    ],
)
def test_refuses_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        load_dataset(**arguments)


def test_idx_refuses():
    assert parse_idx(idx(np.uint8([[1, 2]])), "x").tolist() == [[1, 2]]
    for content in (b"", b"PK\3\4", bytes([0, 0, 8, 0]), bytes([0, 0, 13, 1, 0, 0, 0, 0])):
        with pytest.raises(DatasetError, match="x must"):
            parse_idx(content, "x")
    for content in (idx(np.uint8([1, 2]))[:6], idx(np.uint8([1, 2]))[:-1]):
        with pytest.raises(DatasetError, match="x "):
            parse_idx(content, "x")


# --- Folders


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_a_folder_by_argument(files, tmp_path, plain, dot):
    check(load_dataset("mnist", put(tmp_path / "here", files, plain=plain, dot=dot)))


@pytest.mark.parametrize("inner", ["MNIST/raw", "raw", "."])
def test_torchvision_root_and_environment(files, tmp_path, monkeypatch, inner):
    put(tmp_path / "root" / inner, files)
    check(load_dataset("auto", tmp_path / "root"))
    monkeypatch.setenv("FASTMNIST_DATA", str(tmp_path / "root"))
    check(load_dataset())


def test_torchvision_folder_under_the_working_folder(files):
    put(Path("data/MNIST/raw"), files, plain=True)
    check(load_dataset("mnist", download=False))


@pytest.mark.parametrize("name", ["mnist", "auto"])
def test_a_named_folder_is_the_only_place(files, tmp_path, monkeypatch, name):
    put(cache(tmp_path), files)
    (tmp_path / "empty").mkdir()
    for folder in ("missing", "empty"):
        with pytest.raises(DatasetError, match=f"root must .*{folder}"):
            load_dataset(name, tmp_path / folder)
        monkeypatch.setenv("FASTMNIST_DATA", str(tmp_path / folder))
        with pytest.raises(DatasetError, match=f"FASTMNIST_DATA must .*{folder}"):
            load_dataset(name)
    monkeypatch.setenv("FASTMNIST_DATA", "")
    check(load_dataset(name))
    files.popitem()
    with pytest.raises(DatasetError, match="has no t10k-labels"):
        load_dataset(name, put(tmp_path / "three", files))


def damage(kind: str, content: bytes) -> bytes:
    plain = gzip.decompress(content)
    return {
        "cut gzip": content[:-20],
        "broken gzip": content[:60] + b"\xff" * 40 + content[100:],
        "half": gzip.compress(plain[: len(plain) // 2]),
        "fashion": gzip.compress(plain[:-1] + bytes([plain[-1] ^ 1])),
        "bomb": gzip.compress(plain + bytes(50_000_000)),
        "html": b"<html>not found</html>",
        "empty": b"",
    }[kind]


DAMAGE = {
    "cut gzip": "truncated",
    "broken gzip": "corrupt gzip",
    "half": "truncated",
    "fashion": "Fashion-MNIST",
    "bomb": "more than",
    "html": "truncated or no MNIST",
    "empty": "truncated",
}


@pytest.mark.parametrize(("kind", "words"), DAMAGE.items())
def test_damaged_files_are_refused(files, tmp_path, kind, words):
    name = "train-images-idx3-ubyte.gz"
    folder = put(tmp_path / "bad", {**files, name: damage(kind, files[name])})
    for what in ("mnist", "auto"):
        with pytest.raises(DatasetError, match=words) as caught:
            load_dataset(what, folder)
        assert name in str(caught.value)
        assert isinstance(caught.value, ValueError)


def test_real_mnist_under_other_labels_is_refused(mnist_root, tmp_path):
    for file in mnist_root.iterdir():
        (tmp_path / file.name).symlink_to(file)
    labels = next(tmp_path.glob("t10k-labels*"))
    content = bytearray(gzip.decompress(labels.read_bytes()))
    content[-1] ^= 1
    labels.unlink()
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DatasetError, match="Fashion-MNIST"):
        load_dataset("mnist", tmp_path)


def test_a_good_copy_beside_a_bad_one(files, tmp_path):
    folder = put(tmp_path / "both", files)
    (folder / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1")
    with pytest.warns(DatasetWarning, match="Read train-labels-idx1-ubyte.gz instead"):
        check(load_dataset("mnist", folder))


def test_a_bad_torchvision_folder_is_passed_over_with_a_warning(files, tmp_path):
    put(Path("data/MNIST/raw"), dict(list(files.items())[:2]))
    put(cache(tmp_path), files)
    with pytest.warns(DatasetWarning, match="passed over"):
        check(load_dataset("mnist"))


# --- Downloads


def test_downloads_to_the_cache_once(mirror, tmp_path):
    served, requests = mirror
    check(load_dataset("mnist"))
    # The dead mirror was asked for the first file only.
    assert len(requests) == len(served) + 1
    assert sorted(p.name for p in cache(tmp_path).iterdir()) == sorted(served)
    check(load_dataset("mnist", download=False))
    assert len(requests) == len(served) + 1


@pytest.mark.parametrize(("kind", "words"), DAMAGE.items())
def test_a_bad_download_leaves_the_cache_as_it_was(mirror, tmp_path, kind, words):
    served, _ = mirror
    name = "train-labels-idx1-ubyte.gz"
    folder = put(cache(tmp_path), {name: b"old and bad"})
    served[name] = damage(kind, served[name])
    with (
        pytest.warns(DatasetWarning, match="In the cache"),
        pytest.raises(DatasetError, match="more than" if kind == "bomb" else words),
    ):
        load_dataset("mnist")
    assert (folder / name).read_bytes() == b"old and bad"
    assert sorted(p.name for p in folder.iterdir()) == ["train-images-idx3-ubyte.gz", name]


def test_a_corrupt_file_in_the_cache_is_fetched_again(mirror, tmp_path):
    served, requests = mirror
    name = "t10k-images-idx3-ubyte.gz"
    folder = put(cache(tmp_path), {**served, name: damage("fashion", served[name])})
    with pytest.warns(DatasetWarning, match="fetching it again"):
        check(load_dataset())
    assert set(requests) == {name}
    assert (folder / name).read_bytes() == served[name]


def test_a_connection_that_ends_early(mirror, tmp_path):
    served, _ = mirror
    name = "train-images-idx3-ubyte.gz"
    served[name] = (served[name], 100)
    with pytest.raises(DatasetError, match="train-images"):
        load_dataset("mnist")
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_a_cache_that_cannot_be_written(mirror, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(DatasetWarning, match="can't be kept"):
        check(load_dataset("mnist"))
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_disk_that_fills_up_leaves_nothing(mirror, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(DatasetWarning, match="No space"):
        check(load_dataset("mnist"))
    assert not list(cache(tmp_path).iterdir())


# --- Nothing found


def test_mnist_names_the_places_it_looked_at(files, tmp_path):
    with pytest.raises(DatasetError) as caught:
        load_dataset("mnist", download=False)
    for words in ("FASTMNIST_DATA", "torchvision", str(cache(tmp_path)), "root=", "digits"):
        assert words in str(caught.value)


@pytest.mark.parametrize("allowed", [False, True])
def test_auto_falls_back_loudly(files, allowed):
    with pytest.warns(DatasetFallbackWarning, match="DIGITS INSTEAD OF MNIST") as caught:
        data = load_dataset("auto", download=allowed)
    assert data.name == "digits"
    assert caught[0].filename == __file__


def test_finding_mnist_warns_of_nothing(files, tmp_path):
    put(cache(tmp_path), files)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(load_dataset())
