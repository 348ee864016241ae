"""Every kernel that reads a layer against the reference, on guarded arrays."""

from __future__ import annotations

import numpy as np
from guard import Edge, guarded, guarded_empty
from oracle import RandomLayer, assert_same_bits

from fastmnist import _core


def check_kernels(
    layer: RandomLayer,
    rows: int,
    edge: Edge,
    seed: int,
    forms: list[str],
    *,
    zeros: float = 0.0,
    what: object = "",
) -> set[str]:
    """Compare the kernels of the layer packed in `forms`, to floats and to codes; give their names.

    That share of the inputs, `zeros`, is 0 in all rows.
    """
    rng = np.random.default_rng(seed)
    outputs, inputs = layer.weight.shape
    drawn = rng.integers(0, 256, (rows, inputs), dtype=np.uint8)
    if zeros:
        drawn[:, rng.random(inputs) < zeros] = 0
    codes = guarded(drawn, edge)
    packed = guarded(_core.pack([layer.native], "static", forms=[forms]), edge)
    per_row = bool(seed % 2)
    scale = rng.uniform(0.001, 0.1, rows if per_row else 1).astype(np.float32)
    zero_point = rng.integers(0, 256, len(scale)).astype(np.int32)
    names = set()
    for dtype in (np.float32, np.uint8):
        expected = np.zeros((rows, outputs), dtype)
        _core.reference_linear(layer.native, codes, scale, zero_point, expected, 0.02, 5)
        codes_out = dtype is np.uint8
        for kernel in _core.layer_kernels(packed, 0, rows, codes_out, per_row and rows > 1):
            out = guarded_empty((rows, outputs), dtype, edge)
            _core.linear(codes, packed, scale, zero_point, out, 0.02, 5, False, kernel)
            assert_same_bits(out, expected, (kernel, rows, inputs, outputs, what))
            names.add(kernel.name)
    return names
