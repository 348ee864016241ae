"""fm.export_onnx: every step, in every opset, near what we compute where ONNX Runtime runs it."""

from __future__ import annotations

import copy
import importlib
import json

import numpy as np
import onnx
import pytest
import torch
from graph_models import ACTIVATIONS, JOINS, OTHER, WAYS, ActorCritic, X, made, parts_of
from graph_reference import RandomGraph, run_graph
from onnx_runs import NEWEST_RUN, assert_near, kinds, run, session
from torch import nn

import fastmnist as fm
from fastmnist.int8.graph import KINDS
from fastmnist.onnx.exporting import _written, as_graph

ALL_WAYS = {name: WAYS[name] for name in ("Static", "Dynamic")} | {
    "float": lambda model, rows: model
}
# Relative: a code that is one off moves what is behind it; float32 is rounded in another order.
MOST = {"Static": 0.05, "Dynamic": 0.05, "float": 3e-6}
NEWEST = onnx.defs.onnx_opset_version()


def chain(act):
    return nn.Sequential(nn.Linear(12, 16), act(), nn.Linear(16, 16), act(), nn.Linear(16, 4))


# Quotients of codes near 0 have no scale that differences could be held against.
NAMES = [*(name for name in JOINS if name != "divide"), *(f"act {name}" for name in ACTIVATIONS)]


@pytest.mark.parametrize("way", ALL_WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_answers_alike(name, way, tmp_path):
    kind = JOINS.get(name) or (lambda: chain(ACTIVATIONS[name.removeprefix("act ")]))
    q = ALL_WAYS[way](made(kind), X)
    path = fm.export_onnx(q, tmp_path / "net.onnx")
    net = fm.compile(q)
    for want, got in zip(parts_of(net(X)), run(path, X.numpy()), strict=True):
        assert_near(want, got, MOST[way], name)


@pytest.mark.parametrize("opset", [13, 14, 16, 17, 18, 19, 20, 21])
def test_steps_of_every_kind(opset):
    seen = set()
    for seed in range(24):
        graph = RandomGraph(seed, 7).graph()
        seen |= {step.kind for step in graph.steps}
        shapes = [graph.values[given.value].shape for given in graph.inputs]
        model = _written(graph, opset, "float32", shapes, None)
        onnx.checker.check_model(model, full_check=True)
        rng = np.random.default_rng(seed)
        rows = [rng.normal(size=(9, *shape)).astype(np.float32) for shape in shapes]
        wants = run_graph(graph, rows)
        for want, got in zip(wants, run(model.SerializeToString(), *rows), strict=True):
            finite = np.isfinite(want) & np.isfinite(got)
            assert want.shape == got.shape
            if want.dtype.kind == "i":
                assert (want == got).mean() > 0.8
            elif finite.any():  # products and quotients of noise have outliers, the median none
                scale = np.abs(want[finite]).max() + 1e-9
                assert np.median(np.abs(want - got)[finite]) <= 1e-3 * scale
    assert seen == {*KINDS}


@pytest.mark.parametrize("opset", range(13, NEWEST + 1))
def test_opsets(opset, tmp_path):
    model = nn.Sequential(nn.Linear(12, 16), nn.GELU(), nn.LayerNorm(16), nn.Mish(),
                          nn.Linear(16, 4), nn.Hardswish())  # fmt: skip
    for q in (fm.quantize(model, fm.Static(X)), fm.quantize(model, fm.Dynamic()), model.eval()):
        path = fm.export_onnx(q, tmp_path / "net.onnx", opset)
        made_for = onnx.load(path)
        assert [o.version for o in made_for.opset_import] == [opset]
        if opset <= NEWEST_RUN:
            with torch.no_grad():
                assert_near(q(X).numpy(), run(path, X.numpy())[0], 0.05)


@pytest.mark.parametrize("opset", [12, NEWEST + 1, 0, -3])
def test_other_opsets_are_refused(opset, tmp_path):
    with pytest.raises(ValueError, match=rf"opset: expected 13 .* to {NEWEST} .*, got {opset}"):
        fm.export_onnx(nn.Linear(3, 2), tmp_path / "net.onnx", opset)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("bad", [21.0, True, "21"])
def test_an_opset_is_an_int(bad, tmp_path):
    with pytest.raises(TypeError, match="opset: expected an int"):
        fm.export_onnx(nn.Linear(3, 2), tmp_path / "net.onnx", bad)


def test_the_form_is_qdq(tmp_path):
    q = fm.quantize(chain(nn.ReLU), fm.Static(X))
    path = fm.export_onnx(q, tmp_path / "net.onnx")
    layer = ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "MatMul", "Add"]
    assert kinds(path) == [*layer, "Relu", *layer, "Relu", *layer]
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    assert np.array_equal(arrays["0.weight"], q[0].weight_int8.numpy().T)
    assert arrays["0.weight"].dtype == np.int8
    assert np.array_equal(arrays["0.weight_scale"], q[0].weight_scale.numpy())
    assert arrays["0.bias"].dtype == np.float32
    assert arrays["0.input_scale"] == q[0].input_scale


