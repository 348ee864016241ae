"""The C interface answers what Python answers, to the bit, and refuses everything else in words."""

from __future__ import annotations

import ctypes
import threading

import c_library as c
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from saved_kinds import KINDS, PIXELS, X

import fastmnist as fm
from fastmnist.compilation.compiling import graph_of
from fastmnist.runtime import CompiledModel
from golden import CLASSES, FLOAT, ONLY_TORCH, RUNS, folder_of


def same_bits(got: np.ndarray, want: np.ndarray) -> bool:
    return bool(np.array_equal(got.reshape(-1).view(np.int32), want.reshape(-1).view(np.int32)))


def natively(model) -> CompiledModel:
    """The model as one native call, layer by layer as it is."""
    return model if isinstance(model, CompiledModel) else CompiledModel(graph_of(model), "fixed")


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "half weights"])
def test_every_kind_of_model_answers_as_in_python(kind, compress, tmp_path):
    path = tmp_path / "m.safetensors"
    model = KINDS[kind]()
    fm.save(path, model, compress=compress)
    saved = fm.load(path, into=KINDS[kind]() if "functional" in kind else None)
    net, ours = natively(saved), c.Model(path)
    assert same_bits(ours.predict(X.numpy()), net(X.numpy()))
    assert np.array_equal(ours.classify(X.numpy()), net.predict(X.numpy()))
    if not isinstance(saved, CompiledModel) and "float" not in kind and kind in INT8_ALONE:
        with torch.no_grad():
            assert same_bits(ours.predict(X.numpy()), saved(X).numpy())
    if ours.size("takes_pixels"):
        pixels = PIXELS.numpy()
        assert same_bits(ours.predict(pixels), net(pixels))
        assert same_bits(c.Model(path.read_bytes()).predict(pixels), net(pixels))


INT8_ALONE = ("clustered static", "four bits", "low rank static", "static", "affine", "pixels",
              "dynamic", "functional static", "root")  # fmt: skip
assert {*INT8_ALONE} <= {*KINDS}


@pytest.mark.parametrize("kind", RUNS)
def test_files_of_earlier_versions_answer_what_they_answered_then(kind):
    stored = load_file(folder_of(kind) / f"{kind}.rows.safetensors")
    model = c.Model(folder_of(kind) / f"{kind}.safetensors")
    got = model.predict(stored["rows"].numpy().reshape(len(stored["rows"]), -1))
    want = stored["outputs"].numpy()
    if kind in FLOAT:
        assert np.abs(got.reshape(want.shape) - want).max() <= FLOAT[kind] * np.abs(want).max()
    else:
        assert same_bits(got, want)
    if "pixels" in stored:
        rows = stored["pixels"].numpy().reshape(len(stored["pixels"]), -1)
        assert same_bits(model.predict(rows), stored["pixel_outputs"].numpy())


@pytest.mark.parametrize("kind", ONLY_TORCH)
def test_what_only_torch_computes_is_refused_with_advice(kind):
    with pytest.raises(c.Failed, match=r"needs torch: save fm\.compile\(model\)"):
        c.Model(folder_of(kind) / f"{kind}.safetensors")


@pytest.mark.parametrize(
    "kind", [kind for kind in ONLY_TORCH if "half" not in kind and "recurrent" not in kind]
)
def test_saved_again_most_of_them_run(kind, tmp_path):
    path = tmp_path / "again.safetensors"
    model = fm.load(folder_of(kind) / f"{kind}.safetensors", into=CLASSES[kind]().eval())
    fm.save(path, model)
    stored = load_file(folder_of(kind) / f"{kind}.rows.safetensors")
    rows = stored["rows"].numpy()
    got = c.Model(path).predict(rows.reshape(len(rows), -1))
    assert same_bits(got, natively(model)(rows))
    assert np.array_equal(got.argmax(1), stored["outputs"].numpy().argmax(1))
    # What was added for programs is no part of the module's own state.
    again = fm.load(path, into=CLASSES[kind]().eval())
    assert again.state_dict().keys() == model.state_dict().keys()
    numbers = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    content = path.read_bytes()
    in_file = len(content) - int.from_bytes(content[:8], "little") - 8
    assert in_file < 1.1 * numbers + 200, "nothing is stored twice"


