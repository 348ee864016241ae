"""fm.import_onnx of files that are damaged, or made to do harm: an error, and nothing else."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import numpy as np
import onnx
import pytest
import torch
from graph_models import JOINS, Joined, X, made
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_runs import NEWEST_RUN
from torch import nn

import fastmnist as fm
from onnx_files import model_of, written

WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def one_layer():
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": WEIGHT})


def refused(model, folder, match):
    with pytest.raises(ValueError, match=rf"^path: expected .*{match}"):
        fm.import_onnx(written(model, folder))


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Give valid files of several forms."""
    folder = tmp_path_factory.mktemp("onnx")
    images = torch.randint(0, 256, (20, 12), dtype=torch.uint8)
    chain = nn.Sequential(nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3))
    joined = made(JOINS["cat of slices"])
    models = {
        "static": (fm.quantize(chain, fm.Static(X)), 21),
        "pixels": (fm.quantize(chain, fm.Static(images)), 13),
        "dynamic": (fm.quantize(joined, fm.Dynamic()), 17),
        "bits": (fm.quantize(chain, fm.Static(X, weight_bits=4)), NEWEST_RUN),
        "float": (made(lambda: Joined(lambda m, x: (m.a(x), m.d(m.a(x)) / 2))), 20),
    }
    return {
        name: fm.export_onnx(model, folder / f"{name}.onnx", opset).read_bytes()
        for name, (model, opset) in models.items()
    }


@given(data=st.data())
@settings(max_examples=150)
def test_damaged_bytes(contents, tmp_path_factory, data):
    content = bytearray(contents[data.draw(st.sampled_from(sorted(contents)))])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "drop", "repeat"])):
            case "flip":
                content[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del content[max(at, 1) :]
            case "drop":
                del content[at : at + 1 + data.draw(st.integers(0, 20))]
            case _:
                content[at:at] = content[at : at + 40]
        if not content:
            break
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ValueError):  # and no other error
        assert isinstance(fm.import_onnx(path), nn.Module)


@pytest.mark.parametrize("content", [b"", b"\0", b"PK\x03\x04", b"{}", b"\xff" * 100])
def test_no_onnx_file(content, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^path: expected"):
        fm.import_onnx(path)


def test_no_file(tmp_path):
    with pytest.raises(OSError, match="missing"):
        fm.import_onnx(tmp_path / "missing.onnx")
    with pytest.raises(OSError, match=r"."):
        fm.import_onnx(tmp_path)
    with pytest.raises(TypeError, match="path: expected a str or a path, got int"):
        fm.import_onnx(3)


@pytest.mark.parametrize("shape", [[10**9, 10**9], [2**62, 4], [-1, 3], [4, 4], [1] * 40])
def test_shapes_that_the_bytes_do_not_fill(shape, tmp_path):
    model = one_layer()
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(shape)
    tracemalloc.start()
    refused(model, tmp_path, "tensor 'w'")
    assert tracemalloc.get_traced_memory()[1] < 2**24  # nothing was allocated for it
    tracemalloc.stop()


@pytest.mark.parametrize("node", [
    ("ConstantOfShape", ["huge"]), ("Expand", ["w", "huge"]), ("Concat", ["w"] * 100_000),
])  # fmt: skip
def test_constants_that_would_not_fit(node, tmp_path):
    kind, inputs = node
    attributes = {"axis": 0} if kind == "Concat" else {}
    arrays = {"w": np.ones((64, 64), np.float32), "huge": np.array([2**20, 2**20, 64, 64])}
    nodes = [helper.make_node(kind, inputs, ["c"], **attributes),
             helper.make_node("MatMul", ["x", "c"], ["y"])]  # fmt: skip
    refused(model_of(nodes, arrays), tmp_path, "as large as the file")


def test_constants_that_double(tmp_path):
    nodes = [helper.make_node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(60)]
    nodes.append(helper.make_node("MatMul", ["x", "c60"], ["y"]))
    refused(model_of(nodes, {"c0": np.ones((4, 4), np.float32)}), tmp_path, "as large as the file")


def test_rows_that_grow(tmp_path):
    nodes = [helper.make_node("Concat", [f"x{i or ''}"] * 2, [f"x{i + 1}"], axis=1)
             for i in range(60)]  # fmt: skip
    refused(model_of(nodes, outputs=["x60"]), tmp_path, "rows of at most")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "", ".", "link.bin",
                                      "a/../../secret.bin", "missing.bin", "\0"])  # fmt: skip
def test_numbers_outside_of_the_folder(location, tmp_path):
    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = one_layer()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    refused(model, folder, "tensor 'w' in a file of the same folder")


def test_numbers_beside_the_file(tmp_path):
    model = one_layer()
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin",
              size_threshold=0)  # fmt: skip
    back = fm.import_onnx(tmp_path / "net.onnx")
    assert np.array_equal(back[0].weight.detach().numpy(), WEIGHT.T)
    (tmp_path / "net.bin").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"bytes 0 to 48 of 'net\.bin'"):
        fm.import_onnx(tmp_path / "net.onnx")