def test_what_onnx_runtime_makes_of_it_multiplies_codes(tmp_path):
    q = fm.quantize(chain(nn.ReLU), fm.Static(X))
    path = fm.export_onnx(q, tmp_path / "net.onnx")
    opened = session(path)
    assert [p.name for p in opened.get_inputs()] == ["input"]
    assert [p.name for p in opened.get_outputs()] == ["output"]
    assert opened.get_inputs()[0].shape == ["N", 12]
    for rows in (0, 1, 5):
        assert run(path, X[:rows].numpy())[0].shape == (rows, 4)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_few_bits_are_int4(bits, tmp_path):
    q = fm.quantize(chain(nn.ReLU), fm.Static(X, weight_bits=bits))
    made21 = onnx.load(fm.export_onnx(q, tmp_path / "21.onnx"))
    weights = [t for t in made21.graph.initializer if t.name.endswith(".weight")]
    assert {t.data_type for t in weights} == {onnx.TensorProto.INT4}
    assert np.array_equal(
        onnx.numpy_helper.to_array(weights[0]).astype(np.int8), q[0].weight_int8.numpy().T
    )
    made20 = onnx.load(fm.export_onnx(q, tmp_path / "20.onnx", 20))
    assert onnx.TensorProto.INT4 not in {t.data_type for t in made20.graph.initializer}
    with torch.no_grad():
        for name in ("20", "21"):
            assert_near(q(X).numpy(), run(tmp_path / f"{name}.onnx", X.numpy())[0], 0.05)


def test_rows_by_their_own_range_are_exact(tmp_path):
    # Codes, sums and scales are ours, operation by operation: only the bias is rounded otherwise.
    q = fm.quantize(nn.Sequential(nn.Linear(12, 16)), fm.Dynamic())
    path = fm.export_onnx(q, tmp_path / "net.onnx")
    rows = torch.cat([X, torch.zeros(1, 12), torch.full((1, 12), 1e-42), X[:1] * 1e30])
    with torch.no_grad():
        want = q(rows).numpy()
    got = run(path, rows.numpy())[0]
    np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-6)
    one_by_one = np.concatenate([run(path, row[None].numpy())[0] for row in rows])
    assert np.array_equal(one_by_one, got)  # an answer depends on no other row


@pytest.mark.parametrize("pixels", [{}, {"mean": 0.1307, "std": 0.3081}, {"pixels": "0..255"},
                                    {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.4, 0.3)}])  # fmt: skip
@pytest.mark.parametrize("way", ["Static", "Dynamic", "float"])
def test_uint8_rows(pixels, way, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 12), dtype=np.uint8)
    model = made(lambda: chain(nn.ReLU))
    named = pixels or {"mean": 0.0, "std": 1.0}
    if way == "Static":
        net = fm.compile(model, torch.from_numpy(images), **pixels)
    else:
        net = fm.compile(model, dynamic=way == "Dynamic", **named)
    path = fm.export_onnx(net, tmp_path / "net.onnx", input="uint8")
    assert session(path).get_inputs()[0].type == "tensor(uint8)"
    most = 3e-6 if way == "float" else 0.05
    assert_near(net(images), run(path, images)[0], most)
    real = net.pixels.to_float(images)
    floats = fm.export_onnx(net, tmp_path / "floats.onnx")
    assert_near(net(real), run(floats, real)[0], most)
    if way == "Static":
        assert kinds(path)[0] == "DequantizeLinear"  # pixels are codes as they are


def test_uint8_rows_need_a_meaning(tmp_path):
    net = fm.compile(chain(nn.ReLU), X)
    with pytest.raises(ValueError, match=r"input: expected 'float32', .*got 'uint8'.*mean="):
        fm.export_onnx(net, tmp_path / "net.onnx", input="uint8")
    with pytest.raises(ValueError, match="input: expected 'float32' or 'uint8', got 'int8'"):
        fm.export_onnx(net, tmp_path / "net.onnx", input="int8")
    assert not [*tmp_path.iterdir()]


