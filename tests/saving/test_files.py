"""save and load: every kind of model, and all or nothing."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from models import Convolutional, MyModel, Residual, quality, randomize, same
from saved_kinds import KINDS, PIXELS, X, mlp
from torch import nn
from torch.nn.utils import prune as torch_prune

import fastmnist as fm
from fastmnist.layers.fused import FusedLinear


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
        assert type(again).__name__ in ("Sequential", "CompiledModel", "QuantizedLinear", "Linear")
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
    with pytest.raises(KeyError, match=r"expected one of its models, float, .*got 'other'"):
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
    models = {"a": fm.NeuralNetwork(), "b": mlp()}
    fm.save(tmp_path / "m.safetensors", models)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    loaded = fm.load(tmp_path / "m.safetensors")
    again = {name: loaded[name] for name in models}
    assert torch.equal(torch.rand(3), expected)
    for name, model in models.items():
        assert type(again[name]) is type(model)
        for key, value in model.state_dict().items():
            assert torch.equal(again[name].state_dict()[key], value), key


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
        with pytest.raises(
            ValueError, match=r"no chain of layers, got none: fm.load\(path, into=Net\(\)\)"
        ):
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


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.b = self.a
        self.c = nn.Linear(8, 2)

    def forward(self, x):
        return self.c(torch.relu(self.b(torch.sigmoid(self.a(x)))))


class Contiguous(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        return torch.relu(self.fc(x.contiguous()))


class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x.view(-1, 4))


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "m.safetensors"
    x = torch.rand(50, 8)
    quantized = fm.quantize(Tied(), fm.Static(calibration=x))
    fm.save(path, quantized)
    assert torch.equal(fm.load(path, into=Tied())(x), quantized(x))
    for model, rows in ((Contiguous(), torch.rand(2, 3, 8)), (Viewed(), torch.rand(6, 8))):
        fm.save(path, model)
        assert torch.equal(fm.load(path)(rows), model(rows))


def test_paths_that_are_none(tmp_path):
    for call in (lambda: fm.save(None, nn.Linear(2, 2)), lambda: fm.load(5)):
        with pytest.raises(TypeError, match="path: expected"):
            call()


def test_fused_in_training_mode_is_saved(tmp_path):
    model = randomize(nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU())).train()
    fused = fm.fuse_modules(model, [["0", "1", "2"]])
    fm.save(tmp_path / "fused", fused)
    assert quality(model, fm.load(tmp_path / "fused"), X) > 100


def test_chains_from_files_are_frozen(tmp_path):
    q = fm.quantize(mlp(), fm.Dynamic(), exclude="0")
    fm.save(tmp_path / "q", q)
    assert same(fm.load(tmp_path / "q")(X), q(X))


@pytest.mark.parametrize("ending", ["pt", "pth", "bin"])
def test_a_name_of_torchs_is_told_what_it_is(tmp_path, ending, recwarn):
    model, path = fm.NeuralNetwork().eval(), tmp_path / f"digits.{ending}"
    with pytest.warns(UserWarning, match=r"digits\.\w+' is written as safetensors.*fm\.load"):
        fm.save(path, model)
    x = torch.rand(3, 784)
    assert torch.equal(fm.load(path)(x), model(x))
    fm.save(tmp_path / "digits.safetensors", model)
    assert not recwarn.list


def test_a_file_may_be_replaced_or_deleted_while_it_is_open(tmp_path):
    path = tmp_path / "m.safetensors"
    fm.save(path, {name: KINDS[name]() for name in ("float", "static")})
    loaded = fm.load(path)
    want = KINDS["static"]()(X)
    fm.save(path, {"float": KINDS["float"]()})
    path.unlink()
    assert torch.equal(loaded["static"](X), want)
    copied = pickle.loads(pickle.dumps(loaded))
    assert [*copied] == ["float", "static"]
    assert torch.equal(copied["static"](X), want)


def test_a_file_that_is_cut_while_it_is_open_is_an_error(tmp_path):
    path = tmp_path / "m.safetensors"
    fm.save(path, {name: KINDS[name]() for name in ("float", "static")})
    loaded = fm.load(path)
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(len(content) - 2000)
    with pytest.raises(ValueError, match="as many bytes as when it was opened"):
        [*loaded.values()]
    path.write_bytes(content[:-64] + bytes(64))  # in place: the same file
    with pytest.raises(ValueError, match="the file was changed"):
        [*loaded.values()]


def test_one_layer_with_hooks_is_refused(tmp_path):
    layer = nn.Linear(12, 3)
    layer.register_forward_hook(lambda module, args, output: output * 2)
    for model in (layer, fm.quantize(nn.Linear(12, 3), fm.Static(X))):
        if model is not layer:
            model.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
        with pytest.raises(ValueError, match="expected no hooks on 'model'"):
            fm.save(tmp_path / "m.safetensors", model)


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x1b[31m", "a\ud800"])
def test_names_that_are_no_text_leave_the_file_as_it_was(tmp_path, name):
    path = tmp_path / "m.safetensors"
    fm.save(path, mlp())
    before = path.read_bytes()
    for compress in (False, True):
        with pytest.raises(ValueError, match="models: expected"):
            fm.save(path, {name: mlp()}, compress=compress)
    model = nn.Sequential()
    model.add_module("layer\udc80", nn.Linear(12, 3))
    with pytest.raises(ValueError, match="Unicode"):
        fm.save(path, model)
    assert path.read_bytes() == before