def test_an_order_that_does_not_work(tmp_path):
    nodes = [helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    refused(model_of(nodes, outputs=["b"]), tmp_path, r"input 'b' of Relu \('a'\) before it")
    twice = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Sigmoid", ["x"], ["y"])]
    refused(model_of(twice), tmp_path, "each value once, got 'y' twice")
    refused(model_of([helper.make_node("Relu", ["x"], ["z"])]), tmp_path, "output 'y'")


def test_nothing_to_compute(tmp_path):
    nodes = [helper.make_node("Identity", ["w"], ["y"])]
    refused(model_of(nodes, {"w": WEIGHT}), tmp_path, "depend on an input")
    refused(model_of([]), tmp_path, "operators and outputs")


@pytest.mark.parametrize(("changes", "match"), [
    ({"x": (TensorProto.FLOAT, ["N", "M"])}, "a fixed shape"),
    ({"x": (TensorProto.FLOAT, None)}, "rows as input 'x', got no shape"),
    ({"x": (TensorProto.STRING, ["N", 4])}, "element type 8"),
    ({"x": (TensorProto.FLOAT, ["N", 5])}, "rows of 4 numbers"),
    ({"x": (TensorProto.FLOAT, ["N"])}, "rows of 4 numbers"),
])  # fmt: skip
def test_inputs_that_are_no_rows(changes, match, tmp_path):
    model = one_layer()
    replaced = model_of(list(model.graph.node), {"w": WEIGHT}, inputs=changes)
    refused(replaced, tmp_path, match)


def coded(**changes):
    """A layer in QDQ form, with some of its arrays changed."""
    arrays = {
        "s": np.float32(0.02), "z": np.uint8(7), "s2": np.float32(0.02), "z2": np.uint8(7),
        "w": np.ones((4, 3), np.int8), "ws": np.float32(0.1), "wz": np.int8(0),
    } | changes  # fmt: skip
    axis = {"axis": 1} if np.ndim(arrays["ws"]) else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s2", "z2"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], **axis),
        helper.make_node("MatMul", ["d", "wd"], ["y"]),
    ]
    return model_of(nodes, arrays)


def test_codes_that_are_right(tmp_path):
    for weight, zero in ((np.full((4, 3), 128 + 5, np.uint8), np.uint8(128)),
                         (np.full((4, 3), 5, np.int8), np.int8(0))):  # fmt: skip
        back = fm.import_onnx(written(coded(w=weight, wz=zero), tmp_path))
        assert (back[0].weight_int8 == 5).all()
    signed = coded(z=np.int8(-121), z2=np.int8(-121))
    assert int(fm.import_onnx(written(signed, tmp_path))[0].input_zero_point) == 7


@pytest.mark.parametrize(("changes", "match"), [
    ({"s2": np.float32(0.03)}, "same scale and zero point"),
    ({"z2": np.uint8(8)}, "same scale and zero point"),
    ({"s": np.float32(0)}, "finite scale above 0"),
    ({"s": np.float32(np.nan)}, "finite scale above 0"),
    ({"s": np.float32([0.1, 0.2, 0.1, 0.2])}, "one constant scale"),
    ({"z": np.uint16(7)}, "8 bits"),
    ({"ws": np.float32([0.1, 0.1])}, "a scale for each index"),
    ({"ws": np.float32(np.inf)}, "finite scales above 0|finite float weights"),
    ({"wz": np.int8(-100), "w": np.full((4, 3), 100, np.int8)}, "weights with zero point 0"),
    ({"w": np.ones((3, 3), np.int8)}, "rows of 3 numbers"),
    ({"w": np.ones(4, np.int8)}, "a matrix of weights"),
    ({"w": np.ones((4, 3), np.float32)}, "codes and a scale"),
])  # fmt: skip
def test_codes_that_are_wrong(changes, match, tmp_path):
    refused(coded(**changes), tmp_path, match)


@pytest.mark.parametrize("text", [
    "", "[]", "{}", "null", '{"pixels": 3}', "[" * 100_000,
    json.dumps({"pixels": {}, "outputs": ["a", "b"], "flattened": []}),
    json.dumps({"pixels": {"input": {"mean": [0], "std": [0]}}, "outputs": None, "flattened": []}),
    json.dumps({"pixels": {}, "outputs": 3, "flattened": []}),
])  # fmt: skip
def test_what_is_told_of_a_model_is_not_trusted(text, contents, tmp_path):
    model = onnx.load_model_from_string(contents["static"])
    for prop in model.metadata_props:
        if prop.key == "fastmnist.model":
            prop.value = text
    refused(model, tmp_path, r".*")


def test_other_pixels_than_those_of_the_codes_are_none(contents, tmp_path):
    # Whoever changes what pixels stand for, and not the numbers, gets no wrong answers.
    model = onnx.load_model_from_string(contents["pixels"])
    about = {"pixels": {"input": {"mean": [0.5], "std": [0.5]}}, "outputs": None, "flattened": []}
    for prop in model.metadata_props:
        if prop.key == "fastmnist.model":
            prop.value = json.dumps(about)
    back = fm.import_onnx(written(model, tmp_path))
    with pytest.raises(ValueError, match="uint8"), torch.no_grad():
        back(torch.zeros(1, 12, dtype=torch.uint8))


def test_arrays_in_every_way_that_they_are_written(tmp_path):
    proto = TensorProto(name="w", dims=[4, 3], data_type=TensorProto.FLOAT)
    proto.float_data.extend(WEIGHT.reshape(-1).tolist())
    for tensor in (proto, numpy_helper.from_array(WEIGHT.astype(np.float64), "w"),
                   numpy_helper.from_array(WEIGHT.astype(np.float16), "w")):  # fmt: skip
        model = one_layer()
        model.graph.initializer[0].CopyFrom(tensor)
        back = fm.import_onnx(written(model, tmp_path))
        np.testing.assert_allclose(back[0].weight.detach().numpy(), WEIGHT.T, rtol=1e-3)
    sparse = one_layer()
    sparse.graph.sparse_initializer.add()
    refused(sparse, tmp_path, "plain arrays")
    odd = one_layer()
    odd.graph.initializer[0].data_type = TensorProto.COMPLEX64
    refused(odd, tmp_path, "element type 14")
