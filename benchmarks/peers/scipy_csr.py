"""SciPy: float32 weights in compressed sparse rows, as people who know their zeros would do it."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.peers.description import F32, U8, Call, Case, Network, floats


def cases(network: Network) -> list[Case]:
    """Build it."""
    layers = [
        (sparse.csr_matrix(layer.weight), layer.bias[:, None], layer.relu)
        for layer in network.layers
    ]
    return [Case("SciPy CSR float32", "SciPy", "float32", partial(_prepare, layers))]


def _prepare(layers: Any, pixels: U8) -> Call:
    # Columns beforehand: its product takes them so.
    return partial(_run, layers, np.ascontiguousarray(floats(pixels).T))


def _run(layers: Any, x: F32) -> F32:
    for weight, bias, relu in layers:
        x = weight @ x
        x += bias
        if relu:
            np.maximum(x, 0, out=x)
    return x.T
