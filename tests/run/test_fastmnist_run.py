"""fastmnist-run: the classes that Python gives, for every form of rows, or a line that says why."""

from __future__ import annotations

import gzip
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import fastmnist as fm

U8 = npt.NDArray[np.uint8]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="session")
def images() -> U8:
    """Give 200 rows that look like digits: dark edges, light in the middle."""
    x = np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8)
    x[:, :6] = x[:, -6:] = x[:, :, :6] = x[:, :, -6:] = 0
    return x


@pytest.fixture(scope="session")
def models(images: U8) -> dict[str, Any]:
    """Give a float model, its int8 layers, and one call of those."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 24), nn.ReLU(), nn.Linear(24, 10)).eval()
    q = fm.quantize(model, fm.Static(torch.from_numpy(images), mean=0.0, std=1.0))
    return {"original": model, "int8": q, "compiled": fm.compile(q)}


@pytest.fixture(scope="session")
def expected(models: dict[str, Any], images: U8) -> dict[str, npt.NDArray[np.int64]]:
    """Give what Python says of the images."""
    pixels = torch.from_numpy(images)
    return {
        # The same arithmetic as everywhere but in torch itself, whose sums round otherwise.
        "original": fm.compile(models["original"]).predict(images.astype(np.float32) / 255),
        "int8": models["int8"](pixels[:, None]).argmax(1).numpy(),
        "compiled": models["compiled"].predict(images),
    }


@pytest.fixture
def file(models: dict[str, Any], tmp_path: Path) -> Path:
    fm.save(tmp_path / "m.safetensors", models)
    return tmp_path / "m.safetensors"


def idx(x: npt.NDArray[np.uint8]) -> bytes:
    return struct.pack(f">4B{x.ndim}I", 0, 0, 8, x.ndim, *x.shape) + x.tobytes()


def classes(result: Any) -> list[int]:
    assert result.returncode == 0, result.stderr
    return [int(line) for line in result.stdout.split()]


def refused(result: Any, status: int, *words: str) -> None:
    assert result.returncode == status, result.stdout
    assert not result.stdout
    for word in ("expected", *words):
        assert word in result.stderr
    assert result.stderr.splitlines()[-1].startswith("fastmnist-run: ")


@pytest.mark.parametrize("form", ["npy", "idx", "idx.gz", "npy.gz"])
def test_pixels(run, file, images, expected, zlib, tmp_path, form):
    path = tmp_path / f"x.{form}"
    np.save(tmp_path / "x.npy", images)
    content = idx(images) if form.startswith("idx") else (tmp_path / "x.npy").read_bytes()
    path.write_bytes(gzip.compress(content) if form.endswith("gz") else content)
    result = run(file, path, "--model", "int8", "--output", "-")
    if form.endswith("gz") and not zlib:
        refused(result, 1, "built without zlib")
        return
    assert classes(result) == expected["int8"].tolist()
    result = run(file, path, "--model", "compiled", "--output", "-", "--plan", "fixed")
    assert classes(result) == expected["compiled"].tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats(run, file, images, expected, tmp_path, dtype):
    np.save(tmp_path / "x.npy", (images.astype(np.float32) / 255).astype(dtype))
    for name in ("original", "compiled"):
        result = run(file, "x.npy", "--model", name, "--output", "-", "--threads", 1)
        assert classes(result) == expected[name].tolist()


def test_models_beside_each_other(run, file, images, expected, tmp_path):
    np.save(tmp_path / "x.npy", images.astype(np.float32) / 255)
    labels = expected["compiled"].copy()
    labels[:20] = 11
    np.save(tmp_path / "y.npy", labels)
    result = run(file, "x.npy", "--model", "all", "--labels", "y.npy", "--json", "--time")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["format"] == 1
    assert report["rows"] == {
        "count": 200, "type": "float32", "shape": [28, 28], "files": ["x.npy"],
    }  # fmt: skip
    assert [model["name"] for model in report["models"]] == ["original", "int8", "compiled"]
    for model in report["models"]:
        got = expected[model["name"]]
        assert model["correct"] == int((got == labels).sum())
        assert model["accuracy"] == pytest.approx((got == labels).mean())
        assert model["differ"] == int((got != expected["original"]).sum())
        numbers, counts = np.unique(got, return_counts=True)
        assert [(c["class"], c["rows"]) for c in model["counts"]] == list(
            zip(numbers.tolist(), counts.tolist(), strict=True)
        )
        assert model["classes"] is None  # too many
        assert [latency["rows"] for latency in model["latency"]] == [1, 200]
        for latency in model["latency"]:
            assert 0 < latency["p50_us"] <= latency["p90_us"] <= latency["p99_us"]
    text = run(file, "x.npy", "--model", "original,int8", "--labels", "y.npy").stdout
    share = 100 * report["models"][1]["accuracy"]
    assert f"{share:.2f} % of 200 ({report['models'][1]['correct']})" in text
    assert "compiled" not in text


def test_pictures(run, file, images, expected, zlib, tmp_path):
    from PIL import Image

    for i in (0, 1):
        Image.fromarray(images[i]).save(tmp_path / f"{i}.pgm")
    Image.fromarray(images[2]).convert("RGB").save(tmp_path / "2.png")
    Image.fromarray(255 - images[3]).save(tmp_path / "3.pgm")
    pictures = ["0.pgm", "1.pgm", *(["2.png"] if zlib else [])]
    result = run(file, *pictures, "--model", "compiled", "--json")
    found = json.loads(result.stdout)["models"][0]["classes"]
    assert found == expected["compiled"][: len(pictures)].tolist()
    assert not result.stderr
    result = run(file, "3.pgm", "--model", "compiled")
    assert "--invert" in result.stderr
    result = run(file, "3.pgm", "--model", "compiled", "--invert", "--output", "-")
    assert classes(result) == expected["compiled"][3:4].tolist()
    text = run(file, *pictures, "--model=compiled").stdout
    assert ["0.pgm", str(expected["compiled"][0])] in [line.split() for line in text.splitlines()]


def test_output_is_whole_or_as_it_was(run, file, images, expected, tmp_path):
    np.save(tmp_path / "x.npy", images)
    (tmp_path / "out").write_text("before")
    (tmp_path / "link").symlink_to("out")
    result = run(file, "x.npy", "--model", "int8", "--output", "link")
    assert result.returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "out").read_text().split() == [str(c) for c in expected["int8"]]
    refused(run(file, "x.npy", "--model", "int8", "--output", tmp_path), 1, "folder")
    refused(run(file, "x.npy", "--model", "int8", "--output", "no/such"), 1, "no/such")
    refused(run(file, "x.npy", "--model", "all", "--output", "o"), 2, "one model")
    assert run(file, "x.npy", "--model", "int8", "--output", os.devnull).returncode == 0
    assert Path(os.devnull).is_char_device()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "path",
    sorted(p for p in GOLDEN.glob("*/*.safetensors") if not p.stem.endswith(".rows")),
    ids=lambda path: path.stem,
)
def test_saved_files_are_run_or_refused_with_advice(run, path, tmp_path):
    listed = json.loads(run(path, "--list", "--json").stdout)
    for model in listed["models"]:
        if model["error"] is not None:
            assert "save fm.compile(model)" in model["error"]
            continue
        size = model["inputs"][0]["size"]
        np.save(tmp_path / "x.npy", np.linspace(-1, 1, 4 * size, dtype="f4").reshape(4, size))
        result = run(path, "x.npy", "--model", model["name"], "--output", "-")
        assert len(classes(result)) == 4
    assert "cannot be run" in run(path, "--list").stdout or listed["models"][0]["error"] is None


def test_wrong_arguments(run, file, images, tmp_path):
    np.save(tmp_path / "x.npy", images)
    refused(run(), 2, "MODEL", "usage")
    refused(run(file), 2, "ROWS")
    refused(run(file, "x.npy"), 2, "--model", "'original', 'int8', 'compiled'")
    refused(run(file, "x.npy", "--model", "int4"), 2, "--model", "'int4'")
    refused(run(file, "x.npy", "--model"), 2, "--model", "nothing")
    refused(run(file, "x.npy", "--threads", "0"), 2, "--threads", "1 to 1024")
    refused(run(file, "x.npy", "--threads=two"), 2, "'two'")
    refused(run(file, "x.npy", "--plan", "best"), 2, "--plan")
    refused(run(file, "x.npy", "--fast"), 2, "--fast")
    refused(run(file, "x.npy", "--time=3"), 2, "--time")
    refused(run(file, "x.npy", "--list"), 2, "--list")
    refused(run(file, "x.npy", "--output", "-", "--json"), 2, "--output")
    refused(run(file, "x.npy", FASTMNIST_ISA="none"), 2, "FASTMNIST_ISA")


def test_wrong_files(run, file, images, tmp_path):
    np.save(tmp_path / "x.npy", images)
    np.save(tmp_path / "wide.npy", np.zeros((2, 30), "u1"))
    np.save(tmp_path / "y.npy", np.zeros(3, "i8"))
    np.save(tmp_path / "int.npy", np.zeros((2, 784), "i4"))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    (tmp_path / "high.pgm").write_bytes(b"P5 14 56 255\n" + bytes(784))
    one = ("--model", "compiled")
    refused(run("none", "x.npy"), 1, "none")
    refused(run("x.npy", "x.npy"), 1, "x.npy")
    refused(run(file, "none", *one), 1, "none")
    refused(run(file, tmp_path, *one), 1, "folder")
    refused(run(file, "cut.npy", *one), 1, "truncated")
    refused(run(file, "wide.npy", *one), 1, "28 x 28", "got 30")
    refused(run(file, "int.npy", *one), 1, "int32")
    refused(run(file, "high.pgm", *one), 1, "28 x 28", "centred")
    refused(run(file, file, *one), 1, "a safetensors file")
    refused(run(file, "x.npy", "x.npy", *one), 1, "one file of rows")
    refused(run(file, "high.pgm", "x.npy", *one), 1, "a picture")
    refused(run(file, "x.npy", *one, "--labels", "y.npy"), 1, "200 rows, got 3")
    np.save(tmp_path / "floats.npy", np.zeros((2, 784), "f4"))
    refused(run(file, "floats.npy", *one, "--invert"), 1, "floats")


def test_pixels_of_a_model_that_knows_none(run, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 12), "u1"))
    refused(run(GOLDEN / "format1" / "chain-float.safetensors", "x.npy"), 1, "uint8")


def test_help_and_version(run):
    text = run("--help").stdout
    for option in ("--model", "--labels", "--threads", "--time", "--json", "--output", "--invert"):
        assert option in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert run("-h").stdout == text
    assert run("--version").stdout.startswith(f"fastmnist-run {fm.__version__}, ")
