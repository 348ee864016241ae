"""Quantized layers put where the float ones were: chains as one module, single layers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from fastmnist.int8.network import NO_CLAMP, QuantizedLayer, QuantizedNetwork
from fastmnist.int8.quantizer import FloatLayer, InputRule, quantize_layer
from fastmnist.layers.batchnorm import zeros_for
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.quantized import QuantizedChain
from fastmnist.layers.quiet import Identity
from fastmnist.rewriting.changes import Change
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.hooks import move_hooks
from fastmnist.rewriting.selection import call_their_layers, chains_of
from fastmnist.rewriting.swapping import swap

Quantizer = Callable[[nn.Linear, str, InputRule], QuantizedLayer]


def place(
    root: nn.Module,
    layers: Mapping[str, nn.Linear],
    rules: Mapping[str, InputRule],
    quantizer: Quantizer,
    word: str,
) -> list[Change]:
    """Replace `layers` of `root` by quantized ones; return what was done.

    Parameters
    ----------
    rules : mapping
        How each layer's inputs become codes.
    quantizer : callable
        ``quantizer(layer, name, rule)`` makes the canonical layer.
    word : {"static", "dynamic"}
    """
    graph, why_not = Graph.of(root)
    done: list[Change] = []
    for chain in chains_of(graph, layers):
        quantized = tuple(quantizer(layers[name], name, rules[name]) for name in chain)
        first = rules[chain[0]]
        kind = "affine" if first.multiplier is not None else word
        network = QuantizedNetwork(quantized, kind, first.multiplier, first.offset, first.pixels)
        done += _put(root, graph, chain, network, why_not)
    call_their_layers(root)
    return done


def quantize_plain(per_channel: bool) -> Quantizer:
    """Quantizer of layers that are not prepared: plain ones, and fused ones."""

    def quantizer(linear: nn.Linear, name: str, rule: InputRule) -> QuantizedLayer:
        clamp = NO_CLAMP
        if isinstance(linear, FusedLinear):
            clamp, (weight, bias) = linear.clamp, linear.folded()
        else:
            weight = linear.weight.detach()
            bias = zeros_for(weight) if linear.bias is None else linear.bias.detach()
        layer = FloatLayer(name, weight.numpy(), bias.numpy(), clamp)
        return quantize_layer(layer, rule, per_channel)

    return quantizer


def _put(
    root: nn.Module,
    graph: Graph | None,
    chain: list[str],
    network: QuantizedNetwork,
    why_not: str,
) -> list[Change]:
    module = QuantizedChain(network)
    move_hooks(root.get_submodule(chain[0]), module)
    swap(root, chain[0], module)
    for name in chain[1:]:
        swap(root, name, Identity().eval())
    kind = f"int8 {network.kind}"
    if len(chain) > 1:
        start = Change(chain[0], f"{kind}, one operator for {', '.join(chain)}")
        return [start, *(Change(name, f"{kind}, in {chain[0]}'s operator") for name in chain[1:])]
    why = f", alone: the model cannot be traced ({why_not})" if graph is None else ", alone"
    return [Change(chain[0], f"{kind}{why}")]
