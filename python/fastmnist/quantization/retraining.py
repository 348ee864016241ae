"""Quantized layers back to float ones, so that a quantized model can be trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fastmnist.int8.network import QuantizedNetwork
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.quantized import QuantizedChain
from fastmnist.layers.quiet import Identity
from fastmnist.pixels import PixelNormalization
from fastmnist.rewriting.swapping import swap


@dataclass
class Again:
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


def make_trainable(root: nn.Module) -> Again:
    """Replace every quantized chain of `root` by float layers of the same real weights.

    What quantizing froze may be trained again.
    """
    again = Again()
    chains = {n: m for n, m in root.named_modules() if isinstance(m, QuantizedChain)}
    for path, chain in chains.items():
        if not path:
            raise ValueError(
                "model: expected a model that holds quantized layers, got a single one: put it "
                "into an nn.Sequential"
            )
        network = chain.network()
        names = [layer.name for layer in network.layers]
        layers = _float_layers(network, chain.training)
        at_home = names[0] == path and all(_is_free(root, name) for name in names[1:])
        if at_home:
            for name, layer in zip(names, layers, strict=True):
                swap(root, name, layer)
        else:
            swap(root, path, layers[0] if len(layers) == 1 else nn.Sequential(*layers))
            names = [path] if len(layers) == 1 else [f"{path}.{i}" for i in range(len(layers))]
        if network.kind != "dynamic":
            again.ranges.update(_ranges(network, names))
            again.pixels = again.pixels or network.pixels
    if chains:
        root.requires_grad_(True)
    return again


def _is_free(root: nn.Module, name: str) -> bool:
    try:
        return type(root.get_submodule(name)) is Identity
    except AttributeError:
        return False


def _float_layers(network: QuantizedNetwork, training: bool) -> list[FusedLinear]:
    layers = []
    for i, quantized in enumerate(network.layers):
        weight = torch.from_numpy(quantized.weight).double()
        weight = weight * torch.from_numpy(quantized.weight_scale).double()[:, None]
        bias = torch.from_numpy(quantized.bias).double()
        differ = False
        if i == 0 and network.multiplier is not None and network.offset is not None:
            multiplier = torch.from_numpy(network.multiplier).double()
            offset = torch.from_numpy(network.offset).double()
            # As folding.quantize_layer folds: columns where the layer has no scale of its own.
            weight = weight * multiplier if quantized.input_scale == 1.0 else weight
            bias = bias + weight @ (offset / multiplier)
            differ = network.pixels is None
        layer = FusedLinear(quantized.inputs, quantized.outputs, quantized.clamp, differ)
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        layers.append(layer.train(training))
    return layers


def _ranges(network: QuantizedNetwork, names: list[str]) -> dict[str, tuple[Tensor, Tensor, bool]]:
    ranges = {}
    for i, (name, layer) in enumerate(zip(names, network.layers, strict=True)):
        lo = torch.full((layer.inputs,), float(-layer.input_zero_point) * layer.input_scale)
        hi = torch.full((layer.inputs,), float(255 - layer.input_zero_point) * layer.input_scale)
        if i == 0 and network.multiplier is not None and network.offset is not None:
            multiplier = torch.from_numpy(network.multiplier)
            offset = torch.from_numpy(network.offset)
            lo, hi = -offset / multiplier, (255 - offset) / multiplier
        is_input = i == 0 and (network.pixels is not None or network.kind == "affine")
        ranges[name] = (lo, hi, is_input)
    return ranges
