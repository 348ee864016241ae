"""fm.import_onnx of what others write: torch, ONNX Runtime's quantizers, sklearn."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_runs import assert_near, run
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.layers.quantized import QuantizedLinear
from onnx_files import model_of, written

X = torch.randn(40, 12, generator=torch.Generator().manual_seed(1))


class Everything(nn.Module):
    """What torch has operators or formulas for, in one model."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 16), nn.Linear(16, 16, bias=False), nn.Linear(16, 4)
        self.norm, self.layer, self.drop = nn.BatchNorm1d(16), nn.LayerNorm(16), nn.Dropout(0.5)
        self.slope = nn.PReLU(16)

    def forward(self, x):
        h = self.drop(torch.relu(self.norm(self.a(x.flatten(1)))))
        h = h + F.gelu(self.layer(h))
        h = self.slope(h) + F.silu(h) * F.hardswish(h) - F.softplus(h, 1.5, 9) / 2
        h = torch.cat([F.mish(h[:, :8]), F.logsigmoid(h[:, 8:])], 1)
        h = F.celu(self.b(h), 0.7) + F.elu(h, 0.3) + F.selu(h) + F.gelu(h, approximate="tanh")
        one, other = h.chunk(2, 1)
        h = torch.cat([one * torch.sigmoid(other), F.softsign(one) + torch.tanh(other)], 1)
        h = F.hardsigmoid(h) + F.leaky_relu(h, 0.2) + F.hardtanh(h, -0.5, 0.7) + F.relu6(h)
        return F.log_softmax(self.c(h), -1)


class Positions(nn.Module):
    """Rows of several dimensions."""

    def __init__(self):
        super().__init__()
        self.a, self.across = nn.Linear(6, 8), nn.Linear(2, 2)

    def forward(self, x):
        x = torch.sigmoid(self.a(x.view(x.size(0), 2, 6)))
        x = x + self.across(x.transpose(1, 2)).transpose(1, 2)
        return x.mean(1).softmax(-1), x.sum(2).argmax(1)


def exported(model, path, dynamo, opset=None, x=X):
    """Let torch write a file with any number of rows."""
    model.eval()
    named = {"input_names": ["input"], "dynamo": dynamo, "opset_version": opset}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            shapes = ({0: torch.export.Dim("rows")},)
            torch.onnx.export(model, (x[:3],), path, **named, dynamic_shapes=shapes, verbose=False)
        else:
            torch.onnx.export(model, (x[:3],), path, **named, dynamic_axes={"input": {0: "N"}})
    return path


@pytest.mark.parametrize(("dynamo", "opset"), [(True, None), (True, 18), (False, None),
                                               (False, 13), (False, 16)])  # fmt: skip
@pytest.mark.parametrize("kind", [Everything, Positions])
def test_torchs_exporters(kind, dynamo, opset, tmp_path):
    torch.manual_seed(0)
    model = kind()
    if kind is Everything:
        model(X)
        if not dynamo and opset == 13:  # torch writes LayerNorm as a formula, Mish not at all
            model.forward = lambda x: F.log_softmax(model.c(model.layer(torch.relu(model.a(x)))), 1)
    path = exported(model, tmp_path / "net.onnx", dynamo, opset)
    back = fm.import_onnx(path)
    with torch.no_grad():
        want, got = model(X), back(X)
    for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (want, got)), strict=True):
        torch.testing.assert_close(b, a)
    net = fm.compile(back, example=X)
    got = net(X)
    torch.testing.assert_close(got[0] if isinstance(got, tuple) else got,
                               want[0] if isinstance(want, tuple) else want)  # fmt: skip
    assert fm.quantize(back, fm.Static(X)) is not None


def test_a_chain_is_a_sequential_with_its_names(tmp_path):
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(12, 16))
    model.add_module("act", nn.ReLU())
    model.add_module("fc2", nn.Linear(16, 4))
    back = fm.import_onnx(exported(model, tmp_path / "net.onnx", False))
    assert isinstance(back, nn.Sequential)
    assert [name for name, _ in back.named_children()] == ["fc1", "relu", "fc2"]
    assert torch.equal(back.fc1.weight, model.fc1.weight)
    assert not back.training


def test_a_fixed_number_of_rows_is_none(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    torch.onnx.export(model, (torch.zeros(1, 3, 4),), tmp_path / "net.onnx", dynamo=False)
    back = fm.import_onnx(tmp_path / "net.onnx")
    with torch.no_grad():
        assert torch.equal(back(X.view(-1, 3, 4)), model(X.view(-1, 3, 4)))


# ---- ONNX Runtime's quantizers -------------------------------------------------------------------


class Rows(CalibrationDataReader):
    def __init__(self):
        self.left = iter([{"input": X[:20].numpy()}, {"input": X[20:].numpy()}])

    def get_next(self):
        return next(self.left, None)


def mlp(act=nn.ReLU):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(12, 16), act(), nn.Linear(16, 16), act(), nn.Linear(16, 4))


