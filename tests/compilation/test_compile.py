"""compile: the whole network as one native call, and what it refuses."""

from __future__ import annotations

import concurrent.futures
import copy
import io
import pickle
import threading

import numpy as np
import pytest
import torch
from models import (
    Functional,
    MyModel,
    Nested,
    SharedActivation,
    Tied,
    UsedTwice,
    Wrapped,
    randomize,
)
from torch import nn
from torch.nn import functional as F

import fastmnist as fm
from fastmnist.measuring.sqnr import sqnr

X = torch.randn(50, 12, generator=torch.Generator().manual_seed(2))


def mlp():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 4))


@pytest.fixture(scope="module")
def net():
    return fm.compile(mlp(), X)


def two(function):
    return Wrapped(function, nn.Linear(12, 16), nn.Linear(16, 4))


CHAINS = {
    "sequential": mlp,
    "functional": Functional,
    "nested": Nested,
    "shared activation": SharedActivation,
    "used twice": UsedTwice,
    "tied": Tied,
    "relu6": lambda: two(lambda m, x: m.layers[1](F.relu6(m.layers[0](x)))),
    "hardtanh": lambda: two(lambda m, x: m.layers[1](F.hardtanh(m.layers[0](x), -1.0, 2.0))),
    "keywords": lambda: two(
        lambda m, x: m.layers[1](F.hardtanh(m.layers[0](x), min_val=0.0, max_val=1.0))
    ),
    "sizes": lambda: two(lambda m, x: m.layers[1](m.layers[0](x.view(x.shape[0], -1)).relu())),
    "reshape": lambda: two(lambda m, x: m.layers[1](torch.relu(m.layers[0](x.reshape(-1, 12))))),
    "batchnorm": lambda: nn.Sequential(
        nn.BatchNorm1d(12), nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)
    ),
    "identity": lambda: nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(12, 4), nn.ReLU()),
    "root": lambda: nn.Linear(12, 4),
    "deep": lambda: nn.Sequential(*[nn.Linear(12, 12) for _ in range(40)]),
}


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("config", ["static", "dynamic"])
def test_same_bits_as_the_module(name, config):
    model = randomize(CHAINS[name]())
    q = fm.quantize(model, fm.Static(X) if config == "static" else fm.Dynamic())
    net = fm.compile(q)
    x = X.clone()
    x[3, 3] = float("nan")
    x[4, 4] = float("inf")
    expected = q(x)
    assert np.array_equal(net(x).numpy(), expected.numpy(), equal_nan=True)
    direct = fm.compile(model, X) if config == "static" else fm.compile(model, dynamic=True)
    assert np.array_equal(direct(x).numpy(), expected.numpy(), equal_nan=True)
    assert [layer.name for layer in direct.layers] == [layer.name for layer in net.layers]


def test_a_float_layer_among_int8_ones():
    q = fm.quantize_dynamic(mlp(), {"0"})
    net = fm.compile(q)
    assert [type(layer).__name__ for layer in net.layers] == ["QuantizedLayer", "GraphStep"]
    assert sqnr(q(X), net(X)) > 100


def test_both_kinds_of_int8_in_one_model():
    first = fm.quantize(mlp(), fm.Static(X))
    q = nn.Sequential(first, fm.quantize(nn.Linear(4, 4), fm.Dynamic()))
    assert torch.equal(fm.compile(q)(X), q(X))
    assert [network.kind for network in fm.compile(q).network.networks] == ["static", "dynamic"]


def test_a_model_is_quantized_one_way():
    with pytest.raises(ValueError, match="dynamic: expected calibration or dynamic=True, got both"):
        fm.compile(mlp(), X, dynamic=True)


def test_a_float_model_stays_float():
    model = mlp().eval().requires_grad_(False)
    net = fm.compile(model)
    assert sqnr(model(X), net(X)) > 100
    assert [layer.kind for layer in net.layers] == ["float", "float"]
    assert "float32" in repr(net)
    pixels = torch.arange(24, dtype=torch.uint8).view(2, 12)
    with pytest.raises(ValueError, match=r"uint8|pixel"):
        net(pixels)
    told = fm.compile(model, mean=0.5, std=0.25)
    assert sqnr(model((pixels / 255 - 0.5) / 0.25), told(pixels)) > 100


@pytest.mark.parametrize("options", [{"dynamic": True}, {"calibration": X}, {"mean": 0.0}])
def test_quantized_models_are_not_quantized_again(options, net):
    for model in (fm.quantize(mlp(), fm.Dynamic()), net):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected a float model"):
            fm.compile(model, **options)
    assert fm.compile(net) is net


