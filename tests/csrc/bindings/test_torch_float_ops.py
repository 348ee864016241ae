"""torch.ops.fastmnist on floats: what torch demands of operators, and the kernels' bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from oracle import assert_same_bits

from fastmnist import _core, _ops
from fastmnist.int8 import reference_functions
from fastmnist.int8.activation import Activation, selu

OPS = torch.ops.fastmnist
SHAPES = [(1, 5), (7, 33), (0, 5), (2, 3, 17), (20,), (0, 4, 5), (300, 257)]
GELU = Activation("gelu").number


def floats(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32) * 3)


def strided(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(2, dim=-1)[..., ::2]


def rows_of(x: torch.Tensor) -> Any:
    return np.ascontiguousarray(x.numpy()).reshape(-1, x.shape[-1])


@pytest.mark.slow
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, strided])
def test_opcheck(layout: Any) -> None:
    for shape in ((2, 3, 7), (5,), (0, 4)):
        x, w, b = layout(floats(*shape)), floats(shape[-1]), floats(shape[-1])
        torch.library.opcheck(OPS.activate, (x, GELU))
        torch.library.opcheck(OPS.activate, (x, *selu().arguments))
        torch.library.opcheck(OPS.softmax, (x, True))
        torch.library.opcheck(OPS.layer_norm, (x, w, b, 1e-5))
        torch.library.opcheck(OPS.layer_norm, (x, None, None, 1e-5))
        torch.library.opcheck(OPS.affine, (x, w, b))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, strided])
def test_the_kernels_bits(isa: str, shape: Any, layout: Any) -> None:
    x = layout(floats(*shape))
    weight, bias = floats(shape[-1]), floats(shape[-1]) + 1
    w, b, rows = weight.numpy(), bias.numpy(), rows_of(x)
    s = selu()
    assert_same_bits(
        _ops.activate(x, s.number, *s.parameters).numpy(),
        reference_functions.activate(rows, s).reshape(shape),
    )
    assert_same_bits(
        _ops.softmax(x, False).numpy(), reference_functions.softmax(rows).reshape(shape)
    )
    assert_same_bits(
        _ops.softmax(x, True).numpy(), reference_functions.log_softmax(rows).reshape(shape)
    )
    for mine, theirs in (((weight, bias), (w, b)), ((weight, None), (w, None)), ((None,) * 2,) * 2):
        expected = reference_functions.layer_norm(rows, *theirs, 1e-5)
        assert_same_bits(_ops.layer_norm(x, *mine, 1e-5).numpy(), expected.reshape(shape))
    expected = reference_functions.affine(rows, w, b)
    assert_same_bits(_ops.affine(x, weight, bias).numpy(), expected.reshape(shape))
    for activation in (s, Activation("gelu"), Activation("softplus", (2, 20, 0))):
        whole = _ops.activate(x, activation.number, *activation.parameters)
        assert torch.equal(_ops.activate_eager(x, *activation.arguments), whole)


def test_tables_of_a_sample() -> None:
    x, table = floats(6, 3, 5), floats(3, 5)
    expected = reference_functions.affine(x.numpy(), table.numpy(), table.numpy() + np.float32(1))
    assert_same_bits(_ops.affine(x, table, table + 1).numpy(), expected)


def test_no_result_depends_on_threads() -> None:
    x = floats(513, 129)
    weight = floats(129)
    results = []
    try:
        for threads in (1, 4):
            _core.set_num_threads(threads)
            results.append(
                [
                    _ops.activate(x, GELU, 0.0, 0.0, 0.0),
                    _ops.softmax(x, False),
                    _ops.layer_norm(x, weight, None, 1e-5),
                    _ops.affine(x, weight, weight),
                ]
            )
    finally:
        _core.set_num_threads(0)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


# What a C++ exception becomes on its way through torch depends on torch's version.
ERRORS = (RuntimeError, ValueError)


def raises(message: str, op: Any, *arguments: Any) -> None:
    with pytest.raises(ERRORS, match=message):
        op(*arguments)


def test_what_is_refused() -> None:
    x, w = floats(2, 5), floats(5)
    wide = floats(6)
    raises("x: expected a tensor of float32, got float64", OPS.activate, x.double(), 3, 0, 0, 0)
    raises("function: expected a number from 0 to 13, got 14", OPS.activate, x, 14, 0, 0, 0)
    raises("function: expected a number from 0 to 13, got -1", OPS.activate, x, -1, 0, 0, 0)
    raises("p1: expected a finite float32", OPS.activate, x, 2, 1.0, float("nan"), 1.0)
    raises("p0: expected a finite float32", OPS.activate, x, 1, 1e39, 0, 0)
    raises("p2: expected a positive factor", OPS.activate, x, 2, 1.0, 1.0, 0.0)
    raises("p0: expected a beta of softplus other than 0", OPS.activate, x, 11, 0.0, 20.0, 0.0)
    raises("x: expected rows of values, got a single number", OPS.softmax, torch.tensor(1.0), True)
    raises("weight: expected 5 values, as x has in a row", OPS.layer_norm, x, wide, None, 1e-5)
    raises("bias: expected a tensor of float32", OPS.layer_norm, x, w, w.double(), 1e-5)
    for epsilon in (-1.0, float("nan"), 1e300):
        raises("epsilon: expected a finite number, 0 or more", OPS.layer_norm, x, w, w, epsilon)
    raises(r"multiplier: expected a size in which x's ends, \[2, 5\]", OPS.affine, x, wide, wide)
    raises(r"offset: expected the size of multiplier, \[5\], got \[6\]", OPS.affine, x, w, wide)
    raises("multiplier: expected a size", OPS.affine, x, torch.tensor(1.0), torch.tensor(1.0))


def test_tensors_of_no_memory_among_others_are_refused() -> None:
    x, w = floats(2, 5), floats(5)
    meta = w.to("meta")
    raises("weight: expected a tensor on 'cpu', as the rows are", OPS.layer_norm, x, meta, w, 1e-5)
    raises("bias: expected a tensor on 'cpu', as the rows are", OPS.layer_norm, x, None, meta, 1e-5)
    raises("multiplier: expected a tensor on 'cpu'", OPS.affine, x, meta, meta)
    raises("offset: expected a tensor on 'cpu'", OPS.affine, x, w, meta)


def test_compile() -> None:
    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        y = _ops.layer_norm(_ops.affine(x, w, w), w, None, 1e-5)
        return _ops.softmax(_ops.activate(y, GELU, 0.0, 0.0, 0.0), False) + 1

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=True)
    w = floats(7)
    for rows in (1, 5, 9):
        x = floats(rows, 7)
        assert torch.equal(compiled(x, w), function(x, w))
