"""Everything that can be handed to a model: the right answer, or an error that says what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from guard import EDGES, Edge, guarded, guarded_empty
from oracle import RandomNetwork, assert_same_bits, random_network
from torch import nn
from torch._subclasses import FakeTensorMode

import fastmnist as fm
from fastmnist import _core

FEATURES = 12


@pytest.fixture(scope="module")
def network() -> RandomNetwork:
    return random_network(1, (FEATURES, 20, 5), pixels=True)


@pytest.fixture(scope="module")
def model(network: RandomNetwork) -> Any:
    return _core.Model(network.packed)


@pytest.fixture(scope="module")
def x() -> Any:
    # Halves and quarters: exact in float16 and bfloat16 too.
    rng = np.random.default_rng(0)
    return (rng.integers(-12, 12, (7, FEATURES)) / 4).astype(np.float32)


@pytest.fixture(scope="module")
def pixels() -> Any:
    return np.random.default_rng(0).integers(0, 256, (7, FEATURES)).astype(np.uint8)


class Tagged(torch.Tensor):
    """A tensor subclass that adds nothing."""


def unaligned(x: Any) -> Any:
    memory = np.zeros(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned
    return view


def read_only(x: Any) -> Any:
    copy = x.copy()
    copy.flags.writeable = False
    return copy


def every_second(x: Any) -> Any:
    return np.repeat(x, 2, axis=0)[::2]


NUMPY: dict[str, Callable[[Any], Any]] = {
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "longdouble": lambda x: x.astype(np.longdouble),
    "big-endian float32": lambda x: x.astype(">f4"),
    "big-endian float64": lambda x: x.astype(">f8"),
    "Fortran order": np.asfortranarray,
    "every second row": every_second,
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed twice": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": read_only,
    "unaligned": unaligned,
    "4 dimensions": lambda x: x.reshape(7, 1, 3, 4),
    "transposed 4 dimensions": lambda x: x.reshape(7, 1, 3, 4).transpose(0, 1, 2, 3),
    "matrix": lambda x: x.view(np.matrix),
    "record array": lambda x: x.view(np.recarray),
}


@pytest.mark.parametrize("change", NUMPY.values(), ids=NUMPY.keys())
def test_numpy_floats(model: Any, x: Any, network: RandomNetwork, change: Any) -> None:
    got = model(change(x))
    assert type(got) is np.ndarray
    assert_same_bits(got, network.expected(x))


@pytest.mark.parametrize(
    "name",
    ["Fortran order", "every second row", "every second column", "read-only", "4 dimensions"],
)
def test_numpy_pixels(model: Any, pixels: Any, network: RandomNetwork, name: str) -> None:
    assert_same_bits(model(NUMPY[name](pixels)), network.expected(pixels))


def test_broadcast_row(model: Any, x: Any, network: RandomNetwork) -> None:
    rows = np.broadcast_to(x[:1], (7, FEATURES))
    assert_same_bits(model(rows), network.expected(np.ascontiguousarray(rows)))
    expanded = torch.from_numpy(x[:1]).expand(7, FEATURES)
    assert_same_bits(model(expanded).numpy(), network.expected(np.ascontiguousarray(rows)))


def test_memory_mapped_file(model: Any, x: Any, network: RandomNetwork, tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same_bits(model(mapped), network.expected(x))


TORCH: dict[str, Callable[[torch.Tensor], Any]] = {
    "float64": torch.Tensor.double,
    "half": torch.Tensor.half,
    "bfloat16": torch.Tensor.bfloat16,
    "strided": lambda x: x.t().contiguous().t(),
    "every second": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "channels last": lambda x: x.reshape(7, 3, 2, 2).to(memory_format=torch.channels_last),
    "conjugated": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
    "conjugated, real part": lambda x: torch.complex(x, x).conj().real,
    "negative view": lambda x: torch._neg_view(-x),
    "subclass": lambda x: x.as_subclass(Tagged),
    "strided subclass": lambda x: x.t().contiguous().t().as_subclass(Tagged),
    "parameter": torch.nn.Parameter,
    "requires grad": lambda x: x.clone().requires_grad_(),
    "buffer": lambda x: torch.nn.Buffer(x),
}


@pytest.mark.parametrize("change", TORCH.values(), ids=TORCH.keys())
def test_torch_floats(model: Any, x: Any, network: RandomNetwork, change: Any) -> None:
    got = model(change(torch.from_numpy(x)))
    assert type(got) is torch.Tensor
    assert not got.requires_grad
    assert_same_bits(got.numpy(), network.expected(x))


def test_torch_modes(model: Any, x: Any, network: RandomNetwork) -> None:
    tensor = torch.from_numpy(x)
    with torch.inference_mode():
        assert_same_bits(model(tensor).clone().numpy(), network.expected(x))
        assert_same_bits(model(tensor * 1).clone().numpy(), network.expected(x))
    with torch.no_grad(), torch.device("meta"):
        assert_same_bits(model(tensor).numpy(), network.expected(x))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert model(tensor).dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


def without_warnings(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def fake(x: torch.Tensor) -> torch.Tensor:
    with FakeTensorMode():
        return torch.empty(x.shape)


REFUSED_TORCH: dict[str, tuple[Callable[[torch.Tensor], Any], type[Exception], str]] = {
    "fake": (fake, ValueError, "FakeTensor without data"),
    "meta": (lambda x: x.to("meta"), ValueError, "device 'meta': use x.cpu()"),
    "sparse": (torch.Tensor.to_sparse, TypeError, "use x.to_dense()"),
    "sparse rows": (torch.Tensor.to_sparse_csr, TypeError, "use x.to_dense()"),
    "mkldnn": (torch.Tensor.to_mkldnn, TypeError, "use x.to_dense()"),
    "int32": (torch.Tensor.int, TypeError, "use x.to(torch.uint8)"),
    "int8": (lambda x: x.to(torch.int8), TypeError, "use x.to(torch.uint8)"),
    "bool": (lambda x: x > 0, TypeError, "got torch.bool"),
    "complex": (lambda x: x.to(torch.complex64), TypeError, "got torch.complex64"),
    "complex conjugate": (lambda x: x.to(torch.complex64).conj(), TypeError, "torch.complex64"),
    "quantized": (
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
        TypeError,
        "got torch.quint8",
    ),
    "nested": (lambda x: torch.nested.nested_tensor([x[0], x[1]]), TypeError, ""),
    "masked": (lambda x: torch.masked.masked_tensor(x, x > 0), TypeError, ""),
    "functional": (torch._to_functional_tensor, ValueError, "without data"),
    "one row": (lambda x: x[0], ValueError, "add a batch dimension"),
    "scalar": (lambda x: x[0, 0], ValueError, r"[N, ...]"),
    "wrong features": (lambda x: x[:, :5], ValueError, f"{FEATURES} values per row"),
}


@pytest.mark.parametrize(
    ("change", "error", "message"), REFUSED_TORCH.values(), ids=REFUSED_TORCH.keys()
)
def test_refused_tensors(model: Any, x: Any, change: Any, error: Any, message: str) -> None:
    value = without_warnings(lambda: change(torch.from_numpy(x.copy())))
    with pytest.raises(error) as raised:
        without_warnings(lambda: model(value))
    assert message in str(raised.value)


def test_transforms_are_refused(model: Any, x: Any) -> None:
    tensor = torch.from_numpy(x)
    with pytest.raises(ValueError, match="without data"):
        torch.vmap(lambda row: model(row[None])[0])(tensor)
    with pytest.raises(ValueError, match="without data"):
        torch.func.jvp(model, (tensor,), (tensor,))
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError):
        model(tensor)


REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "list": (lambda x: x.tolist(), TypeError, "np.asarray(x, dtype=np.float32) makes one"),
    "none": (lambda x: None, TypeError, "got NoneType"),
    "bytes": (lambda x: x.tobytes(), TypeError, "got bytes"),
    "memoryview": (memoryview, TypeError, "got memoryview"),
    "string": (lambda x: "x", TypeError, "got str"),
    "class": (lambda x: torch.Tensor, TypeError, "got _TensorMeta"),
    "int64": (lambda x: x.astype(np.int64), TypeError, "use x.astype(np.uint8)"),
    "int8": (lambda x: x.astype(np.int8), TypeError, "use x.astype(np.uint8)"),
    "bool": (lambda x: x > 0, TypeError, "got bool"),
    "complex": (lambda x: x.astype(np.complex64), TypeError, "got complex64"),
    "objects": (lambda x: x.astype(object), TypeError, "got object"),
    "text": (lambda x: x.astype(str), TypeError, "got <U"),
    "records": (lambda x: np.zeros((7, FEATURES), "f4,u1"), TypeError, "use x.astype"),
    "empty records": (lambda x: np.zeros((7, FEATURES), []), TypeError, "use x.astype"),
    "masked": (lambda x: np.ma.masked_array(x, x > 0), TypeError, "x.filled(0)"),
    "one row": (lambda x: x[0], ValueError, "add a batch dimension: x[None]"),
    "scalar": (lambda x: np.float32(1), TypeError, "got float32"),
    "0 dimensions": (lambda x: np.array(1, np.float32), ValueError, "[N, ...]"),
    "wrong features": (lambda x: x[:, :5], ValueError, f"{FEATURES} values per row"),
    "transposed": (lambda x: x.T, ValueError, f"got shape [{FEATURES}, 7]"),
}


@pytest.mark.parametrize(("change", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_objects(model: Any, x: Any, change: Any, error: Any, message: str) -> None:
    with pytest.raises(error) as raised:
        model(change(x))
    assert message in str(raised.value)
    with pytest.raises(error):
        model.predict(change(x))


def test_pixels_need_a_meaning(x: Any) -> None:
    plain = _core.Model(random_network(1, (FEATURES, 5)).packed)
    assert not plain.takes_pixels
    for pixels in (np.zeros((2, FEATURES), np.uint8), torch.zeros(2, FEATURES, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="does not know what a uint8 pixel stands for"):
            plain(pixels)
        with pytest.raises(ValueError, match="does not know what a uint8 pixel stands for"):
            plain.predict(pixels)


@pytest.mark.parametrize("edge", EDGES)
def test_out(model: Any, x: Any, network: RandomNetwork, edge: Edge) -> None:
    expected = network.expected(x)
    for given in (x, torch.from_numpy(x)):
        out = guarded_empty(expected.shape, np.float32, edge)
        assert model(given, out) is out
        assert_same_bits(out, expected)
        tensor = torch.from_numpy(guarded_empty(expected.shape, np.float32, edge))
        assert model(given, out=tensor) is tensor
        assert_same_bits(tensor.numpy(), expected)


def test_out_inside_a_larger_array(model: Any, x: Any, network: RandomNetwork) -> None:
    memory = np.full((20, 5), 7, np.float32)
    model(x, out=memory[6:13])
    assert_same_bits(memory[6:13], network.expected(x))
    assert np.all(memory[:6] == 7)
    assert np.all(memory[13:] == 7)


def frozen(out: Any) -> Any:
    out.flags.writeable = False
    return out


REFUSED_OUT: dict[str, tuple[Any, type[Exception]]] = {
    "shape": (lambda: np.zeros((7, 4), np.float32), ValueError),
    "rows": (lambda: np.zeros((6, 5), np.float32), ValueError),
    "1 dimension": (lambda: np.zeros(35, np.float32), ValueError),
    "3 dimensions": (lambda: np.zeros((7, 5, 1), np.float32), ValueError),
    "float64": (lambda: np.zeros((7, 5)), TypeError),
    "uint8": (lambda: np.zeros((7, 5), np.uint8), TypeError),
    "big-endian": (lambda: np.zeros((7, 5), ">f4"), TypeError),
    "read-only": (lambda: frozen(np.zeros((7, 5), np.float32)), TypeError),
    "Fortran order": (lambda: np.zeros((5, 7), np.float32).T, TypeError),
    "strided": (lambda: np.zeros((14, 5), np.float32)[::2], TypeError),
    "unaligned": (lambda: unaligned(np.zeros((7, 5), np.float32)), TypeError),
    "list": (lambda: [[0.0] * 5] * 7, TypeError),
    "torch shape": (lambda: torch.zeros(7, 4), ValueError),
    "torch float64": (lambda: torch.zeros(7, 5, dtype=torch.float64), TypeError),
    "torch strided": (lambda: torch.zeros(5, 7).t(), TypeError),
    "torch expanded": (lambda: torch.zeros(1, 5).expand(7, 5), TypeError),
    "torch meta": (lambda: torch.zeros(7, 5, device="meta"), TypeError),
    "torch fake": (lambda: fake(torch.zeros(7, 5)), TypeError),
    "torch sparse": (lambda: torch.zeros(7, 5).to_sparse(), TypeError),
    "torch negative view": (lambda: torch._neg_view(torch.zeros(7, 5)), ValueError),
}


@pytest.mark.parametrize(("make", "error"), REFUSED_OUT.values(), ids=REFUSED_OUT.keys())
def test_refused_out(model: Any, x: Any, make: Any, error: Any) -> None:
    with pytest.raises(error, match=r"^out: expected"):
        model(x, out=make())


@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_out_may_not_overlap_x(library: Any) -> None:
    square = random_network(2, (6, 6), pixels=True)
    model = _core.Model(square.packed)
    memory = np.zeros(200, np.float32)
    x = library(memory[40:100].reshape(10, 6))
    for first in (0, 39, 40, 41, 99):
        with pytest.raises(ValueError, match="memory that overlaps x"):
            model(x, out=library(memory[first : first + 60].reshape(10, 6)))
    model(x, out=library(memory[100:160].reshape(10, 6)))
    pixels = library(memory[:15].view(np.uint8).reshape(10, 6))
    with pytest.raises(ValueError, match="memory that overlaps x"):
        model(pixels, out=library(memory[14:74].reshape(10, 6)))
    model(pixels, out=library(memory[15:75].reshape(10, 6)))


def test_rows_at_the_edge_of_memory(isa: str, model: Any, network: RandomNetwork, x: Any) -> None:
    for edge in EDGES:
        for rows in (1, 2, 5, 7):
            got = model(torch.from_numpy(guarded(x[:rows], edge)))
            assert_same_bits(got.numpy(), network.expected(x[:rows]))


def test_subclasses_cannot_change_rows_between_view_and_use():
    class Sly(torch.Tensor):
        def is_neg(self):
            rows.set_(torch.empty(0).untyped_storage(), 0, (0,), (1,))
            return False

    net = fm.compile(nn.Sequential(nn.Linear(64, 5)), dynamic=True)
    rows = torch.rand(200, 64)
    with pytest.raises((TypeError, ValueError), match="out"):
        net(rows, out=torch.zeros(200, 5).as_subclass(Sly))


def test_out_behind_autograds_back():
    net = fm.compile(nn.Sequential(nn.Linear(4, 5)), dynamic=True)
    with pytest.raises(ValueError, match="does not require grad"):
        net(torch.rand(2, 4), out=torch.zeros(2, 5, requires_grad=True))
    with pytest.raises(TypeError, match=r"got torch\.float64"):
        net(torch.rand(2, 4), out=torch.zeros(2, 5, dtype=torch.float64))
    with pytest.raises(TypeError, match="not contiguous"):
        net(torch.rand(2, 4), out=torch.zeros(5, 2).T)


def test_wrong_shapes_come_with_what_to_do(model: Any) -> None:
    for shape, advice in (
        ((3, 2, FEATURES), rf"each position a row with x\.reshape\(-1, {FEATURES}\)"),
        ((FEATURES,), r"add a batch dimension: x\[None\]"),
        ((3, FEATURES + 1), "give arrays of that shape"),
    ):
        with pytest.raises(ValueError, match=advice):
            model(np.zeros(shape, np.float32))
