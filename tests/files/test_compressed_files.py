"""``save(…, compress=True)``: the same models in few bytes, and files that nobody should trust."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import Functional
from safetensors.numpy import load_file
from saved_kinds import KINDS, PIXELS, X, mlp
from torch import nn

import fastmnist as fm
from fastmnist import runtime
from fastmnist._core import CodedWriter, encode_weights
from fastmnist.files.container import read
from fastmnist.saving.checkpoints import read_checkpoint


def into_of(kind: str) -> nn.Module | None:
    return Functional() if kind.startswith("functional") else None


def bits_of(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_the_same(kind, tmp_path) -> None:
    """Every bit of every tensor, and all that is told but calibration's zeros."""
    plain, small = tmp_path / "plain.safetensors", tmp_path / "small.safetensors"
    model = KINDS[kind]()
    fm.save(plain, model)
    fm.save(small, model, compress=True)
    assert small.stat().st_size < plain.stat().st_size
    first, second = fm.load(plain, into=into_of(kind)), fm.load(small, into=into_of(kind))
    with torch.no_grad():
        assert torch.equal(torch.as_tensor(first(X)), torch.as_tensor(second(X)))
        if "pixels" in kind:
            assert torch.equal(torch.as_tensor(first(PIXELS)), torch.as_tensor(second(PIXELS)))
    if isinstance(model, nn.Module):
        ours, theirs = second.state_dict(), first.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(bits_of(ours[key].numpy()) == bits_of(theirs[key].numpy()) for key in ours)
        assert fm.changes(second) == fm.changes(first)
    else:
        assert second.pixels == first.pixels
    # And what was loaded can be saved, in either form.
    fm.save(plain, second)
    fm.save(small, fm.load(plain, into=into_of(kind)), compress=True)
    fm.load(small, into=into_of(kind))


