"""save and load: every kind of model, all or nothing, and files that nobody should trust."""

from __future__ import annotations

import json
import os
import struct

import fastmnist as fm
import numpy as np
import pytest
import torch
from fastmnist.modules import FusedLinear
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import Convolutional, Functional, MyModel, Residual, randomize
from torch import nn
from torch.nn.utils import prune as torch_prune

X = torch.randn(30, 12, generator=torch.Generator().manual_seed(6))
PIXELS = torch.randint(0, 256, (30, 12), generator=torch.Generator().manual_seed(7)).to(torch.uint8)


def mlp():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))


def table():
    return randomize(nn.Sequential(nn.BatchNorm1d(12), *mlp(), nn.BatchNorm1d(4)))


KINDS = {
    "float": lambda: mlp().eval(),
    "batchnorm": table,
    "not affine": lambda: randomize(nn.Sequential(nn.BatchNorm1d(12, affine=False), *mlp())),
    "fused": lambda: fm.fuse(mlp()),
    "fused table": lambda: fm.fuse(table()),
    "pruned": lambda: fm.prune(mlp(), fm.L1Unstructured(0.5)),
    "static": lambda: fm.quantize(mlp(), fm.Static(X)),
    "affine": lambda: fm.quantize(table(), fm.Static(X)),
    "pixels": lambda: fm.quantize(mlp(), fm.Static(PIXELS, mean=0.3, std=0.4)),
    "dynamic": lambda: fm.quantize(mlp(), fm.Dynamic(mean=0.3, std=0.4)),
    "compiled static": lambda: fm.compile(mlp(), X),
    "compiled affine": lambda: fm.compile(table(), X),
    "compiled pixels": lambda: fm.compile(mlp(), PIXELS),
    "compiled dynamic": lambda: fm.compile(mlp(), dynamic=True, mean=0.1, std=0.2),
    "functional": lambda: Functional().eval(),
    "functional static": lambda: fm.quantize(Functional(), fm.Static(X)),
    "root": lambda: fm.quantize(nn.Linear(12, 3), fm.Static(X)),
    "root float": lambda: nn.Linear(12, 3),
    "partly": lambda: fm.quantize_dynamic(mlp(), {"0"}),
    "hardtanh": lambda: nn.Sequential(nn.Linear(12, 4), nn.Hardtanh(-0.2, 0.5), nn.ReLU6()),
}


def outputs(model):
    with torch.no_grad():
        rows = [model(X)]
        takes_pixels = getattr(model, "takes_pixels", None)
        if takes_pixels or (takes_pixels is None and "takes uint8 pixels" in str(model)):
            rows.append(model(PIXELS))
    return torch.cat(rows)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_comes_back_alone_and_in_company(name, tmp_path):
    model = KINDS[name]()
    fm.save(tmp_path / "one.safetensors", model)
    fm.save(tmp_path / "two.safetensors", {"a": model, "b": mlp()})
    for again in (
        fm.load(tmp_path / "one.safetensors"),
        fm.load(tmp_path / "two.safetensors")["a"],
    ):
        assert torch.equal(outputs(again), outputs(model))
        assert fm.changes(again) == fm.changes(model)
        assert type(again).__name__ in ("Sequential", "CompiledModel", "QuantizedChain", "Linear")
        if isinstance(again, nn.Module):
            assert not any(m.training for m in again.modules())
            fm.save(tmp_path / "again.safetensors", again)
            assert torch.equal(outputs(fm.load(tmp_path / "again.safetensors")), outputs(model))


def test_a_file_of_all(tmp_path):
    models = {name: make() for name, make in KINDS.items()}
    fm.save(tmp_path / "all.safetensors", models)
    loaded = fm.load(tmp_path / "all.safetensors")
    assert [*loaded] == [*models]
    assert len(loaded) == len(models)
    assert "pruned" in loaded
    assert loaded["pruned"] is loaded["pruned"]
    assert "static" in repr(loaded)
    for name, model in models.items():
        assert torch.equal(outputs(loaded[name]), outputs(model))
    with pytest.raises(KeyError, match="holds float, .*not 'other'"):
        loaded["other"]