STATIC = {
    "QDQ int8": {"quant_format": QuantFormat.QDQ},
    "QDQ uint8": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8},
    "QDQ per channel": {"quant_format": QuantFormat.QDQ, "per_channel": True},
    "QOperator": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8},
    "7 bits": {"quant_format": QuantFormat.QDQ, "reduce_range": True, "per_channel": True},
}


@pytest.mark.parametrize("act", [nn.ReLU, nn.Sigmoid, nn.GELU, lambda: nn.LeakyReLU(0.2)])
@pytest.mark.parametrize("name", STATIC)
def test_static_files(name, act, tmp_path):
    exported(mlp(act), tmp_path / "float.onnx", False)
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Rows(), **STATIC[name])
    path = tmp_path / "int8.onnx"
    back = fm.import_onnx(path)
    layers = [m for m in back.modules() if isinstance(m, QuantizedLinear)]
    assert [m.kind for m in layers] == ["static"] * 3
    file = onnx.load(path)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in file.graph.initializer}
    weights = [arrays[f"{i}.weight_quantized"] for i in (0, 2, 4)]
    for layer, codes in zip(layers, weights, strict=True):
        assert np.array_equal(layer.weight_int8.numpy(), codes)  # just these
    # The output is rounded to codes there, and not here: at most a step and a half apart.
    step = max(float(a.max()) for n, a in arrays.items() if n.endswith("_scale") and a.size == 1)
    with torch.no_grad():
        got = back(X).numpy()
    assert np.abs(got - run(path, X.numpy())[0]).max() < 1.5 * step
    assert np.array_equal(fm.compile(back)(X).numpy(), got)


def test_a_product_and_a_sum_that_are_quantized_apart(tmp_path):
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(12, 5)), nn.Parameter(torch.randn(5))

        def forward(self, x):
            return torch.relu(x @ self.weight + self.bias)

    torch.manual_seed(0)
    exported(Projected(), tmp_path / "float.onnx", False)
    for form in (QuantFormat.QDQ, QuantFormat.QOperator):
        quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Rows(), quant_format=form,
                        activation_type=QuantType.QUInt8)  # fmt: skip
        back = fm.import_onnx(tmp_path / "int8.onnx")
        with torch.no_grad():
            assert_near(run(tmp_path / "int8.onnx", X.numpy())[0], back(X).numpy(), 0.02)


@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_dynamic_files(kind, per_channel, tmp_path):
    exported(mlp(), tmp_path / "float.onnx", False)
    path = tmp_path / "int8.onnx"
    quantize_dynamic(
        tmp_path / "float.onnx", path, weight_type=kind, per_channel=per_channel,
        extra_options={"WeightSymmetric": True},
    )  # fmt: skip
    back = fm.import_onnx(path)
    assert [m.kind for m in back.modules() if isinstance(m, QuantizedLinear)] == ["dynamic"] * 3
    # One row at a time both rules are the same.
    alone = np.concatenate([run(path, row[None].numpy())[0] for row in X])
    with torch.no_grad():
        assert_near(alone, back(X).numpy(), 0.02)


def test_weights_with_a_zero_point(tmp_path):
    exported(mlp(), tmp_path / "float.onnx", False)
    path = tmp_path / "int8.onnx"
    quantize_dynamic(tmp_path / "float.onnx", path, weight_type=QuantType.QUInt8)
    with pytest.raises(ValueError, match=r"weights with zero point 0.*symmetric.*fm\.quantize"):
        fm.import_onnx(path)


def test_activations_of_16_bits(tmp_path):
    exported(mlp(), tmp_path / "float.onnx", False)
    path = tmp_path / "int16.onnx"
    quantize_static(tmp_path / "float.onnx", path, Rows(), activation_type=QuantType.QUInt16,
                    extra_options={"UseQDQContribOps": True})  # fmt: skip
    with pytest.raises(ValueError, match="quantize activations to 8 bits"):
        fm.import_onnx(path)


# ---- sklearn -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(digits):
    rows = digits.test.images[:300, 0, ::4, ::4].reshape(300, -1).numpy() / 16
    return rows.astype(np.float32), digits.test.labels[:300].numpy()


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("options", [{}, {"zipmap": False}])
@pytest.mark.filterwarnings("ignore")
def test_classifiers(activation, options, table, tmp_path):
    from skl2onnx import to_onnx

    rows, labels = table
    for wanted, scaler in itertools.product((labels, labels > 4), (True, False)):
        model = MLPClassifier((16, 8), activation=activation, max_iter=5, random_state=0)
        whole = make_pipeline(StandardScaler(), model) if scaler else model
        whole.fit(rows, wanted)
        made = to_onnx(whole, rows[:1], options={id(model): options} if options else None)
        back = fm.import_onnx(written(made, tmp_path))
        with torch.no_grad():
            got = back(torch.from_numpy(rows)).numpy()
        np.testing.assert_allclose(got, whole.predict_proba(rows), atol=2e-6)
        net = fm.compile(back)
        np.testing.assert_allclose(net(rows), got, atol=1e-6)
        # The probabilities are what a converted classifier is quantized for.
        q = fm.quantize(back, fm.Static(torch.from_numpy(rows)))
        with torch.no_grad():
            assert (q(torch.from_numpy(rows)).argmax(1).numpy() == got.argmax(1)).mean() > 0.95