# ---- what it says of files and models ------------------------------------------------------------


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    path = tmp_path_factory.mktemp("several") / "m.safetensors"
    models = {"original": KINDS["float"](), "int8": KINDS["pixels"](), "größer": KINDS["static"]()}
    fm.save(path, models)
    return path


def test_versions():
    assert c.LIBRARY.fastmnist_version().decode() == fm.__version__
    assert c.LIBRARY.fastmnist_abi() == 1
    assert c.LIBRARY.fastmnist_isa().decode() == fm.cpu_info()["isa"]


def test_names_and_sizes(several):
    file = ctypes.c_void_p()
    c.check(c.LIBRARY.fastmnist_open(str(several).encode(), ctypes.byref(file)))
    count = c.LIBRARY.fastmnist_models(file)
    names = [c.LIBRARY.fastmnist_model_name(file, ctypes.c_size_t(i)) for i in range(count)]
    assert [name.decode() for name in names] == ["original", "int8", "größer"]
    assert c.LIBRARY.fastmnist_model_name(file, ctypes.c_size_t(3)) is None
    assert b'"models"' in c.LIBRARY.fastmnist_description(file)
    model = ctypes.c_void_p()
    c.check(c.LIBRARY.fastmnist_load_from(file, b"int8", None, ctypes.byref(model)))
    c.LIBRARY.fastmnist_close(file)  # what was loaded needs it no more
    assert c.LIBRARY.fastmnist_input_size(model, ctypes.c_size_t(0)) == 12
    assert c.LIBRARY.fastmnist_input_size(model, ctypes.c_size_t(1)) == 0
    assert c.LIBRARY.fastmnist_input_name(model, ctypes.c_size_t(0)) == b"x"
    assert c.LIBRARY.fastmnist_output_size(model, ctypes.c_size_t(0)) == 4
    assert c.LIBRARY.fastmnist_takes_pixels(model, ctypes.c_size_t(0)) == 1
    assert c.LIBRARY.fastmnist_bytes(model) > 0
    c.LIBRARY.fastmnist_free(model)
    assert c.Model(several, "größer").size("takes_pixels") == 0
    assert c.Model(several, "int8").shape("output") == [4]


@pytest.mark.parametrize(
    ("source", "name", "status", "message"),
    [
        ("nowhere.safetensors", None, c.NOT_FOUND, "path: expected a model file, got '.*nowhere"),
        (".", None, c.NOT_FOUND, "which is no file"),
        ("several", None, c.INVALID, "name: expected one of original, int8, größer, got none"),
        ("several", "other", c.NOT_FOUND, "name: expected one of original.*got 'other'"),
        ("text", None, c.INVALID, "expected a safetensors file"),
        ("empty", None, c.INVALID, "0 bytes"),
    ],
)
def test_files_that_are_none(several, tmp_path, source, name, status, message):
    (tmp_path / "text").write_text("hello hello hello")
    (tmp_path / "empty").touch()
    path = several if source == "several" else tmp_path / source
    with pytest.raises(c.Failed, match=message) as caught:
        c.Model(path, name)
    assert caught.value.status == status


def test_null_pointers():
    null = ctypes.c_void_p()
    handle = ctypes.c_void_p()
    for status in (
        c.LIBRARY.fastmnist_open(None, ctypes.byref(handle)),
        c.LIBRARY.fastmnist_open(b"x", None),
        c.LIBRARY.fastmnist_open_memory(None, ctypes.c_size_t(0), ctypes.byref(handle)),
        c.LIBRARY.fastmnist_load(None, None, None, ctypes.byref(handle)),
        c.LIBRARY.fastmnist_load(b"x", None, None, None),
        c.LIBRARY.fastmnist_load_from(None, None, None, ctypes.byref(handle)),
        c.LIBRARY.fastmnist_predict_u8(None, None, ctypes.c_size_t(1), None),
        c.LIBRARY.fastmnist_classify_f32(None, None, ctypes.c_size_t(1), None),
        c.LIBRARY.fastmnist_run(None, None, ctypes.c_size_t(0), ctypes.c_size_t(0), None,
                                ctypes.c_size_t(0)),
    ):  # fmt: skip
        assert status == c.INVALID
        assert b"expected a pointer, got NULL" in c.LIBRARY.fastmnist_last_error()
    c.LIBRARY.fastmnist_free(null)
    c.LIBRARY.fastmnist_close(null)
    assert c.LIBRARY.fastmnist_models(null) == c.LIBRARY.fastmnist_inputs(null) == 0