@pytest.mark.parametrize("use_dropout", [True, False])
def test_the_network_keeps_its_class(use_dropout, tmp_path, digits):
    model = fm.NeuralNetwork(use_dropout=use_dropout)
    models = {
        "original": model,
        "fused": fm.fuse(model),
        "pruned": fm.prune(model, fm.L1Unstructured(0.5)),
        "int8": fm.quantize(model, fm.Static(digits)),
        "dynamic": fm.quantize(model, fm.Dynamic()),
    }
    fm.save(tmp_path / "all.safetensors", models)
    loaded = fm.load(tmp_path / "all.safetensors")
    x = digits.test.images[:50] / 255
    for name, saved in models.items():
        again = loaded[name]
        assert type(again) is fm.NeuralNetwork
        assert str(again) == str(saved)
        with torch.no_grad():
            assert torch.equal(again(x), saved.eval()(x))
        assert fm.changes(again) == fm.changes(saved)
    assert torch.equal(loaded["int8"](digits.test.images[:50]), loaded["int8"](x))
    assert isinstance(loaded["fused"].linear1, FusedLinear)
    assert torch_prune.is_pruned(loaded["pruned"])
    assert loaded["pruned"].linear1.weight_mask.mean() == 0.5


def test_masks_come_back_as_masks(tmp_path, digits):
    model = MyModel()
    torch_prune.l1_unstructured(model.fc1, "weight", 0.5)
    torch_prune.random_unstructured(model.fc2, "bias", 0.5)
    fm.save(tmp_path / "m.safetensors", model)
    again = fm.load(tmp_path / "m.safetensors", into=MyModel())
    assert again.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(again.fc1.weight_mask, model.fc1.weight_mask)
    assert torch.equal(again.fc2.bias_mask, model.fc2.bias_mask)
    fm.train(again, digits.train.subset(64), epochs=1, seed=0)
    assert (again.fc1.weight[model.fc1.weight_mask == 0] == 0).all()


def test_loading_leaves_random_numbers_alone(tmp_path):
    fm.save(tmp_path / "m.safetensors", {"a": fm.NeuralNetwork(), "b": mlp()})
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    loaded = fm.load(tmp_path / "m.safetensors")
    assert loaded["a"] is not None
    assert loaded["b"] is not None
    assert torch.equal(torch.rand(3), expected)


def test_other_models_need_an_instance(tmp_path):
    images = torch.rand(9, 1, 28, 28)
    for model, fresh, x in (
        (Residual(), Residual(), X), (randomize(Convolutional()), Convolutional(), images)
    ):  # fmt: skip
        before = {k: v.clone() for k, v in fresh.state_dict().items()}
        kinds = {
            "float": model.eval(),
            "int8": fm.quantize(model, fm.Static(x)),
            "fused": fm.fuse(model),
        }
        path = tmp_path / "m.safetensors"
        fm.save(path, kinds)
        with pytest.raises(ValueError, match=r"no chain of layers: give fm.load .* into=Net\(\)"):
            fm.load(path)["int8"]
        loaded = fm.load(path, into=fresh)
        for name, saved in kinds.items():
            assert type(loaded[name]) is type(model)
            with torch.no_grad():
                assert torch.equal(loaded[name](x), saved(x))
        assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())
        with pytest.raises(ValueError, match="model 'float'"):
            fm.load(path, into=MyModel())["float"]
        with pytest.raises(ValueError, match="model 'int8'"):
            fm.load(path, into=MyModel())["int8"]
    with pytest.raises(TypeError, match=r"into: expected a torch.nn.Module.*Residual\(\)"):
        fm.load(path, into=Residual)["float"]


