"""torch in eager mode: float32, and bfloat16, which its CPUs with AMX are fastest in."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from benchmarks.peers.description import U8, Case, Network, floats


def chain(network: Network) -> nn.Sequential:
    """Return the network as torch modules, in eval mode."""
    modules: list[nn.Module] = []
    for layer in network.layers:
        linear = nn.Linear(layer.inputs, layer.outputs)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(layer.weight))
            linear.bias.copy_(torch.from_numpy(layer.bias))
        modules += [linear, nn.ReLU()] if layer.relu else [linear]
    return nn.Sequential(*modules).eval()


def float_rows(pixels: U8) -> torch.Tensor:
    """Return what pixels stand for, as a tensor."""
    return torch.from_numpy(floats(pixels))


def cases(network: Network) -> list[Case]:
    """Build float32 and bfloat16."""
    model, half = chain(network), chain(network).bfloat16()
    return [
        Case("torch eager float32", "torch", "float32", lambda p: partial(model, float_rows(p))),
        Case(
            "torch eager bfloat16",
            "torch",
            "bfloat16",
            lambda p: partial(half, float_rows(p).bfloat16()),
        ),
    ]