def test_images_keep_their_shape_by_example(tmp_path):
    images = torch.randint(0, 256, (20, 1, 4, 3), dtype=torch.uint8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    q = fm.quantize(model, fm.Static(images))
    for kind, rows in (("uint8", images), ("float32", images / 255)):
        path = fm.export_onnx(q, tmp_path / "net.onnx", input=kind, example=images)
        assert session(path).get_inputs()[0].shape == ["N", 1, 4, 3]
        assert_near(q(rows).numpy(), run(path, rows.numpy())[0], 0.02)
    path = fm.export_onnx(q, tmp_path / "net.onnx")
    assert session(path).get_inputs()[0].shape == ["N", 12]


def test_several_inputs_and_outputs(tmp_path):
    q = fm.quantize(made(ActorCritic), fm.Dynamic())
    path = fm.export_onnx(q, tmp_path / "net.onnx")
    opened = session(path)
    assert [p.name for p in opened.get_inputs()] == ["state", "goal"]
    assert [p.name for p in opened.get_outputs()] == ["policy", "value"]
    with torch.no_grad():
        want = q(X, OTHER)
    for key, got in zip(want, run(path, X.numpy(), OTHER.numpy()), strict=True):
        assert_near(want[key].numpy(), got, 0.05)


def test_names_that_inputs_and_outputs_share(tmp_path):
    class Same(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(12, 3)

        def forward(self, input, other):
            return {"input": self.a(input), "other": self.a(other), "": self.a(input + other)}

    net = fm.compile(Same(), example=(X, X))
    path = fm.export_onnx(net, tmp_path / "net.onnx")
    assert len({p.name for p in (*session(path).get_inputs(), *session(path).get_outputs())}) == 5
    for key, got in zip(net(X, X), run(path, X.numpy(), X.numpy()), strict=True):
        assert_near(net(X, X)[key].numpy(), got, 1e-5)


def test_other_transforms(tmp_path, digits):
    model = fm.NeuralNetwork()
    rows = torch.rand(40, 784)
    for change in (
        lambda: fm.prune(model, fm.L1Unstructured(0.8)),
        lambda: fm.cluster(model, fm.Clusters(16)),
        lambda: fm.factorize(model, fm.LowRank(rank=8)),
        lambda: fm.quantize(fm.prune(model, fm.Structured(0.5)), fm.Static(rows)),
        lambda: fm.quantize(fm.factorize(model, fm.LowRank(rank=8)), fm.Static(rows)),
    ):
        q = change()
        path = fm.export_onnx(q, tmp_path / "net.onnx")
        with torch.no_grad():
            assert_near(q(rows).numpy(), run(path, rows.numpy())[0], 0.03)


def test_what_the_file_tells(tmp_path, digits):
    model = fm.optimize(fm.NeuralNetwork(), digits, "int8")
    path = fm.export_onnx(model, tmp_path / "net.onnx")
    told = onnx.load(path)
    assert told.producer_name == "fastmnist"
    assert told.producer_version == fm.__version__
    about = {prop.key: prop.value for prop in told.metadata_props}
    assert about["fastmnist.version"] == fm.__version__
    assert "Static" in about["fastmnist.recipe"] or "int8" in about["fastmnist.recipe"]
    assert json.loads(about["fastmnist.model"])["output_names"] == ["output"]


def test_a_model_that_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match=r"cannot export '0' \(Conv1d\).*torch\.onnx\.export"):
        fm.export_onnx(nn.Sequential(nn.Conv1d(3, 2, 1)), tmp_path / "net.onnx")
    with pytest.raises(TypeError, match="path: expected a str or a path"):
        fm.export_onnx(nn.Linear(3, 2), 3)
    with pytest.raises(OSError, match="cannot write"):
        fm.export_onnx(nn.Linear(3, 2), tmp_path / "missing" / "net.onnx")


def test_nothing_is_left_half(tmp_path, monkeypatch):
    path = fm.export_onnx(nn.Linear(3, 2), tmp_path / "net.onnx")
    before = path.read_bytes()

    def fail(*_, **__):
        raise ValueError("no good")

    monkeypatch.setattr(onnx.checker, "check_model", fail)
    with pytest.raises(ValueError, match="no good"):
        fm.export_onnx(nn.Linear(3, 2), path)
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


def test_without_the_package(tmp_path, monkeypatch):
    whole = importlib.import_module

    def missing(name, *rest):
        if name.split(".")[0] == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'")
        return whole(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r'pip install "fastmnist\[onnx\]"'):
        fm.export_onnx(nn.Linear(3, 2), tmp_path / "net.onnx")
    with pytest.raises(ImportError, match=r'pip install "fastmnist\[onnx\]"'):
        fm.import_onnx(tmp_path / "net.onnx")


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("config", [fm.Static(X), fm.Dynamic()])
@pytest.mark.filterwarnings("ignore")
def test_torchs_exporter_says_what_to_call(dynamo, config, tmp_path):
    q = fm.quantize(chain(nn.ReLU), config)
    with pytest.raises((ValueError, RuntimeError), match=r"use fm\.export_onnx\(model, path\)"):
        torch.onnx.export(q, (X,), tmp_path / "net.onnx", dynamo=dynamo, verbose=False)
    assert not [*tmp_path.iterdir()]
    # Everything else that reads the state or traces goes on.
    assert "0.weight_int8" in q.state_dict()
    assert torch.equal(torch.export.export(q, (X,)).module()(X), q(X))
    assert torch.equal(copy.deepcopy(q)(X), q(X))


def test_a_graph_of_one_chain_is_that_chain():
    net = fm.compile(chain(nn.ReLU), X)
    graph = as_graph(net.network)
    network = graph.as_network()
    assert network is not None
    assert [layer.outputs for layer in network.layers] == [16, 16, 4]
    assert as_graph(graph) is graph