def test_the_int8_file_is_small(tmp_path, digits):
    model = fm.NeuralNetwork()
    fm.save(tmp_path / "f", model)
    sizes = {}
    for name, small in {
        "static": fm.quantize(model, fm.Static(digits)),
        "compiled": fm.compile(model, digits),
    }.items():
        fm.save(tmp_path / name, small)
        sizes[name] = os.path.getsize(tmp_path / "f") / os.path.getsize(tmp_path / name)
    assert min(sizes.values()) >= 3.7, sizes


# Writing: all or nothing.


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(OSError, match="cannot write"):
        fm.save(tmp_path / "none" / "m.safetensors", mlp())
    assert [*tmp_path.iterdir()] == []


def test_a_folder_as_the_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="cannot write"):
        fm.save(tmp_path / "folder", mlp())
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    assert [*(tmp_path / "folder").iterdir()] == []


@pytest.mark.parametrize("call", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch, call, error):
    path = tmp_path / "m.safetensors"
    fm.save(path, mlp())
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        fm.save(path, fm.NeuralNetwork())
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_links_and_what_is_no_file(tmp_path):
    """A link stays one; a pipe or /dev/stdout is written to, never replaced."""
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "m.safetensors", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    fm.save(link, mlp())
    assert link.is_symlink()
    assert fm.load(target) is not None
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fm.save(pipe, nn.Linear(2, 2))
        assert os.read(reader, 1 << 16)[8:9] == b"{"
        assert pipe.is_fifo()
    finally:
        os.close(reader)


@pytest.mark.parametrize(
    ("models", "error", "message"),
    [
        ({}, ValueError, "at least one model, got an empty dict"),
        ({"a/b": mlp()}, ValueError, "names without '/'"),
        ({"": mlp()}, ValueError, "names"),
        ({3: mlp()}, ValueError, "names without '/', got 3"),
        (None, TypeError, "expected modules or compiled models, got NoneType"),
        ({"a": 3}, TypeError, "got int as 'a'"),
        ([mlp()], TypeError, "got list"),
        (MyModel, TypeError, "expected modules"),
    ],
)
def test_nothing_to_save(models, error, message, tmp_path):
    with pytest.raises(error, match=message):
        fm.save(tmp_path / "m.safetensors", models)
    assert [*tmp_path.iterdir()] == []


def test_tensors_of_all_sorts(tmp_path):
    class Buffers(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)
            for i, dtype in enumerate((torch.int64, torch.bool, torch.uint8, torch.float64)):
                self.register_buffer(f"b{i}", torch.ones(2, dtype=dtype))
            self.register_buffer("empty", torch.empty(0, 3))
            self.register_buffer("scalar", torch.tensor(3.0))
            self.register_buffer("strided", torch.arange(6.0).view(2, 3).t())

        def forward(self, x):
            return self.fc(x) * self.scalar

    model = Buffers()
    fm.save(tmp_path / "m", model)
    again = fm.load(tmp_path / "m", into=Buffers())
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key].to(value.dtype), value), key


# Reading: nothing is trusted.


def test_no_file(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FileNotFoundError, match="path: expected a model file"):
            fm.load(path)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "m.safetensors"
    models = {
        "float": table(), "fused": fm.fuse(table()), "pruned": KINDS["pruned"](),
        "static": KINDS["static"](), "affine": KINDS["affine"](), "net": KINDS["compiled dynamic"](),
    }  # fmt: skip
    fm.save(path, models)
    return path.read_bytes()


def load_all(path) -> bool:
    """Load everything; ValueError is the only error that is allowed. True if nothing raised."""
    try:
        loaded = fm.load(path)
    except ValueError as error:
        assert str(path) in str(error)
        return False
    fine = True
    for name in loaded:
        try:
            model = loaded[name]
            with torch.no_grad():
                model(X)
        except ValueError as error:
            assert str(error)
            fine = False
    return fine


def test_cut_files(good, tmp_path):
    path = tmp_path / "cut"
    path.write_bytes(good)
    assert load_all(path)
    for size in {*range(16), *np.linspace(16, len(good) - 1, 50).astype(int).tolist()}:
        path.write_bytes(good[:size])
        with pytest.raises(ValueError, match="not a safetensors file, or cut short"):
            fm.load(path)
    path.write_bytes(good + b"more")
    assert not load_all(path)


