"""fastmnist.runtime: saved models where torch is not installed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from models import Functional, MyModel, randomize
from torch import nn

import fastmnist as fm
import fastmnist.runtime as rt

WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("torch is blocked here")

sys.meta_path.insert(0, Blocked())
import numpy as np
import fastmnist.runtime as rt

path, rows, out, *names = sys.argv[1:]
x = np.load(rows)
results = {}
for name in names:
    net = rt.load(path, name)
    for dtype in ("uint8", "float32", "float64"):
        if dtype == "uint8" and not net.takes_pixels:
            continue
        rows = x if dtype == "uint8" else (x / np.float32(255)).astype(dtype)
        results[f"{name} {dtype}"] = net(rows)
    results[f"{name} predict"] = net.predict(rows)
    results[f"{name} proba"] = net.predict_proba(rows)
    assert str(net.explain()) and repr(net)
assert rt.cpu_info()["isa"]
rt.set_num_threads(1)
assert rt.num_threads() == 1
assert "torch" not in sys.modules
np.savez(out, **results)
"""


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_same_bits_without_torch(tmp_path, digits):
    model = randomize(MyModel())
    q = fm.quantize(model, fm.Static(digits))
    models = {
        "static": fm.quantize(
            nn.Sequential(nn.Flatten(), model.fc1, nn.ReLU(), model.fc2), fm.Static(digits)
        ),
        "functional": q,
        "net": fm.compile(q),
        "dynamic": fm.quantize(model, fm.Dynamic(mean=0.1, std=0.3)),
        "network": fm.quantize(fm.NeuralNetwork(), fm.Static(digits)),
    }
    fm.save(tmp_path / "m.safetensors", models)
    images = digits.test.images[:200]
    np.save(tmp_path / "x.npy", images.numpy())
    done = run(
        WITHOUT_TORCH, tmp_path / "m.safetensors", tmp_path / "x.npy", tmp_path / "y.npz", *models
    )
    assert done.returncode == 0, done.stderr
    results = np.load(tmp_path / "y.npz")
    for name, saved in models.items():
        logits = fm.compile(saved)(images / 255)
        assert np.array_equal(results[f"{name} float32"], logits.numpy())
        assert np.array_equal(results[f"{name} float64"], logits.numpy())
        assert np.array_equal(results[f"{name} predict"], logits.argmax(1).numpy())
        assert np.allclose(results[f"{name} proba"], logits.softmax(1).numpy(), atol=1e-6)
        assert np.array_equal(results[f"{name} uint8"], fm.compile(saved)(images).numpy())


def test_importing_it_is_light():
    code = "import sys, fastmnist.runtime; print([m for m in ('torch', 'sklearn', 'pandas', "
    code += "'matplotlib', 'scipy') if m in sys.modules])"
    done = run(code)
    assert done.stdout.strip() == "[]", done.stderr


def test_everything_else_says_what_is_missing():
    code = WITHOUT_TORCH.split("import numpy")[0] + "import fastmnist as fm; fm.quantize"
    done = run(code)
    assert "ModuleNotFoundError: torch is blocked here" in done.stderr


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("runtime") / "m.safetensors"
    model = nn.Sequential(nn.Linear(12, 4))
    fm.save(path, {"float": model, "int8": fm.quantize(model, fm.Dynamic()), "plain": Functional()})
    return path


def test_which_model(path, tmp_path):
    with pytest.raises(ValueError, match="name: expected one of float, int8, plain, got none"):
        rt.load(path)
    with pytest.raises(KeyError, match="name: expected one of float, int8, plain, got 'other'"):
        rt.load(path, "other")
    fm.save(tmp_path / "one", fm.quantize(nn.Linear(12, 4), fm.Dynamic()))
    assert rt.load(tmp_path / "one")(np.zeros((2, 12), np.float32)).shape == (2, 4)


def test_float_models_need_torch(path):
    for name in ("float", "plain"):
        with pytest.raises(ValueError, match=r"needs torch: use fm.load"):
            rt.load(path, name)


def test_torch_rows_too(path):
    net = rt.load(path, "int8")
    x = torch.randn(5, 12)
    assert torch.equal(net(x), fm.load(path)["int8"](x))


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a model file"):
        rt.load(tmp_path / "none")
    (tmp_path / "cut").write_bytes(b"\x10")
    with pytest.raises(ValueError, match="cut short"):
        rt.load(tmp_path / "cut")
