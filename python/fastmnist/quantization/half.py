"""Layers of 16-bit floats put where the float32 ones were."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from fastmnist.layers.half import HalfLinear, HalfRecurrent, _name
from fastmnist.rewriting.changes import Change
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.selection import call_their_layers, chains_of
from fastmnist.rewriting.swapping import swap


def place_half(
    root: nn.Module,
    layers: Mapping[str, nn.Linear],
    recurrent: Mapping[str, nn.RNNBase],
    dtype: torch.dtype,
) -> list[Change]:
    """Convert the layers of `root`; return what was done.

    Raises
    ------
    ValueError
        Naming the layer with a weight that float16 cannot hold.
    """
    largest = torch.finfo(dtype).max
    for name, layer in {**layers, **recurrent}.items():
        for key, parameter in layer.named_parameters(recurse=False):
            if not bool((parameter.detach().abs() <= largest).all()):
                raise ValueError(
                    f"layer '{name}': expected values of at most {largest:g} in its {key}, the "
                    f"largest of {dtype}: use torch.bfloat16, or leave the layer in float with "
                    f"exclude=['{name}']"
                )
    graph, _ = Graph.of(root)
    done = []
    for chain in chains_of(graph, layers):
        for name in chain:
            HalfLinear.convert(layers[name], dtype, hands_over=name != chain[-1])
            done.append(Change(name, _name(dtype)))
    for name, module in recurrent.items():
        swap(root, name, HalfRecurrent(module, dtype))
        done.append(Change(name, _name(dtype)))
    call_their_layers(root)
    return done
