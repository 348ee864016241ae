"""Zeros cost a bit in files and pickles, and come back exactly."""

from __future__ import annotations

import copy
import io
import json
import pickle
import re
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

import fastmnist as fm
from fastmnist.int8.sparse_encoding import Encoded, decode, encode


@given(
    array=hnp.arrays(
        dtype=st.sampled_from([np.int8, np.float32, np.float16, np.int64]),
        shape=hnp.array_shapes(min_dims=2, max_dims=3, max_side=30),
        elements=st.sampled_from([0, 0, 0, 0, 1, -3]),
    )
)
def test_encoding_is_exact(array: np.ndarray) -> None:
    encoded = encode(array)
    if encoded is None:
        zeros = array.size - np.count_nonzero(array)
        assert zeros * array.itemsize <= -(-array.shape[-1] // 8) * (array.size // array.shape[-1])
        return
    assert encoded.nbytes < array.nbytes
    again = decode(encoded)
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


def test_negative_zero_and_nan_are_kept() -> None:
    array = np.zeros((8, 64), np.float32)
    array[1, 3], array[2, 5], array[7, 63] = -0.0, np.nan, np.inf
    again = decode(encode(array))
    assert np.array_equal(again.view(np.uint32), array.view(np.uint32))


def test_what_is_left_alone() -> None:
    assert encode(np.zeros(100, np.int8)) is None  # a vector
    assert encode(np.ones((8, 8), np.int8)) is None  # nothing to gain
    assert encode(np.zeros((0, 8), np.int8)) is None
    assert encode(np.zeros((8, 8), np.complex128)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (3, 17)}, "bitmask: expected uint8 \\[3, 3\\]"),
        ({"shape": (16,)}, "shape"),
        ({"shape": (3, -16)}, "shape"),
        ({"shape": (2**62, 16)}, "shape"),
        ({"shape": (3, 16.0)}, "shape"),
        ({"bitmask": np.zeros((3, 2), np.int8)}, "bitmask: expected uint8"),
        ({"values": np.zeros(4, np.int8)}, "values: expected \\[3\\]"),
        ({"values": np.zeros((3, 1), np.int8)}, "values"),
        ({"shape": (3, 15)}, "behind the end"),
    ],
)
def test_what_does_not_belong_together(change: dict, message: str) -> None:
    array = np.zeros((3, 16), np.int8)
    array[:, 15] = 5
    good = encode(array)
    parts = {"bitmask": good.bitmask, "values": good.values, "shape": good.shape} | change
    with pytest.raises(ValueError, match=message):
        decode(Encoded(**parts))


def pruned(amount: float = 0.8) -> nn.Module:
    torch.manual_seed(0)
    return fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(amount))


X = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_files_shrink_with_the_zeros(tmp_path) -> None:
    dense = fm.quantize(fm.NeuralNetwork(), fm.Static(X))
    path = tmp_path / "m.safetensors"
    fm.save(path, dense)
    before = path.stat().st_size
    q = fm.quantize(pruned(), fm.Static(X))
    net = fm.compile(q)
    for model in (q, net):
        fm.save(path, model)
        assert path.stat().st_size < 45_000 < before
        again = fm.load(path)
        assert torch.equal(again(X), q(X))
    # Float models, too: what is masked is zero.
    fm.save(path, fm.NeuralNetwork())
    before = path.stat().st_size
    fm.save(path, pruned())
    assert path.stat().st_size < 0.3 * before
    assert torch.equal(fm.load(path)(X), pruned()(X))
    assert torch.nn.utils.prune.is_pruned(fm.load(path))


def test_a_wide_layer_is_a_third(tmp_path) -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU())
    sizes = []
    for model in (layer, fm.prune(layer, fm.L1Unstructured(0.8))):
        fm.save(tmp_path / "m", fm.quantize(model, fm.Dynamic()))
        sizes.append((tmp_path / "m").stat().st_size)
    assert sizes[1] < 0.35 * sizes[0]


def test_pickles_and_copies(tmp_path) -> None:
    q = fm.quantize(pruned(), fm.Static(X))
    net = fm.compile(q)
    for model in (q, net):
        text = pickle.dumps(model)
        assert len(text) < 60_000
        assert torch.equal(pickle.loads(text)(X), q(X))
        assert torch.equal(copy.deepcopy(model)(X), q(X))
    buffer = io.BytesIO()
    torch.save(q, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(X), q(X))
    fresh = fm.quantize(fm.NeuralNetwork(), fm.Static(X))
    fresh.load_state_dict(q.state_dict())
    assert torch.equal(fresh(X), q(X))


