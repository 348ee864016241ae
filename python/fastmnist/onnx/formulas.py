"""What ONNX has no operator for, or only a newer opset has: formulas of older ones.

Each is a list. The exporter writes the first; the importer finds all: the others are how torch's
exporters and others write the same. Formulas are those of ``torch.nn``'s documentation; that of
rows by their own range is the "dynamic" rule of ``int8/reference.py``, operation by operation.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmnist.onnx.expressions import C, Number, Op, X, op

_x = X()
_ROOT2 = math.sqrt(2)
_FLT_MIN = float(np.finfo(np.float32).tiny)


def _gelus() -> list[Op]:
    made = []
    for inner in (op("Div", _x, _ROOT2), op("Mul", _x, 1 / _ROOT2)):
        share = op("Add", op("Erf", inner), 1)
        made += [
            op("Mul", op("Mul", _x, 0.5), share),
            op("Mul", op("Mul", _x, share), 0.5),
            op("Mul", _x, op("Mul", share, 0.5)),
        ]
    return made


def _tanh_gelus() -> list[Op]:
    cubes = (
        op("Mul", _x, op("Mul", _x, _x)),
        op("Mul", op("Mul", _x, _x), _x),
        op("Pow", _x, 3),
    )
    made = []
    for cube in cubes:
        inner = op("Mul", op("Add", _x, op("Mul", cube, 0.044715)), math.sqrt(2 / math.pi))
        share = op("Add", op("Tanh", inner), 1)
        made += [
            op("Mul", op("Mul", _x, 0.5), share),
            op("Mul", op("Mul", _x, share), 0.5),
            op("Mul", _x, op("Mul", share, 0.5)),
        ]
    return made


def _layer_norms() -> list[Op]:
    made = []
    over = {"axes": (-1,), "keepdims": 1}
    centered = op("Sub", _x, op("ReduceMean", _x, **over))
    for square in (op("Mul", centered, centered), op("Pow", centered, 2)):
        spread = op("Sqrt", op("Add", op("ReduceMean", square, **over), C("epsilon")))
        normal = op("Div", centered, spread)
        made += [op("Add", op("Mul", normal, C("weight")), C("bias")), normal]
    return made


ACTIVATIONS: dict[str, list[Op]] = {
    "silu": [op("Mul", _x, op("Sigmoid", _x))],
    "log_sigmoid": [
        op("Neg", op("Softplus", op("Neg", _x))),
        op("Log", op("Sigmoid", _x)),
    ],
    "mish": [op("Mul", _x, op("Tanh", op("Softplus", _x)))],
    "gelu": _gelus(),
    "gelu_tanh": _tanh_gelus(),
    "hardswish": [
        op("Mul", _x, op("HardSigmoid", _x, alpha=1 / 6, beta=0.5)),
        op("Div", op("Mul", _x, op("Clip", op("Add", _x, 3), 0, 6)), 6),
        op("Mul", _x, op("Div", op("Clip", op("Add", _x, 3), 0, 6), 6)),
    ],
    "hardsigmoid": [op("Div", op("Clip", op("Add", _x, 3), 0, 6), 6)],
    "softsign": [op("Div", _x, op("Add", op("Abs", _x), 1))],
    # beta and threshold, as torch has them
    "softplus": [
        op(
            "Where",
            op("Greater", op("Mul", _x, C("p0")), C("p1")),
            _x,
            op("Div", op("Softplus", op("Mul", _x, C("p0"))), C("p0")),
        )
    ],
    # factors of positive values, of expm1 and of its argument
    "elu": [
        op(
            "Add",
            op("Mul", op("Relu", _x), C("p0")),
            op("Mul", op("Elu", op("Mul", op("Min", _x, 0), C("p2"))), C("p1")),
        )
    ],
}
LAYER_NORMS = _layer_norms()

# What a uint8 pixel p stands for: (p/255 - mean)/std, p/255, or p.
_real = op("Cast", X("pixels"), to=1)
_share = op("Div", _real, 255)
PIXELS = [op("Div", op("Sub", _share, C("mean")), C("std")), _share, _real]

# Rows to codes, a multiplier and an offset for each feature.
AFFINE_CODES = op(
    "QuantizeLinear",
    op("Add", op("Mul", _x, C("multiplier")), C("offset")),
    1,
    Number(0, "uint8"),
)


def _by_row() -> tuple[Op, Op, Op]:
    """Codes of rows that are quantized by their own range, and each row's scale and zero point."""
    rows = {"axes": (-1,), "keepdims": 1}
    low = op("Min", op("ReduceMin", _x, **rows), 0)
    high = op("Max", op("ReduceMax", _x, **rows), 0)
    width = op("Sub", op("Div", high, 255), op("Div", low, 255))
    usable = op("Not", op("Less", width, _FLT_MIN))
    scale = op("Where", usable, width, 1)
    inverse = op("Div", Number(1), scale)
    point = op("Clip", op("Round", op("Mul", op("Neg", low), inverse)), 0, 255)
    zero_point = op("Where", usable, point, 0)
    shifted = op("Add", op("Round", op("Mul", _x, inverse)), zero_point)
    codes = op("Cast", op("Clip", shifted, 0, 255), to=2)
    return codes, scale, zero_point


_codes, _scale, _zero_point = _by_row()
_sums = op(
    "Sub",
    op("MatMulInteger", _codes, C("weight")),
    op("Mul", op("Cast", _zero_point, to=6), C("sums")),
)
_product = op("Mul", op("Cast", _sums, to=1), op("Mul", _scale, C("weight_scale")))
# A layer whose rows have a scale and a zero point each; with a bias, and without.
DYNAMIC = [op("Add", _product, C("bias")), _product]


def parameters_of(filled: dict[str, Any]) -> tuple[float, float, float] | None:
    """The parameters of an activation that was found; None where one is no single number."""
    found = [filled.get(f"p{i}", np.float32(0)) for i in range(3)]
    if any(np.size(value) != 1 for value in found):
        return None
    p0, p1, p2 = (float(np.reshape(value, ())) for value in found)
    return p0, p1, p2