def test_foreign_files(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "foreign"
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="not one that fm.save wrote"):
        fm.load(path)
    torch.save(mlp(), path)
    with pytest.raises(ValueError, match="not a safetensors file"):
        fm.load(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="not a safetensors file"):
        fm.load(path)


@settings(
    max_examples=250, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.data())
def test_flipped_bytes(good, tmp_path, data):
    """Most of the file is its header, which is where flips hurt."""
    content = bytearray(good)
    header = 8 + struct.unpack("<Q", good[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, header - 1) | st.integers(0, len(content) - 1))
        content[where] = data.draw(st.integers(0, 255))
    path = tmp_path / "flipped"
    path.write_bytes(bytes(content))
    load_all(path)


def rewrite(good: bytes, path, change_description=None, change_tensors=None) -> None:
    """Write the file again, its description or tensors changed."""
    from safetensors.numpy import load, save

    header = json.loads(good[8 : 8 + struct.unpack("<Q", good[:8])[0]])
    text = header["__metadata__"]["fastmnist"]
    tensors = dict(load(good))
    if change_description is not None:
        description = json.loads(text)
        result = change_description(description)
        text = result if isinstance(result, str) else json.dumps(description)
    if change_tensors is not None:
        change_tensors(tensors)
    path.write_bytes(save(tensors, {"fastmnist": text}))


def at(description, path):
    *front, last = path
    for key in front:
        description = description[key]
    return description, last


PLACES = [
    ("format",), ("models",), ("single",),
    ("models", "static"), ("models", "static", "type"), ("models", "static", "replaced"),
    ("models", "static", "replaced", "0"), ("models", "static", "replaced", "0", "type"),
    ("models", "static", "replaced", "0", "kind"), ("models", "static", "replaced", "0", "layers"),
    ("models", "static", "replaced", "0", "pixels"),
    ("models", "static", "replaced", "0", "layers", 0),
    ("models", "static", "replaced", "0", "layers", 0, "clamp"),
    ("models", "static", "replaced", "0", "layers", 0, "name"),
    ("models", "static", "chain"), ("models", "static", "chain", 0),
    ("models", "static", "chain", 0, "type"), ("models", "static", "chain", 0, "path"),
    ("models", "static", "pixels"), ("models", "static", "masked"), ("models", "static", "changes"),
    ("models", "static", "class"),
    ("models", "float", "chain", 0), ("models", "float", "chain", 0, "features"),
    ("models", "float", "chain", 0, "eps"), ("models", "float", "chain", 1, "shape"),
    ("models", "float", "chain", 1, "bias"), ("models", "float", "chain", 3, "p"),
    ("models", "fused", "replaced", "1", "shape"), ("models", "fused", "replaced", "1", "clamp"),
    ("models", "pruned", "masked"), ("models", "pruned", "masked", 0),
    ("models", "net", "network"), ("models", "net", "network", "layers"),
    ("models", "net", "network", "pixels"), ("models", "net", "network", "pixels", "mean"),
    ("models", "net", "network", "pixels", "std"),
]  # fmt: skip
VALUES = [
    None, True, 0, -1, 3, 10**9, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x",
    "inf", "..", "forward", [], [1], [[]], [1, 2], [2, 1], ["inf", "-inf"], [None, None],
    [10**400, 0], [12, 16], [1.0, 16.0], ["weight", "0"], [["0", "forward"]], [["", "weight"]],
    [["nothing", "weight"]], [3], {}, {"type": "identity"}, {"type": "quantized"},
    {"type": "linear", "path": "0", "shape": [10**9, 10**9], "bias": True},
    {"mean": [0.0] * 5, "std": [1.0] * 5}, {"mean": [0.0] * 300_000, "std": [1.0] * 300_000},
    {"mean": [float("nan")], "std": [0]}, {"mean": "x", "std": [1]}, [[0]] * 2000,
    [{"name": "0", "clamp": ["-inf", "inf"]}] * 2000,
]  # fmt: skip


