"""Quantized layers back to float ones, so that a quantized model can be trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from fastmnist.int8.network import QuantizedNetwork
from fastmnist.layers.clusters import cluster_as_it_is
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.kept import Kept
from fastmnist.layers.linear import is_int8_linear
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.pixels import PixelNormalization
from fastmnist.rewriting.kept_weights import keep_weight
from fastmnist.rewriting.selection import named_layers
from fastmnist.rewriting.swapping import swap


@dataclass
class EarlierQuantization:
    """What is known of a model that was quantized before.

    Attributes
    ----------
    pixels : PixelNormalization or None
    ranges : dict
        By layer: smallest and largest value per feature, and whether it is given the model's
        own input. Static layers only.
    """

    pixels: PixelNormalization | None = None
    ranges: dict[str, tuple[Tensor, Tensor, bool]] = field(default_factory=dict)


def make_trainable(root: nn.Module) -> EarlierQuantization:
    """Replace every quantized layer of `root` by a float one of the same real weights.

    What quantizing froze may be trained again; zeros that pruning made, and values that weights
    share, stay.
    """
    earlier = EarlierQuantization()
    layers = {n: m for n, m in named_layers(root) if is_int8_linear(m)}
    for path, layer in layers.items():
        if not path:
            raise ValueError(
                "model: expected a model that holds quantized layers, got a single one: put it "
                "into an nn.Sequential"
            )
        network = layer.network()
        made = _float_layer(layer, network)
        _keep(made, layer.kept)
        swap(root, path, made)
        if network.kind != "dynamic":
            earlier.ranges[path] = _range(network)
            earlier.pixels = earlier.pixels or network.pixels
    if layers:
        root.requires_grad_(True)
    return earlier


def _float_layer(layer: QuantizedLinear, network: QuantizedNetwork) -> FusedLinear:
    weight = torch.from_numpy(network.layers[0].weight).double()
    weight = weight * torch.from_numpy(network.layers[0].weight_scale).double()[:, None]
    bias = torch.from_numpy(network.layers[0].bias).double()
    differ = False
    if network.multiplier is not None and network.offset is not None:
        multiplier = torch.from_numpy(network.multiplier).double()
        offset = torch.from_numpy(network.offset).double()
        # As int8.quantizer folds: columns where the layer has no scale of its own.
        weight = weight * multiplier if network.layers[0].input_scale == 1.0 else weight
        bias = bias + weight @ (offset / multiplier)
        differ = network.pixels is None
    made = FusedLinear(network.inputs, network.outputs, layer.clamp, differ)
    made.function = layer.function
    made.follows_norm, made.name = layer.follows_norm, layer.name
    with torch.no_grad():
        made.weight.copy_(weight)
        if layer.bias is None:
            made.bias = None
        else:
            made.bias.copy_(bias)
    return made.train(layer.training)


def _keep(made: FusedLinear, kept: Kept) -> None:
    """Let zeros of pruning, and shared values, outlast the training that follows."""
    kept = kept.holds_of(made.weight.detach().numpy())
    if kept.scope:
        cluster_as_it_is(made, kept.scope)
    elif kept.zeros:
        prune.custom_from_mask(made, "weight", (made.weight != 0).to(torch.float32))
    if kept != Kept():
        keep_weight(made)


def _range(network: QuantizedNetwork) -> tuple[Tensor, Tensor, bool]:
    layer = network.layers[0]
    scale = float(layer.input_scale)
    lo = torch.full((layer.inputs,), -layer.input_zero_point * scale, dtype=torch.float32)
    hi = torch.full((layer.inputs,), (255 - layer.input_zero_point) * scale, dtype=torch.float32)
    if network.multiplier is not None and network.offset is not None:
        multiplier = torch.from_numpy(network.multiplier)
        offset = torch.from_numpy(network.offset)
        lo, hi = -offset / multiplier, (255 - offset) / multiplier
    return lo, hi, network.pixels is not None or network.kind == "affine"
