"""Neurons taken out of a layer, of what normalizes it, and of the layers that read it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastmnist.layers.batchnorm import RowNorm
from fastmnist.layers.plain import mark_resized
from fastmnist.pruning.flow import Flow, constants
from fastmnist.rewriting.masks import apply_masks


def shrink(flow: Flow, rows: Tensor, name: str) -> None:
    """Keep these neurons of the layer that is called `name`."""
    kept = len(rows)
    _slice(flow.layer, ("weight", "bias"), 0, rows)
    flow.layer.out_features = kept
    for norm in flow.norms:
        _slice(norm, ("weight", "bias", "running_mean", "running_var"), 0, rows)
        norm.num_features = kept
        RowNorm.of(norm, name)
    for reader, _ in flow.readers:
        _slice(reader, ("weight",), 1, rows)
        reader.in_features = kept


def move_constants(flow: Flow, dead: Tensor) -> dict[nn.Linear, Tensor]:
    """Move what neurons without weights give into the biases of the layers that read them.

    Returns, for each layer where that could be done, the neurons.
    """
    moved: dict[nn.Linear, Tensor] = {}
    if not dead.any():
        return moved
    values = constants(flow)
    for reader, step in flow.readers:
        if reader.bias is None:
            continue
        gone = reader.weight[:, dead].double() @ values[step][0, dead].double()
        if not torch.isfinite(gone).all():
            continue
        bias = reader._parameters.get("bias")
        bias = reader._parameters["bias_orig"] if bias is None else bias
        assert bias is not None
        bias.copy_((bias.double() + gone).float())
        apply_masks(reader)
        moved[reader] = dead
    return moved


def _slice(module: nn.Module, names: tuple[str, ...], dim: int, kept: Tensor) -> None:
    """Keep some rows or columns of parameters and buffers, under their masks too."""
    for name in names:
        for key in (name, f"{name}_orig"):
            parameter = module._parameters.get(key)
            if parameter is not None:
                smaller = parameter.detach().index_select(dim, kept)
                module._parameters[key] = nn.Parameter(smaller, parameter.requires_grad)
        for key in (name, f"{name}_mask"):
            buffer = module._buffers.get(key)
            if buffer is not None:
                module._buffers[key] = buffer.index_select(dim, kept)
    mark_resized(module)
    apply_masks(module)
