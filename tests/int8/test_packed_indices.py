"""Few values cost their places' bits in plain files, and come back exactly."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save
from torch import nn

import fastmnist as fm
from fastmnist._core import ModelFile
from fastmnist.int8.packed_indices import encode


@pytest.fixture(scope="module")
def decode(tmp_path_factory):
    """Read the parts of an array from a file, as programs without Python do."""
    path = tmp_path_factory.mktemp("indexed") / "m.safetensors"

    def read(table: np.ndarray, indices: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        model = {"type": "module", "indexed": {"w": [*shape]}}
        text = json.dumps({"format": 2, "models": {"m": model}})
        parts = {"m/w.table": table, "m/w.indices": indices}
        path.write_bytes(save(parts, {"fastmnist": text}))
        return ModelFile(bytes(path)).array("m", "w")

    return read


@given(
    array=hnp.arrays(np.int8, hnp.array_shapes(min_dims=2, max_dims=3, max_side=20)),
    values=st.integers(1, 256),
)
def test_encoding_is_exact(decode, array: np.ndarray, values: int) -> None:
    array = (array.astype(np.int16) % values - 128).astype(np.int8)
    encoded = encode(array)
    distinct = len(np.unique(array))
    assert (encoded is None) == (distinct > 128)
    if encoded is not None:
        again = decode(encoded.table, encoded.indices, encoded.shape)
        assert again.dtype == np.int8
        assert np.array_equal(again, array)


@pytest.mark.parametrize(
    ("values", "bits"),
    [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (16, 4), (17, 5), (33, 6), (65, 7), (128, 7)],
)
def test_places_have_as_few_bits_as_they_need(values: int, bits: int) -> None:
    encoded = encode((np.arange(256) % values - 128).astype(np.int8).reshape(4, 64))
    assert encoded.indices.shape == (4, 8 * bits)
    assert encoded.table.tolist() == [*range(-128, values - 128)]


def test_the_drawing() -> None:
    encoded = encode(np.array([[5, 0, -3], [0, 0, 5]], np.int8))
    assert encoded.table.tolist() == [-3, 0, 5]
    assert encoded.indices.tolist() == [[0b00_00_01_10], [0b00_10_01_01]]


def test_what_is_left_alone() -> None:
    assert encode(np.zeros(100, np.int8)) is None
    assert encode(np.zeros((0, 8), np.int8)) is None
    assert encode(np.zeros((8, 8), np.float32)) is None
    assert encode(np.arange(-128, 128).astype(np.int8).reshape(2, -1)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (2, 5)}, "indices: expected uint8 \\[2, 2\\]"),
        ({"shape": (6,)}, "shape"),
        ({"shape": (2**50, 2)}, "shape"),
        ({"indices": np.zeros((2, 1), np.int8)}, "indices: expected uint8"),
        ({"indices": np.full((2, 1), 3, np.uint8)}, "places below 3, got 3"),
        ({"indices": np.full((2, 1), 64, np.uint8)}, "behind the end"),
        ({"table": np.zeros(0, np.int8)}, "table: expected 1 to 128"),
        ({"table": np.zeros(3, np.int8)}, "rising"),
        ({"table": np.arange(3, dtype=np.uint8)}, "rising int8 values, got uint8"),
        ({"table": np.arange(-128, 1).astype(np.int8)}, "table: expected 1 to 128"),
        ({"table": np.zeros((3, 1), np.int8)}, "table"),
    ],
)
def test_what_does_not_belong_together(decode, change: dict, message: str) -> None:
    good = encode(np.array([[5, 0, -3], [0, 0, 5]], np.int8))
    parts = {"table": good.table, "indices": good.indices, "shape": good.shape} | change
    with pytest.raises(ValueError, match=message):
        decode(**parts)


def few_values(zeros: float = 0.1) -> nn.Module:
    """A layer whose int8 weights are 15 values, some of them zero."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(200, 100)
    codes = torch.randint(-7, 8, (100, 200), generator=generator).clamp(-7, 7)
    codes[torch.rand(100, 200, generator=generator) < zeros] = 0
    codes[:, 0] = 7
    layer.weight.data = codes / 8
    return fm.quantize(nn.Sequential(layer, nn.ReLU(), nn.Linear(100, 3)), fm.Dynamic())


def header_of(path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def test_files_hold_nibbles(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    q = few_values()
    fm.save(path, q)
    header, _ = header_of(path)
    assert header["model/0.weight_int8.indices"]["shape"] == [100, 100]
    assert header["model/0.weight_int8.table"]["shape"] == [15]
    assert "model/0.weight_int8" not in header
    x = torch.rand(5, 200)
    assert torch.equal(fm.load(path)(x), q(x))
    assert torch.equal(fm.load(path)[0].weight_int8, q[0].weight_int8)
    fm.save(path, fm.compile(q))
    assert torch.equal(fm.load(path)(x), fm.compile(q)(x))
    assert np.array_equal(fm.runtime.load(path)(x.numpy()), q(x).numpy())


def test_the_smallest_form_is_taken(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    fm.save(path, few_values(zeros=0.9))
    header, _ = header_of(path)
    assert "model/0.weight_int8.bitmask" in header
    assert "model/2.weight_int8" in header  # 300 weights of too many values


@pytest.mark.parametrize("shape", [None, 7, [], [100], [100, 201], [-100, 200], [2**40, 2**40]])
def test_hostile_shapes(tmp_path, shape) -> None:
    path = tmp_path / "m.safetensors"
    fm.save(path, few_values())
    header, tensors = header_of(path)
    told = json.loads(header["__metadata__"]["fastmnist"])
    told["models"]["model"]["indexed"]["0.weight_int8"] = shape
    header["__metadata__"]["fastmnist"] = json.dumps(told)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)
    with pytest.raises(ValueError, match=r"model 'model': tensor '0.weight_int8'"):
        fm.load(path)
