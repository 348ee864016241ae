"""Neurons of int8 networks that no output depends on: left out, not a bit changes. Free of torch.

    weights all 0, its output's code is the next layer's zero point     adds nothing there
    no layer reads it: the next layer's weights for it are all 0        adds nothing either

Both are sums of integers, so that what is left gives the same sums. A neuron that gives another
constant would have to go into a bias, whose rounding differs: it stays. In dynamic networks, where
a row's scale is made of all its values, only neurons that give 0 can go.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fastmnist.int8 import reference, reference_functions
from fastmnist.int8.network import QuantizedLayer, QuantizedNetwork

_Mask = npt.NDArray[np.bool_]


def without_empty_neurons(network: QuantizedNetwork) -> QuantizedNetwork:
    """The same network without such neurons; every layer keeps one neuron at least.

    Inputs and outputs of the network stay.
    """
    layers = [*network.layers]
    is_dynamic = network.kind == "dynamic"
    while True:
        found = [_empty(a, b, is_dynamic) for a, b in pairwise(layers)]
        if not any(empty.any() for empty in found):
            return replace(network, layers=tuple(layers))
        for i, empty in enumerate(found):
            if empty.any():
                layers[i] = _with_outputs(layers[i], ~empty)
                layers[i + 1] = _with_inputs(layers[i + 1], ~empty)


def _empty(layer: QuantizedLayer, reader: QuantizedLayer, is_dynamic: bool) -> _Mask:
    constant = (layer.weight == 0).all(axis=1)
    given = np.clip(layer.bias, *np.array(layer.clamp, np.float32))
    if layer.function is not None:
        given = reference_functions.activate(given, layer.function)
    if is_dynamic:
        empty: _Mask = constant & (given == 0)
    else:
        codes = reference.quantize(given, reader.input_scale, reader.input_zero_point)
        nothing = codes == reader.input_zero_point
        empty = (constant & nothing) | (reader.weight == 0).all(axis=0)
    if empty.all():
        empty[0] = False
    return empty


def _with_outputs(layer: QuantizedLayer, left: _Mask) -> QuantizedLayer:
    parts = {name: getattr(layer, name)[left] for name in ("weight", "weight_scale", "bias")}
    return replace(layer, **parts)


def _with_inputs(layer: QuantizedLayer, left: _Mask) -> QuantizedLayer:
    zeros = None if layer.input_zeros is None else layer.input_zeros[left]
    return replace(layer, weight=np.ascontiguousarray(layer.weight[:, left]), input_zeros=zeros)
