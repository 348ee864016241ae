"""torchao in eager mode: int8 weights, activations quantized row by row."""

from __future__ import annotations

import logging
import warnings
from functools import partial

from benchmarks.peers.description import Case, Network
from benchmarks.peers.torch_eager import chain, float_rows


def cases(network: Network) -> list[Case]:
    """Build the one case there is."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # it tells of GPU extensions that it does not find
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

            model = chain(network)
            quantize_(model, Int8DynamicActivationInt8WeightConfig())
    finally:
        logging.disable(before)
    return [
        Case("torchao dynamic int8", "torchao", "float32", lambda p: partial(model, float_rows(p)))
    ]
