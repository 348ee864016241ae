"""Where data comes from, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fastmnist.data import (
    Data,
    DatasetError,
    DatasetFallbackWarning,
    DatasetWarning,
    download,
    load_dataset,
    mnist,
)
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
        with pytest.raises(DatasetError, match="x: expected"):
            parse_idx(content, "x")
    for content in (idx(np.uint8([1, 2]))[:6], idx(np.uint8([1, 2]))[:-1]):
        with pytest.raises(DatasetError, match="x: expected"):
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
        with pytest.raises(DatasetError, match=f"root: expected .*{folder}"):
            load_dataset(name, tmp_path / folder)
        monkeypatch.setenv("FASTMNIST_DATA", str(tmp_path / folder))
        with pytest.raises(DatasetError, match=f"FASTMNIST_DATA: expected .*{folder}"):
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
    "cut gzip": "ends early",
    "broken gzip": "expected gzip data, got a corrupt file",
    "half": "truncated",
    "fashion": "Fashion-MNIST",
    "bomb": "got more",
    "html": "truncated or another file",
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
        pytest.raises(DatasetError, match=words),
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