def test_wrong_options(several):
    model = ctypes.c_void_p()
    for options, message in (
        (c.Options(4, 0, None), "options: expected size"),
        (c.Options(ctypes.sizeof(c.Options), 3, None), "plan: expected one of"),
    ):
        status = c.LIBRARY.fastmnist_load(
            str(several).encode(), b"int8", ctypes.byref(options), ctypes.byref(model)
        )
        assert status == c.INVALID
        assert message in c.LIBRARY.fastmnist_last_error().decode()
        assert not model


def test_wrong_rows(several):
    model = c.Model(several, "größer")
    with pytest.raises(c.Failed, match="x: expected float32"):
        model.predict(PIXELS.numpy())
    pixels = c.Model(several, "int8")
    x = np.zeros((4, 12), np.uint8)
    for values, rows, outputs, message in (
        (None, 1, x.ctypes.data, "x: expected rows, got NULL"),
        (x.ctypes.data, 1, None, "outputs: expected memory to write to"),
        (x.ctypes.data, 2**63, x.ctypes.data, "rows: expected as many as memory"),
        (x.ctypes.data, 2**60, x.ctypes.data, "rows: expected as many as memory"),
        (x.ctypes.data, 1, x.ctypes.data, "overlaps an input"),
    ):
        status = c.LIBRARY.fastmnist_predict_u8(
            pixels.handle, ctypes.c_void_p(values), ctypes.c_size_t(rows),
            ctypes.c_void_p(outputs),
        )  # fmt: skip
        assert status == c.INVALID
        assert message in c.LIBRARY.fastmnist_last_error().decode()
    assert len(pixels.predict(x[:0])) == 0
    with pytest.raises(c.Failed, match="inputs, outputs: expected 1 and 1 arrays, got 2"):
        pixels.run(x, x)


def test_errors_belong_to_their_thread(several):
    with pytest.raises(c.Failed):
        c.Model(several, "mine")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(c.LIBRARY.fastmnist_last_error()))
    thread.start()
    thread.join()
    assert seen == [b""]
    assert b"'mine'" in c.LIBRARY.fastmnist_last_error()


def test_many_threads_share_one_model(several):
    model = c.Model(several, "int8")
    rows = np.random.default_rng(0).integers(0, 256, (500, 12), np.uint8)
    want = model.predict(rows)
    wrong = []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(model.predict(rows), want):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads(several):
    before = c.LIBRARY.fastmnist_num_threads()
    try:
        c.check(c.LIBRARY.fastmnist_set_num_threads(2))
        assert c.LIBRARY.fastmnist_num_threads() == 2
        assert c.LIBRARY.fastmnist_set_num_threads(-1) == c.INVALID
        assert b"expected" in c.LIBRARY.fastmnist_last_error()
    finally:
        fm.set_num_threads(0)
    assert c.LIBRARY.fastmnist_num_threads() == before


# ---- plans ---------------------------------------------------------------------------------------


def test_plans_are_stored_or_fixed_and_measured_when_asked(several, tmp_path):
    times = tmp_path / "times.txt"
    made = []

    def load(plan: int) -> c.Model:
        model = c.Model.__new__(c.Model)
        model.handle = ctypes.c_void_p()
        options = c.Options(ctypes.sizeof(c.Options), plan, str(times).encode())
        c.check(
            c.LIBRARY.fastmnist_load(
                str(several).encode(), b"int8", ctypes.byref(options), ctypes.byref(model.handle)
            )
        )
        made.append(model.predict(PIXELS.numpy()))
        return model

    load(c.FIXED)
    load(c.STORED)
    assert not times.exists(), "nothing is measured unless asked for"
    load(c.MEASURED)
    before = times.read_bytes()
    assert b"layer 12x16" in before
    load(c.STORED)
    assert times.read_bytes() == before
    assert all(np.array_equal(y, made[0]) for y in made)


def test_rows_that_are_parted_are_refused(tmp_path):
    class Parted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Linear(12, 20)

        def forward(self, x):
            return torch.softmax(self.a(x).view(-1, 10), 1)

    path = tmp_path / "m.safetensors"
    for model in (Parted(), fm.quantize(Parted(), fm.Dynamic())):
        fm.save(path, model)
        with pytest.raises(c.Failed, match="needs torch"):
            c.Model(path)
