"""The last of the three steps: prepared layers become int8."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from fastmnist.fusion.functions import fuse_functions
from fastmnist.int8.network import QuantizedLayer
from fastmnist.int8.quantizer import InputRule
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.quantization.calibration import check_all_observed, warn_of_ranges_apart
from fastmnist.quantization.placement import place, what_is_left
from fastmnist.quantization.prepared import drop_inputs, prepared_layers, rows_seen
from fastmnist.rewriting.changes import Change
from fastmnist.rewriting.copies import check_module
from fastmnist.rewriting.graph import Traces
from fastmnist.rewriting.masks import make_permanent
from fastmnist.rewriting.swapping import freeze
from fastmnist.rewriting.transform import Transform, transformed


def convert(
    model: Any, *, inplace: bool = False, example: Any = None, check: float | None = None
) -> nn.Module:
    """Convert a prepared model to int8.

    Parameters
    ----------
    model : torch.nn.Module
        The result of :func:`prepare` or :func:`prepare_qat`, after running or training it.
    inplace : bool
        Change `model` itself, and return it.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows on which the prepared model and the result are compared. Default: the first rows that
        it saw.
    check : float, optional
        Minimum signal-to-noise ratio of the result's outputs there, in dB. Default: that of the
        configuration, else warn below 15.

    Returns
    -------
    torch.nn.Module
        Of the model's class, on the CPU, in eval mode, as :func:`fastmnist.quantize` returns it.

    Raises
    ------
    TypeError
        If `model` is not a module.
    ValueError
        If it was never prepared, or a layer never saw data.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> prepared = fm.prepare(fm.NeuralNetwork())
    >>> logits = prepared(torch.rand(16, 784))
    >>> fm.convert(prepared)(torch.rand(2, 784)).shape
    torch.Size([2, 10])
    """
    own = check_module(model)
    if check is None:
        layers = prepared_layers(own).values()
        check = next((layer.settings.check for layer in layers), None)
    how = _Conversion()
    how.rows = rows_seen(own)
    return transformed(model, how, inplace=inplace, example=example, check=check)


class _Conversion(Transform):
    """What :func:`convert` does."""

    def find(self, root: nn.Module) -> dict[str, nn.Module]:
        layers = prepared_layers(root)
        if not layers:
            raise ValueError(
                "model: expected a model that fm.prepare or fm.prepare_qat returned, got one with "
                "no prepared layer: both return a copy, which is the one to run and convert (or "
                "use inplace=True)"
            )
        check_all_observed(layers, None)
        warn_of_ranges_apart(root, layers)
        return {**layers}

    def apply(
        self, root: nn.Module, names: Collection[str], why: str
    ) -> tuple[nn.Module, list[Change]]:
        drop_inputs(root)
        make_permanent(root)
        layers = prepared_layers(root)
        rules = {name: layer.final_rule() for name, layer in layers.items()}
        dynamic = {name: rules.pop(name) for name, layer in layers.items() if layer.dynamic}

        def quantizer(layer: nn.Linear, name: str, rule: InputRule) -> QuantizedLayer:
            assert isinstance(layer, SimulatedLinear)
            return layer.quantized(rule)

        traces = Traces.of(root)
        left = what_is_left(root, layers, traces.read, why)
        result, done = place(root, rules, quantizer, "static", traces.why_not)
        result, more = place(result, dynamic, quantizer, "dynamic", traces.why_not)
        return freeze(result), [*left, *done, *more, *fuse_functions(result)]