def rewritten(path, change) -> None:
    """Change the metadata of a file."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    description = json.loads(header["__metadata__"]["fastmnist"])
    change(description["models"]["model"]["sparse"])
    header["__metadata__"]["fastmnist"] = json.dumps(description)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


@pytest.mark.parametrize(
    "shape",
    [None, 7, [], [96], [96, 785], [96, 784, 1], [-96, 784], ["96", 784], [2**40, 2**40]],
)
def test_hostile_shapes(tmp_path, shape) -> None:
    path = tmp_path / "m.safetensors"
    fm.save(path, fm.compile(pruned(), dynamic=True))
    name = "network.layers.0.weight_int8"
    rewritten(path, lambda sparse: sparse.update({name: shape}))
    with pytest.raises(ValueError, match="model 'model': tensor"):
        fm.load(path)
    fm.save(path, fm.compile(pruned(), dynamic=True))
    rewritten(path, lambda sparse: sparse.pop(name))
    with pytest.raises(ValueError, match="missing"):
        fm.load(path)
    rewritten(path, lambda sparse: sparse.update({"nothing": [3, 3]}))
    with pytest.raises(ValueError, match="expected a shape, bitmask and values"):
        fm.load(path)


@pytest.mark.slow
def test_the_torch_op_under_compile() -> None:
    q = fm.quantize(pruned(0.95), fm.Static(X)).eval()
    compiled = torch.compile(q, fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(X), q(X))
        for rows in (1, 2, 17):
            assert torch.equal(fm.compile(q)(X[:rows]), q(X[:rows]))
    exported = torch.export.export(q, (X,))
    assert torch.equal(exported.module()(X), q(X))


def test_explain_tells_when_sparse_pays() -> None:
    net = fm.compile(pruned(0.95), X)
    table = net.explain(rows=(1, 64))
    sparse = any(kernel.is_sparse for kernel in fm._core.linear_kernels())
    assert ("sparse pays from" in table.columns) == sparse
    if sparse:
        layers = [row for row in table.rows if row[table.columns.index("kernel")]]
        assert len(layers) == len(table.rows) - 2  # and a total of each batch
        cells = [row[table.columns.index("sparse pays from")] for row in layers]
        assert all(cell == "never" or cell.endswith("% zeros") for cell in cells)
        times = [row[table.columns.index("sparse µs")] for row in layers]
        assert all(re.fullmatch(r"[\d,]+\.\d\d", time) for time in times)
        assert "95% zeros" in table.rows[0][table.columns.index("weights")]
    dense = fm.compile(fm.NeuralNetwork(), X).explain()
    assert "sparse pays from" not in dense.columns


class Forked(nn.Module):
    """No chain: a file needs its class."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Linear(12, 64), nn.BatchNorm1d(64)
        self.left, self.right = nn.Linear(64, 48), nn.Linear(64, 3)
        self.out = nn.Linear(48, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.a(x)))
        return self.out(torch.relu(self.left(x))) + self.right(x)


def test_models_with_fewer_neurons(tmp_path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "m.safetensors"
    half = fm.prune(fm.NeuralNetwork(), fm.Structured(0.5))
    masked = fm.prune(half, fm.L1Unstructured(0.8))
    forked = fm.prune(Forked(), fm.Structured(0.5), exclude=["right", "out"])
    assert forked.a.out_features == 32
    for model, into, x in (
        (half, None, X),
        (masked, None, X),
        (fm.quantize(half, fm.Static(X)), None, X),
        (fm.fuse(half), None, X),
        (nn.Sequential(nn.Flatten(), half.linear1, nn.ReLU(), half.linear2), None, X),
        (forked, Forked(), torch.rand(5, 12)),
        (fm.quantize(forked, fm.Dynamic()), Forked(), torch.rand(5, 12)),
    ):
        model.eval()
        for _ in range(2):  # and what was loaded can be saved
            fm.save(path, model)
            again = fm.load(path, into=into)
            with torch.no_grad():
                assert torch.equal(again(x), model(x))
            model = again
    fm.save(path, Forked())
    with pytest.raises(ValueError, match=r"size mismatch|shape"):
        fm.load(path, into=forked)


def test_torch_save_never_grows() -> None:
    torch.manual_seed(0)
    sizes = {}
    for amount in (0.13, 0.3, 0.8):
        model = fm.prune(nn.Linear(256, 256), fm.L1Unstructured(amount))
        buffer = io.BytesIO()
        torch.save(fm.quantize(model, fm.Dynamic()), buffer)
        sizes[amount] = buffer.tell()
    buffer = io.BytesIO()
    torch.save(fm.quantize(nn.Linear(256, 256), fm.Dynamic()), buffer)
    assert sizes[0.8] < sizes[0.3] < sizes[0.13] < buffer.tell() + 2000


def test_absurd_shapes_are_refused_at_once() -> None:
    for shape in ((10**6,) * 200_000, (2**50, 8), (10**400, 8)):
        with pytest.raises(ValueError, match="shape: expected two or more"):
            decode(Encoded(np.zeros((1, 1), np.uint8), np.zeros(0, np.int8), shape))
