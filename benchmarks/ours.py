"""The same networks by fastmnist: the first case is what all others are compared with."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

import fastmnist as fm
from benchmarks.peers.description import Case, Network, floats
from benchmarks.peers.torch_eager import chain, float_rows

LIBRARY = "fastmnist"


def our_cases(network: Network) -> list[Case]:
    """Build compiled calls on both kinds of rows, with and without `out=`, and both modules."""
    model = chain(network)
    calibration = torch.from_numpy(network.calibration)
    static = fm.quantize(model, fm.Static(calibration=calibration, mean=0.0, std=1.0))
    dynamic = fm.quantize(model, fm.Dynamic(mean=0.0, std=1.0))
    net = fm.compile(static)
    kinds: list[tuple[str, str, Any]] = [
        ("compiled, uint8 rows", "uint8", lambda p: partial(net, p)),
        ("compiled, uint8 rows, out=", "uint8", lambda p: _into(net, p)),
        ("compiled, float32 rows", "float32", lambda p: partial(net, floats(p))),
        ("compiled, float32 rows, out=", "float32", lambda p: _into(net, floats(p))),
        ("module, static int8", "float32", lambda p: partial(static, float_rows(p))),
        ("module, dynamic int8", "float32", lambda p: partial(dynamic, float_rows(p))),
    ]
    return [Case(f"{LIBRARY} {name}", LIBRARY, rows, prepare) for name, rows, prepare in kinds]


def _into(net: Any, x: Any) -> Any:
    # As people write it, and no partial, to which a keyword costs more.
    y = np.empty((len(x), net.out_features), np.float32)
    return lambda: net(x, out=y)


def compiled(network: Network) -> Any:
    """Return the compiled model alone."""
    calibration = torch.from_numpy(network.calibration)
    return fm.compile(chain(network), calibration, mean=0.0, std=1.0)