@pytest.mark.parametrize("model", [None, 3, "net", MyModel])
def test_no_module(model):
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module"):
        fm.compile(model, dynamic=True)


# Calling it.


def test_out_is_written_to_and_returned(net):
    for x in (X, X.numpy()):
        expected = net(x)
        out = np.full((50, 4), np.nan, np.float32)
        out = torch.from_numpy(out) if isinstance(x, torch.Tensor) else out
        assert net(x, out=out) is out
        assert (out == expected).all()
        assert net(x, out) is out
    mixed = torch.empty(50, 4)
    net(X.numpy(), out=mixed.numpy())
    assert torch.equal(mixed, net(X))


@pytest.mark.parametrize(
    "out",
    [
        torch.empty(49, 4), torch.empty(50, 5), torch.empty(200), torch.empty(50, 4).double(),
        torch.empty(4, 50).t(), torch.empty(50, 8)[:, ::2], np.empty((50, 3), np.float32),
        np.empty((50, 4), np.float64), torch.empty(50, 4, device="meta"), [[0.0]], 3, "out",
    ],
)  # fmt: skip
def test_an_out_that_does_not_fit(net, out):
    with pytest.raises((TypeError, ValueError), match="out"):
        net(X, out=out)


def test_a_read_only_out(net):
    out = np.empty((50, 4), np.float32)
    out.flags.writeable = False
    with pytest.raises((TypeError, ValueError), match="out"):
        net(X.numpy(), out=out)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(3, 13), r"12.*13|13.*12"),
        (torch.zeros(12), r"\[N|batch"),
        (np.zeros(12, np.float32), r"\[N|batch"),
        (torch.zeros(()), r"\[N|batch|shape"),
        (torch.zeros(3, 12, dtype=torch.int64), "int64"),
        (np.zeros((3, 12), np.int32), "int32"),
        (np.zeros((3, 12), bool), "bool"),
        (np.zeros((3, 12), complex), "complex"),
        (np.array([["a"] * 12]), "x"),
        (np.zeros((3, 12), object), "object"),
        (torch.zeros(3, 12, dtype=torch.uint8), "uint8|pixel"),
        (np.zeros((3, 12), np.uint8), "uint8|pixel"),
        (torch.zeros(3, 12, device="meta"), "meta|device"),
        (torch.zeros(3, 12).to_sparse(), "sparse"),
        ([[0.0] * 12], r"np.asarray"),
        (None, "NoneType"),
        (3.0, "float"),
        ({"x": X}, "dict"),
        (np.ma.masked_array(np.zeros((3, 12), np.float32)), "masked"),
    ],
)
def test_bad_rows(net, x, message):
    for call in (net, net.predict, net.predict_proba):
        with pytest.raises((TypeError, ValueError), match=message):
            call(x)


def test_predict_and_probabilities(net):
    logits = net(X)
    for x in (X, X.numpy()):
        labels, shares = net.predict(x), net.predict_proba(x)
        assert type(labels) is type(x)
        assert type(shares) is type(x)
        assert str(labels.dtype).endswith("int64")
        assert (torch.as_tensor(labels) == logits.argmax(1)).all()
        torch.testing.assert_close(torch.as_tensor(shares), logits.softmax(1))


def test_one_output_has_no_classes():
    net = fm.compile(nn.Linear(12, 1), dynamic=True)
    assert net(X).shape == (50, 1)
    with pytest.raises(ValueError, match=r"two outputs|2 outputs"):
        net.predict(X)
    with pytest.raises(ValueError, match="at least two outputs, got 1"):
        net.predict_proba(X)


def test_rows_of_any_shape_and_subclass(net):
    expected = net(X)
    assert torch.equal(net(X.view(50, 3, 4)), expected)
    assert torch.equal(net(nn.Parameter(X)), expected)
    assert np.array_equal(net(X.view(50, 2, 2, 3).numpy()), expected.numpy())
    assert np.array_equal(net(X.numpy().astype(">f4")), expected.numpy())
    assert np.array_equal(net(np.asfortranarray(X.numpy())), expected.numpy())
    assert np.array_equal(net(X.numpy().astype(np.float16)), net(X.half()).numpy())
    frozen = X.numpy().copy()
    frozen.flags.writeable = False
    assert np.array_equal(net(frozen), expected.numpy())


