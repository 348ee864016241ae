"""The last of the three steps: prepared layers become int8."""

from __future__ import annotations

from typing import Any

from torch import nn

from fastmnist.int8.quantizer import InputRule
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.pixels import model_pixels, set_model_pixels
from fastmnist.quantization.calibration import check_all_observed
from fastmnist.quantization.placement import place
from fastmnist.quantization.prepared import drop_inputs, prepared_layers
from fastmnist.rewriting.changes import Change, record
from fastmnist.rewriting.copies import (
    check_module,
    plain_copy,
    rehearsed,
)
from fastmnist.rewriting.graph import Graph
from fastmnist.rewriting.masks import bake
from fastmnist.rewriting.selection import (
    left_in_float,
)
from fastmnist.rewriting.swapping import freeze


def convert(model: Any, *, inplace: bool = False) -> nn.Module:
    """Make a prepared model int8.

    Parameters
    ----------
    model : torch.nn.Module
        What :func:`prepare` or :func:`prepare_qat` returned, after it was run or trained.
    inplace : bool
        Change `model` itself, and return it.

    Returns
    -------
    torch.nn.Module
        Of the model's class, on the CPU, in eval mode, as :func:`fastmnist.quantize` returns it.

    Raises
    ------
    TypeError
        If `model` is no module.
    ValueError
        If it was never prepared, or a layer of it never saw data.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> prepared = fm.prepare(fm.NeuralNetwork())
    >>> logits = prepared(torch.rand(16, 784))
    >>> fm.convert(prepared)(torch.rand(2, 784)).shape
    torch.Size([2, 10])
    """
    own = check_module(model)
    layers = prepared_layers(own)
    if not layers:
        raise ValueError(
            "model: expected a model that fm.prepare or fm.prepare_qat returned, got one with no "
            "prepared layer: both return a copy, which is the one to run and convert (or use "
            "inplace=True)"
        )
    check_all_observed(layers, None)
    if inplace and isinstance(own, SimulatedLinear):
        raise ValueError(
            "inplace: a single Linear cannot change its class: use the returned module"
        )

    def change(root: nn.Module) -> nn.Module:
        return convert_in_place(root.cpu().float().eval())

    return rehearsed(own, change) if inplace else change(plain_copy(own))


def convert_in_place(root: nn.Module, excluded: str = "excluded") -> nn.Module:
    """Convert a prepared float32 CPU model itself; a single layer comes back as another module.

    `excluded` says why layers that are not prepared stay in float.
    """
    drop_inputs(root)
    bake(root)
    if isinstance(root, SimulatedLinear):
        holder = nn.Sequential(root)
        root.name = ""
        _convert_layers(holder, excluded)
        result: nn.Module = holder[0]
        record(result, [Change("", "int8 static")])
        pixels = model_pixels(root)
        if pixels is not None:
            set_model_pixels(result, pixels)
        return freeze(result)
    record(root, _convert_layers(root, excluded))
    return freeze(root)


def _convert_layers(root: nn.Module, excluded: str) -> list[Change]:
    layers = prepared_layers(root)
    rules = {name: layer.input_rule() for name, layer in layers.items()}

    def quantizer(layer: nn.Linear, name: str, rule: InputRule) -> Any:
        assert isinstance(layer, SimulatedLinear)
        return layer.quantized(rule)

    left = left_in_float(root, layers, Graph.of(root)[0], excluded)
    done = [Change(name, f"left in float: {why}") for name, why in left.items()]
    return done + place(root, layers, rules, quantizer, "static")
