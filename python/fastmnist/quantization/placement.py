"""int8 layers put where the float ones were, each at its own path."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping

from torch import Tensor, nn

from fastmnist.display.callers import callers_level
from fastmnist.int8.network import NO_CLAMP, QuantizedLayer, QuantizedNetwork
from fastmnist.int8.quantizer import FloatLayer, InputRule, quantize_layer
from fastmnist.layers.batchnorm import zeros_for
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.kept import Kept, distinct_values, noted
from fastmnist.layers.linear import is_float_linear
from fastmnist.layers.quantized import QuantizedLinear
from fastmnist.quantization.configs import Dynamic, Static
from fastmnist.quantization.weight_bits import weight_rule
from fastmnist.rewriting.changes import LEFT, Change
from fastmnist.rewriting.selection import left_in_float, switch_off_transformer_fast_path
from fastmnist.rewriting.swapping import put

Quantizer = Callable[[nn.Linear, str, InputRule], QuantizedLayer]


def place(
    root: nn.Module, rules: Mapping[str, InputRule], quantizer: Quantizer, kind: str, why: str
) -> tuple[nn.Module, list[Change]]:
    """Replace layers of `root` by int8 ones; return the model and what was done.

    Parameters
    ----------
    rules : mapping
        By name of the layer: how its inputs become codes.
    quantizer : callable
        ``quantizer(layer, name, rule)`` makes the canonical layer.
    kind : {"static", "dynamic"}
    why : str
        Why the model cannot be traced; empty where it can.
    """
    why = why and f"the model cannot be traced ({why})"
    done: list[Change] = []
    for name, rule in rules.items():
        layer = root.get_submodule(name)
        assert is_float_linear(layer)
        quantized = quantizer(layer, name, rule)
        own = kind if rule.multiplier is None else "affine"
        network = QuantizedNetwork((quantized,), own, rule.multiplier, rule.offset, rule.pixels)
        has_bias = layer.bias is not None or bool(quantized.bias.any())
        follows_norm = isinstance(layer, FusedLinear) and layer.follows_norm
        made = QuantizedLinear(network, bias=has_bias, follows_norm=follows_norm)
        made.kept = noted(layer).holds_of(layer.weight.detach().numpy())
        _warn_of_merged_values(name, layer.weight, quantized, made.kept)
        root = put(root, name, made)
        done.append(Change(name, f"int8 {own}", after=_of_few_bits(quantized), why=why))
    switch_off_transformer_fast_path(root)
    return root, done


def _warn_of_merged_values(
    name: str, weight: Tensor, quantized: QuantizedLayer, kept: Kept
) -> None:
    """Say where values that clusters tell apart have become one code."""
    if kept.scope != "layer" or quantized.bits == 8:
        return
    before = distinct_values(weight.detach().numpy(), kept.scope)
    if quantized.values < before:
        warnings.warn(
            f"layer '{name}': its {before} clustered values became {quantized.values}, as "
            f"{quantized.bits} bits have {2**quantized.bits - 1} evenly spaced codes: leave "
            "weight_bits=8, with which every value keeps a code (files and kernels need no more "
            "than the indices anyway)",
            UserWarning,
            stacklevel=callers_level(),
        )


def _of_few_bits(layer: QuantizedLayer) -> str | None:
    """What to say of weights that have fewer than 8 bits."""
    return None if layer.bits >= 8 else f"weights of {layer.bits} bits"


def quantize_plain(config: Static | Dynamic) -> Quantizer:
    """Quantizer of layers that are not prepared: plain ones, and fused ones."""

    def quantizer(linear: nn.Linear, name: str, rule: InputRule) -> QuantizedLayer:
        clamp, function = NO_CLAMP, None
        if isinstance(linear, FusedLinear):
            clamp, function, (weight, bias) = linear.clamp, linear.function, linear.folded()
        else:
            weight = linear.weight.detach()
            bias = zeros_for(weight) if linear.bias is None else linear.bias.detach()
        layer = FloatLayer(name, weight.numpy(), bias.numpy(), clamp, function)
        own = weight_rule(config.weight_bits, config.per_channel, name, linear)
        return quantize_layer(layer, rule, own)

    return quantizer


def what_is_left(
    root: nn.Module, taken: Mapping[str, nn.Module], read: Collection[int], why: str
) -> list[Change]:
    """Say which layers stay in float, and why."""
    if "" in taken:
        return []  # the model is the layer
    left = left_in_float(root, taken, read, why)
    return [Change(name, LEFT, why=reason) for name, reason in left.items()]