def test_what_it_tells(net):
    text = str(net.explain())
    assert "12 → 16" in text
    assert "ReLU" in text
    assert net.explain()._repr_html_()
    assert net.nbytes > 12 * 16 + 16 * 4
    assert [layer.name for layer in net.layers] == ["0", "3"]
    assert net.layers[0].weight.dtype == np.int8
    assert repr(net).startswith("CompiledModel(12-16-4, int8 static")
    assert [c.layer for c in fm.changes(net)] == ["0", "3"]
    assert (net.in_features, net.out_features, net.takes_pixels) == (12, 4, False)


@pytest.mark.parametrize("kind", ["static", "affine", "dynamic"])
def test_it_holds_its_canonical_layers(kind):
    model = randomize(nn.Sequential(nn.BatchNorm1d(12), *mlp()) if kind == "affine" else mlp())
    config = fm.Dynamic() if kind == "dynamic" else fm.Static(X)
    q = fm.quantize(model, config)
    modules = [m.network() for m in q.modules() if hasattr(m, "network")]
    again = fm.compile(q).network
    assert modules[0].kind == again.kind == kind
    layers = [layer for network in modules for layer in network.layers]
    for a, b in zip(layers, again.layers, strict=True):
        assert np.array_equal(a.weight, b.weight)
        assert np.array_equal(a.weight_scale, b.weight_scale)
        assert np.array_equal(a.bias, b.bias)
        assert (a.name, a.clamp, a.input_scale, a.input_zero_point) == (
            b.name, b.clamp, b.input_scale, b.input_zero_point
        )  # fmt: skip


def test_pickle_deepcopy_and_torch_save(net):
    buffer = io.BytesIO()
    torch.save(net, buffer)
    buffer.seek(0)
    for again in (
        pickle.loads(pickle.dumps(net)),
        copy.deepcopy(net),
        copy.copy(net),
        torch.load(buffer, weights_only=False),
    ):
        assert torch.equal(again(X), net(X))
        # Not what explain() measures: that is another figure each time.
        assert again._plans == net._plans
        assert again.explain().columns == net.explain().columns


def test_it_depends_on_nothing_that_changes_later():
    q = fm.quantize(mlp(), fm.Static(X))
    net = fm.compile(q)
    expected = net(X)
    q.load_state_dict(
        {k: torch.zeros_like(v) if "bias" in k else v for k, v in q.state_dict().items()}
    )
    assert torch.equal(net(X), expected)
    assert not torch.equal(q(X), expected)


def test_many_threads_at_once(net):
    x = torch.randn(2000, 12)
    expected = net(x)
    barrier = threading.Barrier(8)

    def work(_):
        barrier.wait()
        return all(torch.equal(net(x), expected) for _ in range(10))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_thread_counts_change_nothing(net):
    x = torch.randn(3000, 12)
    expected = net(x)
    try:
        for count in (1, 2, 3, 7):
            fm.set_num_threads(count)
            assert fm.num_threads() == count
            assert torch.equal(net(x), expected)
    finally:
        fm.set_num_threads(0)


@pytest.mark.parametrize("count", [-1, 1025, 10**30])
def test_bad_thread_counts(count):
    with pytest.raises(ValueError, match="count: expected 1 to 1024, or 0"):
        fm.set_num_threads(count)
    with pytest.raises(TypeError, match="count: expected an integer, got float"):
        fm.set_num_threads(1.5)


def test_3d_inputs_are_flattened_rows_and_never_silently_wrong():
    """A module maps the last dimension; a compiled model takes whole rows."""
    q = fm.quantize(nn.Linear(4, 2), fm.Dynamic())
    x = torch.randn(5, 3, 4)
    assert q(x).shape == (5, 3, 2)
    with pytest.raises(ValueError, match=r"4"):
        fm.compile(q)(x)


class TableNet(nn.Module):
    """A norm for the columns, and layers in a container of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(12)
        self.net = nn.Sequential(nn.Linear(12, 16), nn.Sequential(nn.ReLU(), nn.Linear(16, 4)))

    def forward(self, x):
        return self.net(self.norm(x))


def test_what_is_compiled_has_one_way_in():
    """There norms and activations join layers of other containers; in modules they must not."""
    model = randomize(TableNet())
    for net in (fm.compile(model, X), fm.compile(model, dynamic=True)):
        assert (net(X) - model(X)).abs().max() < 0.1 * model(X).abs().max()
    assert fm.compile(model, X).network.kind == "affine"
    q = fm.quantize(model, fm.Static(X))
    rows = model.norm(X).detach()
    assert (q.net(rows) - model.net(rows)).abs().max() < 0.05
    assert torch.equal(fm.compile(q)(X), q(X))
    assert [step.kind for step in fm.compile(q).network.steps] == ["affine", "int8"]