@pytest.mark.filterwarnings("ignore")
def test_regressors(table, tmp_path):
    from skl2onnx import to_onnx

    rows, labels = table
    model = MLPRegressor(hidden_layer_sizes=(16,), max_iter=20, random_state=0)
    model.fit(rows, labels / 10.0)
    for first in (rows[:1], rows[:1].astype(np.float64)):
        back = fm.import_onnx(written(to_onnx(model, first), tmp_path))
        with torch.no_grad():
            got = back(torch.from_numpy(rows)).numpy()
        np.testing.assert_allclose(got[:, 0], model.predict(rows), atol=2e-5)


# ---- files written by hand -----------------------------------------------------------------------


def test_gemm_of_any_form(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 4)).astype(np.float32)
    for by_row, alpha, beta, shape in itertools.product(
        (0, 1), (1.0, 0.5), (1.0, -2.0), ((3,), (1, 3), (), (1,), None)
    ):
        weight = rng.normal(size=(3, 4) if by_row else (4, 3)).astype(np.float32)
        arrays = {"w": weight}
        if shape is not None:
            arrays["b"] = rng.normal(size=shape).astype(np.float32)
        node = helper.make_node(
            "Gemm", ["x", *arrays], ["y"], transB=by_row, alpha=alpha, beta=beta
        )
        path = written(model_of([node], arrays), tmp_path)
        with torch.no_grad():
            got = fm.import_onnx(path)(torch.from_numpy(x)).numpy()
        assert_near(run(path, x)[0], got, 1e-6)


def test_pixels_of_others(tmp_path):
    pixels = {"x": (TensorProto.UINT8, ["N", 4])}
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [helper.make_node("Cast", ["x"], ["real"], to=1),
             helper.make_node("Div", ["real", "most"], ["share"]),
             helper.make_node("MatMul", ["share", "w"], ["y"])]  # fmt: skip
    path = written(model_of(nodes, {"w": weight, "most": np.float32(255)}, inputs=pixels), tmp_path)
    x = np.random.default_rng(1).integers(0, 256, (5, 4), dtype=np.uint8)
    back = fm.import_onnx(path)
    with torch.no_grad():
        assert_near(run(path, x)[0], back(torch.from_numpy(x)).numpy(), 1e-6)
    assert_near(run(path, x)[0], fm.compile(back)(x), 1e-6)


@pytest.mark.parametrize(("node", "what"), [
    (("Softmax", ["x"], {"axis": 0}), "axis of the rows' own"),
    (("ReduceMean", ["x", "zero"], {}), "axis of the rows' own"),
    (("ArgMax", ["x"], {"axis": 0}), "axis of the rows' own"),
    (("Concat", ["x", "x"], {"axis": 0}), "axis of the rows' own"),
    (("Transpose", ["x"], {"perm": [1, 0]}), "keep rows first"),
    (("Reshape", ["x", "two"], {}), "keep each row"),
    (("Flatten", ["x"], {"axis": 0}), "each row by itself"),
    (("Gemm", ["x", "w"], {"transA": 1}), "rows times constant weights"),
    (("MatMul", ["w", "x"], {}), "constant weights as the second input"),
    (("MatMul", ["x", "x"], {}), "constant weights as the second input"),
    (("Add", ["x", "rows"], {}), "the same for all rows"),
    (("Slice", ["x", "zero", "one", "zero"], {}), "axis of the rows' own"),
    (("Sin", ["x"], {}), r"operators of an MLP, got Sin \('y'\).*ONNX Runtime runs"),
    (("Clip", ["x", "x"], {}), "constant bounds"),
    (("HardSigmoid", ["x"], {"alpha": 0.3}), "alpha 1/6"),
])  # fmt: skip
def test_what_mixes_rows_or_is_unknown_is_refused(node, what, tmp_path):
    kind, inputs, attributes = node
    arrays = {"w": np.ones((4, 4), np.float32), "zero": np.array([0]), "one": np.array([1]),
              "two": np.array([2, -1]), "rows": np.ones((5, 4), np.float32)}  # fmt: skip
    made = model_of([helper.make_node(kind, inputs, ["y"], **attributes)], arrays)
    with pytest.raises(ValueError, match=rf"^path: expected .*{what}"):
        fm.import_onnx(written(made, tmp_path))
