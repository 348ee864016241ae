"""torch.ops.fastmnist: what torch demands of an operator, and the same bits as _core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracle import KINDS, Kind, RandomNetwork, assert_same_bits, random_layer, random_network

from fastmnist import _core, _ops
from fastmnist.int8.sparse_encoding import encode

OPS = torch.ops.fastmnist
FEATURES, OUTPUTS = 21, 18


@pytest.fixture(scope="module")
def network() -> RandomNetwork:
    return random_network(1, (FEATURES, 33, OUTPUTS), pixels=True)


@pytest.fixture(scope="module")
def packed(network: RandomNetwork) -> torch.Tensor:
    return torch.from_numpy(network.packed)


@pytest.fixture(scope="module")
def layer() -> torch.Tensor:
    layer = random_layer(np.random.default_rng(0), FEATURES, OUTPUTS)
    return torch.from_numpy(_core.pack([layer.native], "static"))


def floats(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def codes(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))


SHAPES = [
    (1, FEATURES),
    (7, FEATURES),
    (0, FEATURES),
    (2, 3, FEATURES),
    (FEATURES,),
    (0, 4, FEATURES),
]


def strided(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(2, dim=-1)[..., ::2]


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, strided])
def test_opcheck(layer: torch.Tensor, packed: torch.Tensor, shape: Any, layout: Any) -> None:
    x, q = layout(floats(*shape)), layout(codes(*shape))
    torch.library.opcheck(OPS.quantize, (x, 0.02, 128))
    torch.library.opcheck(OPS.dequantize, (q, 0.02, 128))
    torch.library.opcheck(OPS.linear, (q, layer, OUTPUTS))
    torch.library.opcheck(OPS.linear_u8, (q, layer, OUTPUTS, 0.1, 3))
    torch.library.opcheck(OPS.mlp, (x, packed, OUTPUTS))
    torch.library.opcheck(OPS.mlp, (q, packed, OUTPUTS))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, strided])
def test_quantize_and_dequantize(isa: str, shape: Any, layout: Any) -> None:
    x = layout(floats(*shape))
    plain = np.ascontiguousarray(x.numpy())
    expected = np.zeros(shape, np.uint8)
    _core.quantize(plain, 0.02, 100, expected)
    got = OPS.quantize(x, 0.02, 100)
    assert_same_bits(got.numpy(), expected)
    back = np.zeros(shape, np.float32)
    _core.dequantize(expected, 0.02, 100, back)
    assert_same_bits(OPS.dequantize(layout(got), 0.02, 100).numpy(), back)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, strided])
def test_linear(isa: str, shape: Any, layout: Any) -> None:
    layer = random_layer(np.random.default_rng(0), FEATURES, OUTPUTS)
    packed = _core.pack([layer.native], "static")
    q = codes(*shape)
    flat = q.reshape(-1, FEATURES).numpy()
    quantizer = (
        np.full(1, layer.input_scale, np.float32),
        np.full(1, layer.input_zero_point, np.int32),
    )
    expected = np.zeros((len(flat), OUTPUTS), np.float32)
    _core.linear(flat, packed, *quantizer, expected)
    got = OPS.linear(layout(q), torch.from_numpy(packed), OUTPUTS)
    assert got.shape == (*shape[:-1], OUTPUTS)
    assert_same_bits(got.reshape(-1, OUTPUTS).numpy(), expected)
    expected_codes = np.zeros((len(flat), OUTPUTS), np.uint8)
    _core.linear(flat, packed, *quantizer, expected_codes, 0.1, 3)
    got = OPS.linear_u8(layout(q), torch.from_numpy(packed), OUTPUTS, 0.1, 3)
    assert_same_bits(got.reshape(-1, OUTPUTS).numpy(), expected_codes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_mlp(isa: str, kind: Kind, shape: Any) -> None:
    network = random_network(2, (FEATURES, 33, OUTPUTS), kind, pixels=True)
    model, packed = _core.Model(network.packed), torch.from_numpy(network.packed)
    for x in (floats(*shape), strided(floats(*shape)), codes(*shape), strided(codes(*shape))):
        got = _ops.mlp(x, packed, OUTPUTS)
        assert got.shape == (*shape[:-1], OUTPUTS)
        expected = model(x.reshape(-1, FEATURES))
        assert_same_bits(got.reshape(-1, OUTPUTS).numpy(), expected.numpy())


def test_views_and_subclasses(packed: torch.Tensor, network: RandomNetwork) -> None:
    x = floats(5, FEATURES)
    expected = network.expected(x.numpy())
    assert_same_bits(_ops.mlp(torch._neg_view(-x), packed, OUTPUTS).numpy(), expected)
    assert_same_bits(_ops.mlp(torch.nn.Parameter(x), packed, OUTPUTS).detach().numpy(), expected)
    conjugated = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert_same_bits(_ops.mlp(conjugated, packed, OUTPUTS).numpy(), expected)
    rows = torch.vmap(lambda row: _ops.mlp(row[None], packed, OUTPUTS)[0])(x)
    assert_same_bits(rows.numpy(), expected)


# What a C++ exception becomes on its way through torch depends on torch's version.
ERRORS = (RuntimeError, ValueError)


def raises(message: str, op: Any, *arguments: Any) -> None:
    with pytest.raises(ERRORS, match=message):
        op(*arguments)


def test_wrong_types(packed: torch.Tensor, layer: torch.Tensor) -> None:
    x, q = floats(2, FEATURES), codes(2, FEATURES)
    raises("x: expected a tensor of float32,", OPS.quantize, x.double(), 0.1, 0)
    raises("q: expected a tensor of uint8", OPS.dequantize, x, 0.1, 0)
    raises("codes: expected a tensor of uint8", OPS.linear, x, layer, OUTPUTS)
    raises("codes: expected a tensor of uint8", OPS.linear_u8, x, layer, OUTPUTS, 0.1, 0)
    raises("packed: expected a tensor of uint8", OPS.linear, q, layer.int(), OUTPUTS)
    for wrong in (x.double(), x.half(), x.int(), x.to(torch.int8), x > 0, x.to(torch.complex64)):
        raises("x: expected a tensor of float32 or uint8", OPS.mlp, wrong, packed, OUTPUTS)
    raises("SparseCPU", OPS.mlp, x.to_sparse(), packed, OUTPUTS)


def test_wrong_sizes(packed: torch.Tensor, layer: torch.Tensor) -> None:
    x, q = floats(2, FEATURES), codes(2, FEATURES)
    raises(f"x: expected rows of {FEATURES} values, got 20", OPS.mlp, x[:, 1:], packed, OUTPUTS)
    raises(f"x: expected rows of {FEATURES} values, got 20", OPS.linear, q[:, 1:], layer, OUTPUTS)
    raises("a single number", OPS.mlp, torch.tensor(1.0), packed, OUTPUTS)
    raises(f"out_features: expected {OUTPUTS}, got 7", OPS.mlp, x, packed, 7)
    raises(f"out_features: expected {OUTPUTS}, got -1", OPS.linear, q, layer, -1)
    raises("packed: not a packed network", OPS.mlp, x, packed[:-1], OUTPUTS)
    raises("packed: not a packed network", OPS.mlp, x, packed[:0], OUTPUTS)
    raises("packed: expected a contiguous tensor", OPS.mlp, x, strided(packed), OUTPUTS)


def test_wrong_quantizers(layer: torch.Tensor) -> None:
    x, q = floats(2, FEATURES), codes(2, FEATURES)
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e-40, 1e300):
        raises("scale: expected a finite, normal, positive", OPS.quantize, x, scale, 0)
        raises("scale: expected a finite, normal, positive", OPS.dequantize, q, scale, 0)
        raises("scale: expected", OPS.linear_u8, q, layer, OUTPUTS, scale, 0)
    for zero_point in (-1, 256, 2**40):
        raises("zero_point: expected 0 to 255", OPS.quantize, x, 0.1, zero_point)
        raises("zero_point: expected 0 to 255", OPS.linear_u8, q, layer, OUTPUTS, 0.1, zero_point)


def test_wrong_networks(packed: torch.Tensor) -> None:
    q = codes(2, FEATURES)
    raises("packed: expected one layer with a static input scale", OPS.linear, q, packed, OUTPUTS)
    dynamic = torch.from_numpy(random_network(3, (FEATURES, OUTPUTS), "dynamic").packed)
    raises("packed: expected one layer with a static input scale", OPS.linear, q, dynamic, OUTPUTS)
    raises("does not know what a uint8 pixel stands for", OPS.mlp, q, dynamic, OUTPUTS)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile(packed: torch.Tensor, backend: str, dynamic: bool) -> None:
    def function(x: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
        return _ops.mlp(x.flatten(1), packed, OUTPUTS).softmax(-1) + 1

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend, dynamic=dynamic)
    for rows in (1, 5, 9):
        x = floats(rows, 3, 7)
        assert torch.equal(compiled(x, packed), function(x, packed))


def test_export(packed: torch.Tensor) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("packed", packed)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return _ops.mlp(x, self.packed, OUTPUTS)

    x = floats(4, FEATURES)
    batch = torch.export.Dim("batch")
    program = torch.export.export(Net(), (x,), dynamic_shapes={"x": {0: batch}})
    other = floats(9, FEATURES)
    assert torch.equal(program.module()(other), Net()(other))


def sparse_layer(share: float = 0.9) -> tuple[Any, tuple[Any, ...]]:
    """Make a layer, and what pack_sparse takes of it."""
    rng = np.random.default_rng(2)
    layer = random_layer(rng, 300, 40)
    layer.weight[rng.random(layer.weight.shape) < share] = 0
    encoded = encode(layer.weight)
    assert encoded is not None
    tensors = [encoded.bitmask, encoded.values, layer.weight_scale, layer.bias]
    bitmask, values, scale, bias = (torch.from_numpy(np.ascontiguousarray(t)) for t in tensors)
    quantizer = (layer.input_scale, layer.input_zero_point)
    return layer, (bitmask, values, 300, scale, bias, *layer.bounds, *quantizer)


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_sparse_layers_from_their_encoding(isa: str, share: float) -> None:
    layer, arguments = sparse_layer(share)
    packed = OPS.pack_sparse(*arguments)
    x = codes(9, 300)
    dense = torch.from_numpy(_core.pack([layer.native], "static", forms=[[]]))
    for rows in (1, 2, 9):
        expected = OPS.linear(x[:rows], dense, 40)
        assert torch.equal(OPS.linear(x[:rows], packed, 40), expected)
        expected = OPS.linear_u8(x[:rows], dense, 40, 0.02, 3)
        assert torch.equal(OPS.linear_u8(x[:rows], packed, 40, 0.02, 3), expected)
    torch.library.opcheck(OPS.pack_sparse, arguments)
    torch.library.opcheck(OPS.linear, (x, packed, 40))


def test_sparse_layers_under_compile() -> None:
    _, arguments = sparse_layer()

    def function(x: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
        return torch.ops.fastmnist.linear(x, packed, 40).relu()

    packed, x = OPS.pack_sparse(*arguments), codes(3, 300)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, packed), function(x, packed))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.zeros(40, 37, dtype=torch.uint8), "bitmask: expected 40 rows of 38 bytes"),
        (0, torch.zeros(40, 38, dtype=torch.uint8), "values: expected 0"),
        (0, torch.zeros(40, 38), "bitmask: expected a tensor of uint8"),
        (1, torch.zeros(3, dtype=torch.int8), "values: expected"),
        (1, torch.zeros(3), "values: expected a tensor of int8"),
        (2, 0, "in_features"),
        (2, 70_000, "in_features"),
        (2, 299, "behind the end"),
        (3, torch.ones(39), "bitmask: expected 39 rows"),
        (3, torch.ones(0), "weight_scale: expected one scale per output"),
        (0, torch.zeros(38, 40, dtype=torch.uint8), "bitmask: expected 40 rows of 38 bytes"),
        (0, torch.zeros(1520, dtype=torch.uint8), "bitmask: expected 40 rows of 38 bytes"),
        (1, torch.zeros(3, 1, dtype=torch.int8), "values: expected one dimension"),
        (4, torch.ones(0), "bias: expected 40"),
        (5, float("nan"), "clamp"),
        (7, 0.0, "scale"),
        (8, 256, "zero_point"),
    ],
)
def test_wrong_encodings(place: int, value: Any, message: str) -> None:
    layer, arguments = sparse_layer()
    changed = [*arguments]
    if message == "behind the end":  # a weight at the very end of a row
        layer.weight[3, 299] = 1
        encoded = encode(layer.weight)
        assert encoded is not None
        changed[:2] = [torch.from_numpy(encoded.bitmask), torch.from_numpy(encoded.values)]
    changed[place] = value
    raises(message, OPS.pack_sparse, *changed)