@pytest.mark.parametrize("where", PLACES, ids=lambda p: ".".join(map(str, p)))
def test_hostile_descriptions(good, tmp_path, where):
    path = tmp_path / "hostile"
    for value in VALUES:

        def change(description, value=value):
            record, key = at(description, where)
            record[key] = value

        rewrite(good, path, change)
        load_all(path)

        def remove(description):
            record, key = at(description, where)
            del record[key]

    rewrite(good, path, remove)
    load_all(path)


def test_nesting_and_nonsense_instead_of_a_description(good, tmp_path):
    path = tmp_path / "hostile"
    for text in ("", "null", "3", "[]", "{", '"x"', "[" * 200_000, '{"a":' * 100_000, "1" * 10_000):
        rewrite(good, path, lambda _, text=text: text)
        with pytest.raises(ValueError, match="hostile"):
            fm.load(path)


TENSORS = [
    "static/0.layers.0.weight", "static/0.layers.1.weight", "static/0.layers.0.weight_scale",
    "static/0.layers.0.bias", "static/0.layers.0.input_scale",
    "static/0.layers.0.input_zero_point", "affine/1.input_multiplier", "affine/1.input_offset",
    "net/network.layers.0.weight", "net/network.layers.1.weight_scale", "float/1.weight",
    "float/0.running_var", "fused/1.bias", "pruned/0.weight",
]  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_hostile_tensors(good, tmp_path, name):
    path = tmp_path / "hostile"
    model = name.split("/")[0]

    def write(replacement):
        def change(tensors):
            if replacement is None:
                del tensors[name]
            else:
                tensors[name] = replacement

        rewrite(good, path, None, change)

    for replacement in (
        None, np.zeros((0,), np.int8), np.zeros((0, 0), np.int8), np.zeros((4, 70_000), np.int8),
        np.zeros((16, 12), np.float64), np.zeros((3, 3, 3), np.float32), np.zeros((16, 12), np.bool_),
        np.zeros((), np.uint64), np.zeros((5, 5), np.int8), np.zeros((1,), np.float16),
    ):  # fmt: skip
        write(replacement)
        with pytest.raises(ValueError, match=f"model '{model}'"):
            fm.load(path)[model]


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("static/0.layers.0.input_scale", v, "scale")
        for v in (float("nan"), float("inf"), 0.0, -1.0, 1e-42)
    ]
    + [("static/0.layers.0.input_zero_point", v, "zero") for v in (300, -1, 2**31 - 1)]
    + [
        ("static/0.layers.1.weight_scale", v, "scale")
        for v in (float("nan"), float("inf"), 0.0, -1.0)
    ]
    + [("static/0.layers.0.bias", v, "bias") for v in (float("nan"), float("inf"))]
    + [("affine/1.input_multiplier", v, "multiplier") for v in (float("nan"), float("inf"))]
    + [("affine/1.input_offset", v, "offset") for v in (float("nan"), float("inf"))],
)
def test_hostile_numbers(good, tmp_path, name, value, word):
    path = tmp_path / "hostile"
    rewrite(good, path, None, lambda t: t.update({name: np.full_like(t[name], value)}))
    with pytest.raises(ValueError, match=word):
        fm.load(path)[name.split("/")[0]]


def test_extreme_but_valid_codes(good, tmp_path):
    """-128 comes from elsewhere; the kernels take it."""
    path = tmp_path / "hostile"
    name = "net/network.layers.0.weight"
    rewrite(good, path, None, lambda t: t.update({name: np.full_like(t[name], -128)}))
    assert fm.load(path)["net"](X).isfinite().all()


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    import pickle

    def fail(*args, **kwargs):
        raise AssertionError("unpickled")

    fm.save(tmp_path / "m", {name: make() for name, make in KINDS.items()})
    for function in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, function, fail)
    for model in fm.load(tmp_path / "m").values():
        assert model is not None