def test_several_models(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    models = {name: make() for name, make in KINDS.items() if "functional" not in name}
    fm.save(path, models, compress=True)
    loaded = fm.load(path)
    assert [*loaded] == [*models]
    for name, model in models.items():
        model = model.eval() if isinstance(model, nn.Module) else model
        with torch.no_grad():
            assert torch.equal(torch.as_tensor(loaded[name](X)), torch.as_tensor(model(X)))
    fm.save(path, {"one": models["static"]}, compress=True)
    assert [*fm.load(path)] == ["one"]


def test_it_is_a_safetensors_file(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    fm.save(path, KINDS["static"](), compress=True)
    (name, tensor), *others = load_file(path).items()
    assert (name, tensor.dtype, tensor.ndim, others) == ("fastmnist", np.uint8, 1, [])
    assert path.stat().st_size - len(tensor) < 80


def lenet() -> nn.Module:
    """784-300-100-10 with 3 % of its weights, of 15 values, and biases in bfloat16."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = (784, 300, 100, 10)
        layers = [nn.Linear(k, n) for k, n in pairwise(sizes)]
    for layer in layers:
        codes = (layer.weight.data / layer.weight.data.abs().max() * 9).round().clamp(-7, 7)
        codes[layer.weight.data.abs() < layer.weight.data.abs().quantile(0.97)] = 0
        layer.weight.data = codes / 50
        layer.bias.data = layer.bias.data.bfloat16().float()
    return nn.Sequential(
        nn.Flatten(), layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]
    )  # fmt: skip


def test_all_but_the_weights_of_a_lenet_are_some_hundred_bytes(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    rows = torch.randint(0, 256, (64, 1, 28, 28)).to(torch.uint8)
    q = fm.quantize(lenet(), fm.Static(rows, per_channel=False))
    fm.save(path, q, compress=True)
    weights = sum(len(encode_weights(q[i].weight_int8.numpy())) - 5 for i in (1, 3, 5))
    assert path.stat().st_size - weights < 1_000
    assert torch.equal(fm.load(path)(rows), q(rows))
    assert fm.size(q, compress=True) == path.stat().st_size < 0.4 * fm.size(q)


def test_masks_and_zeros(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    model = fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.95))
    fm.save(path, model, compress=True)
    assert path.stat().st_size < 0.07 * 4 * 103_000
    again = fm.load(path)
    assert torch.nn.utils.prune.is_pruned(again)
    x = torch.rand(4, 784)
    assert torch.equal(again(x), model(x))


class Odd(nn.Module):
    """Buffers of every dtype and of shapes that are seldom."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        for i, dtype in enumerate(
            [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
             torch.float16, torch.bfloat16, torch.float32, torch.float64]
        ):  # fmt: skip
            values = torch.tensor([[0, 1, 100], [0, 0, 7]]).to(dtype)
            self.register_buffer(f"matrix{i}", values)
            self.register_buffer(f"scalar{i}", values[0, 2].clone())
            self.register_buffer(f"empty{i}", values[:0])
        self.register_buffer("special", torch.tensor([[-0.0, float("nan")], [float("inf"), 1e-40]]))
        self.register_buffer("weight_int8", torch.zeros(4, 5, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.scalar8


def test_tensors_of_every_kind(tmp_path) -> None:
    plain, small = tmp_path / "plain.safetensors", tmp_path / "small.safetensors"
    model = Odd()
    fm.save(plain, model)
    fm.save(small, model, compress=True)
    expected, got = (read(path).model("model")[1] for path in (plain, small))
    assert got.keys() == expected.keys()
    for key, array in expected.items():
        assert got[key].dtype == array.dtype
        assert got[key].shape == array.shape
        assert bits_of(got[key]) == bits_of(array)
    assert fm.load(small, into=Odd()).matrix7.dtype == fm.load(plain, into=Odd()).matrix7.dtype


def test_the_runtime_and_the_command_line_read_it(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    q = KINDS["static"]()
    fm.save(path, q, compress=True)
    assert np.array_equal(runtime.load(path)(X.numpy()), q(X).numpy())
    program = (
        "import sys, numpy as np; sys.modules['torch'] = None\n"
        "from fastmnist import runtime\n"
        f"print(runtime.load({str(path)!r})(np.zeros((2, 12), np.float32)).shape)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout.strip() == "(2, 4)", run.stderr
    found = read_checkpoint(path)
    assert found.form == "fastmnist"
    assert torch.equal(found.states[0].tensors["0.weight_int8"], q[0].weight_int8)


def test_calibrations_zeros_are_averaged(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    rows = X.relu() * torch.linspace(0, 1, 12)
    rows[:, :6] = 0
    fm.save(path, fm.compile(mlp(), rows), compress=True)
    zeros = fm.load(path).network.layers[0].input_zeros
    assert len({*zeros.tolist()}) == 1
    expected = fm.compile(mlp(), rows).network.layers[0].input_zeros
    assert abs(zeros[0] - expected.mean()) <= 0.5


@pytest.mark.parametrize("compress", [None, 1, "yes", 9])
def test_compress_is_true_or_false(compress, tmp_path) -> None:
    with pytest.raises(TypeError, match="compress: expected a bool"):
        fm.save(tmp_path / "m.safetensors", mlp(), compress=compress)
    assert not [*tmp_path.iterdir()]


# ---- what nobody should trust --------------------------------------------------------------------


def written(payload: bytes) -> bytes:
    about = {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}
    header = json.dumps({"fastmnist": about}).encode()
    return struct.pack("<Q", len(header)) + header + payload


def payload_of(path) -> bytes:
    content = path.read_bytes()
    return content[8 + struct.unpack("<Q", content[:8])[0] :]


def is_refused(path, payload: bytes) -> bool:
    path.write_bytes(written(payload))
    tracemalloc.start()
    try:
        read(path)
        return False
    except ValueError:
        return True
    finally:
        assert tracemalloc.get_traced_memory()[1] < 20_000 * (len(payload) + 100)
        tracemalloc.stop()


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "m.safetensors"
    fm.save(path, fm.compile(nn.Linear(6, 2), dynamic=True), compress=True)
    return payload_of(path)


def test_cut_at_every_byte(good, tmp_path) -> None:
    path = tmp_path / "cut"
    assert not is_refused(path, good)
    for size in range(len(good)):
        assert is_refused(path, good[:size])
    assert is_refused(path, good + b"\0")


def test_every_bit_flipped(good, tmp_path) -> None:
    for bit in range(8 * len(good)):
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        assert is_refused(tmp_path / "flipped", bytes(changed)), bit


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.binary(max_size=100))
def test_random_bytes(values, tmp_path) -> None:
    assert is_refused(tmp_path / "random", b"\1" + values)


def test_other_tensors_of_that_name(tmp_path) -> None:
    from safetensors.numpy import save_file

    for tensor in (np.zeros(9, np.float32), np.zeros((3, 3), np.uint8), np.zeros(0, np.uint8)):
        save_file({"fastmnist": tensor}, tmp_path / "m")
        with pytest.raises(ValueError, match=r"tensor 'fastmnist': expected|bytes: expected"):
            fm.load(tmp_path / "m")


def coded(models: object, *parts: object) -> bytes:
    """A stream with this text, whatever it says, and these parts."""
    writer = CodedWriter()
    text = models if isinstance(models, bytes) else json.dumps(
        {"format": 2, "single": True, "models": models}
    ).encode()  # fmt: skip
    writer.number(len(text))
    writer.bytes(text)
    for part in parts:
        if isinstance(part, int):
            writer.number(part)
        elif isinstance(part, bytes):
            writer.bytes(part, 4)
        else:
            writer.weights(part)
    return writer.finish()


def test_texts_that_are_none(tmp_path) -> None:
    for text in (b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format":2}'):
        assert is_refused(tmp_path / "m", coded(text))
    for models in ({}, [], {"m": []}, {"m": {}}, {"m": {"tensors": 3}}, {"m": {"tensors": {}}}):
        assert is_refused(tmp_path / "m", coded(models))
    assert not is_refused(tmp_path / "m", coded({"m": {"tensors": [], "type": "x"}}))


ONES = np.ones((2, 3), np.int8)
TENSORS = [
    3, [], {}, [None] * 4, ["a"], ["a", 2, 3], ["a", 2, 3, "------", 5], ["a", "2", 3, "------"],
    ["a", 2, 3, "-----"], ["a", 2, 3, "x-----"], ["a", 2, 3, "w-----"], ["a", 0, 3, "------"],
    ["a", -2, -3, "------"], ["a", 2.0, 3, "------"], ["a", True, 3, "------"],
    ["a", 2**40, 2**40, "------"], ["a", 10**400, 1, "------"], ["a", 50_000, 50_000, "------"],
    ["a", 2, 3, "n-----"], ["a", 2, 3, "---h--"], ["a", 2, 3, "---q--"], ["a", 2, 3, "--n---"],
    ["a", "f4", "r", 3], ["a", "f4", "r", [-1]], ["a", "f4", "r", ["3"]], ["a", "f4", "r", [1.5]],
    ["a", "f4", "r", [2**39]], ["a", "f4", "r", [2**40]], ["a", "f4", "r", [2**30, 2**30]],
    ["a", "f4", "r", [10**400]], ["a", "f4", "r", [1] * 17], ["a", "f4", "e", [3]],
    ["a", "f4", "q", [3]], ["a", "i4", "n", []], ["a", "i4", "h", [3]], ["a", "f4", "w", [2, 3]],
    ["a", "i1", "w", [6]], ["a", "i1", "w", [2, 3, 1]], ["a", "i1", "w", [0, 3]],
    ["a", "f3", "r", [3]], ["a", "O8", "r", [3]], ["a", "f4", "", [3]], ["a", "S4", "r", [3]],
    ["a", "V4", "r", [3]], ["a", "c16", "r", [3]], [["a"], "f4", "r", [3]],
]  # fmt: skip


@pytest.mark.parametrize("row", TENSORS, ids=lambda row: str(row)[:40])
def test_hostile_lists_of_tensors(row, tmp_path) -> None:
    assert is_refused(tmp_path / "m", coded({"m": {"tensors": [row]}}, ONES, 2**32 - 1))


def test_tensors_that_do_not_fit_together(tmp_path) -> None:
    path, layer = tmp_path / "m", ["0.", 2, 3, "------"]
    assert not is_refused(path, coded({"m": {"tensors": [layer]}}, ONES))
    assert is_refused(path, coded({"m": {"tensors": [layer, layer]}}, ONES, ONES))
    bools = ["b", "b1", "r", [4]]
    assert is_refused(path, coded({"m": {"tensors": [bools]}}, b"\1\0\2\0"))
    zero_point = ["0.", 2, 3, "---n--"]
    assert not is_refused(path, coded({"m": {"tensors": [zero_point]}}, ONES, 2**31 - 1))
    assert is_refused(path, coded({"m": {"tensors": [zero_point]}}, ONES, 2**31))
