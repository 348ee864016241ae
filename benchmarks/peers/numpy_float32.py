"""NumPy in float32: matrix products of its BLAS, and what follows them in place."""

from __future__ import annotations

from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.peers.description import F32, Case, Network, floats


def cases(network: Network) -> list[Case]:
    """Build the one case there is."""
    threadpool_limits(network.threads, user_api="blas")  # until the process ends
    layers = [
        (np.ascontiguousarray(layer.weight.T), layer.bias, layer.relu) for layer in network.layers
    ]

    def run(x: F32) -> F32:
        for weight, bias, relu in layers:
            x = x @ weight
            x += bias
            if relu:
                np.maximum(x, 0, out=x)
        return x

    return [Case("NumPy float32", "NumPy", "float32", lambda p: partial(run, floats(p)))]
