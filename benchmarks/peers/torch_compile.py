"""torch.compile in float32. Compiles anew for every batch size, which takes a while."""

from __future__ import annotations

from functools import partial

import torch

from benchmarks.peers.description import Case, Network
from benchmarks.peers.torch_eager import chain, float_rows


def cases(network: Network) -> list[Case]:
    """Build the one case there is."""
    model = torch.compile(chain(network))
    return [
        Case("torch.compile float32", "torch", "float32", lambda p: partial(model, float_rows(p)))
    ]
