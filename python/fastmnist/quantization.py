"""Post-training quantization: float Linear layers to int8, static or dynamic."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastmnist.applied import Change, record
from fastmnist.batches import carried_pixels, data_pixels
from fastmnist.calibration import input_rule, observe
from fastmnist.calls import Identity
from fastmnist.canonical import NO_CLAMP, QuantizedNetwork
from fastmnist.copies import bake, check_module, move_hooks, plain_copy
from fastmnist.folding import FloatLayer, InputRule, quantize_layer
from fastmnist.fusion import fuse_in_place
from fastmnist.graph import Graph, is_linear
from fastmnist.modules import FusedLinear, QuantizedChain
from fastmnist.pixels import PixelNormalization, model_pixels, set_model_pixels
from fastmnist.selection import (
    chains_of,
    check_there_is_something,
    input_layers,
    quantizable,
    selection,
)


@dataclass(frozen=True)
class Static:
    """Scales fixed beforehand, from calibration data (min–max).

    Parameters
    ----------
    calibration : Data, Half, DataLoader, Dataset, (x, y) or tensor
        Rows like those that the model will see; of a bundle, its training half. uint8 rows, rows
        that are all k/255, or any rows where `mean` and `std` are given, are pixels: the model
        then takes uint8 rows too, and gives the same bits for both.
    mean, std : float or sequence of float, optional
        What a pixel ``p`` stands for: ``(p/255 - mean)/std``, as for torchvision's Normalize.
    max_samples : int
        Calibration stops there.
    per_feature : bool, optional
        Whether the model's input gets a scale of its own per feature (table columns of different
        size). None: where a BatchNorm1d leads.
    batch_fn : callable, optional
        Reads a batch of `calibration` that is not one of the usual kinds.
    """

    calibration: Any
    mean: Any = None
    std: Any = None
    max_samples: int = 512
    per_feature: bool | None = None
    batch_fn: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Dynamic:
    """Scales per row, from the row's own range at every layer: no calibration.

    Parameters
    ----------
    mean, std : float or sequence of float, optional
        What a pixel ``p`` of a uint8 row stands for: ``(p/255 - mean)/std``. Not needed for
        models that :func:`fastmnist.train` trained on pixels, which remember it; without either,
        uint8 rows are refused.
    """

    mean: Any = None
    std: Any = None


def quantize(model: Any, config: Static | Dynamic) -> nn.Module:
    """Return a copy of `model` whose Linear layers run in int8.

    Linear layers are first fused with what follows them (:func:`fastmnist.fuse`). Where tracing
    shows a chain that is used only there, it becomes one module and one operator; elsewhere
    layers are swapped one by one, floats in and out. :func:`fastmnist.changes` tells which.

    Parameters
    ----------
    model : torch.nn.Module
        Any model with Linear layers, in any mode, on any device; left as it was.
    config : Static or Dynamic

    Returns
    -------
    torch.nn.Module
        Of the same class, on the CPU, in eval mode; parameters that stay float are frozen.

    Raises
    ------
    TypeError
        If `model` is no module or `config` no configuration.
    ValueError
        If there is no Linear layer to quantize, calibration data is empty, never reaches a layer
        or holds NaN or infinity, or a layer has weights that are not finite.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Static(calibration=torch.rand(64, 1, 28, 28)))
    >>> [change.layer for change in fm.changes(q)][-3:]
    ['linear1', 'linear2', 'linear3']
    """
    return _quantize(model, _check_config(config), lambda name, layer: True)


def quantize_dynamic(
    model: Any,
    qconfig_spec: Iterable[Any] | None = None,
    dtype: Any = None,
    mapping: Any = None,
    inplace: bool = False,
) -> nn.Module:
    """``torch.ao.quantization.quantize_dynamic``, with the same signature.

    Parameters
    ----------
    model : torch.nn.Module
    qconfig_spec : set of types or names, optional
        Which layers: ``{nn.Linear}``, or their names, or names of modules that hold them. None
        takes every Linear.
    dtype : torch.dtype, optional
        ``torch.qint8`` or ``torch.int8`` (the default): both are int8 weights.
    mapping : None
        Accepted for the signature; must be None.
    inplace : bool
        Change `model` itself instead of a copy, and return it.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    TypeError, ValueError
        As :func:`quantize`; also for a dtype or a type of layer that cannot be quantized.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> q = fm.quantize_dynamic(fm.NeuralNetwork(), {torch.nn.Linear}, dtype=torch.qint8)
    """
    # By name: torch.qint8 itself goes away with torch.ao.quantization.
    if dtype is not None and str(dtype) not in ("torch.qint8", "torch.int8"):
        raise ValueError(f"dtype: expected torch.qint8 or torch.int8, got {dtype}")
    if mapping is not None:
        raise ValueError(f"mapping: expected None, got {type(mapping).__name__}")
    result = _quantize(model, Dynamic(), selection(model, qconfig_spec))
    if not inplace:
        return result
    own = check_module(model)
    if is_linear(own):
        raise ValueError(
            "inplace: a single Linear cannot change its class: use the returned module"
        )
    own.__dict__.update(result.__dict__)
    return own


def _check_config(config: Any) -> Static | Dynamic:
    if not isinstance(config, Static | Dynamic):
        got = f"the class {config.__name__}" if isinstance(config, type) else type(config).__name__
        raise TypeError(
            f"config: expected Static(calibration=...) or Dynamic(), got {got}: for example "
            "fm.quantize(model, fm.Dynamic())"
        )
    if isinstance(config, Static):
        if config.calibration is None:
            raise ValueError(
                "calibration: expected data (a few hundred rows like those the model will see), "
                "got None: give some, or use Dynamic()"
            )
        if isinstance(config.max_samples, bool) or not isinstance(config.max_samples, int):
            raise TypeError(
                f"max_samples: expected an int, got {type(config.max_samples).__name__}"
            )
        if config.max_samples < 1:
            raise ValueError(f"max_samples: expected at least 1, got {config.max_samples}")
    return config


def _quantize(
    model: Any, config: Static | Dynamic, selected: Callable[[str, nn.Module], bool]
) -> nn.Module:
    root = plain_copy(model)
    explicit = _explicit_pixels(config)
    known = explicit or model_pixels(root)
    if is_linear(root):
        holder = nn.Sequential(root)
        _quantize_in_place(holder, config, known, explicit, lambda name, layer: selected("", layer))
        result: nn.Module = holder[0]
        record(result, [Change("", f"int8 {_word(config)}")])
    else:
        done = _quantize_in_place(root, config, known, explicit, selected)
        result = root
        record(result, done)
    if explicit is not None:
        set_model_pixels(result, explicit)
    # Else the outputs of layers that stay in float, as before a quantized head, would want
    # gradients that cannot flow.
    return result.requires_grad_(False)


def _quantize_in_place(
    root: nn.Module,
    config: Static | Dynamic,
    known: PixelNormalization | None,
    explicit: PixelNormalization | None,
    selected: Callable[[str, nn.Module], bool],
) -> list[Change]:
    bake(root)
    check_there_is_something(root)
    done = fuse_in_place(root)
    graph, why_not = Graph.of(root)
    layers = {name: layer for name, layer in quantizable(root).items() if selected(name, layer)}
    if not layers:
        raise ValueError(
            "model: expected a Linear layer to quantize among those selected, got none"
        )
    layers = {name: m for name, m in layers.items() if graph is None or id(m) not in graph.read}
    if not layers:
        raise ValueError(
            "model: expected a Linear layer to quantize, got only such whose weights forward reads "
            "itself: call the layers instead"
        )
    chains = chains_of(graph, layers)
    if isinstance(config, Static):
        rules = _static_rules(root, layers, config, known, explicit)
    else:
        rules = {name: InputRule() for name in layers}
        for name in input_layers(graph, layers):
            rules[name] = InputRule(pixels=known)
    for chain in chains:
        network = _network(chain, layers, rules, _word(config))
        done += _put(root, graph, chain, network, why_not)
    return done


def _word(config: Static | Dynamic) -> str:
    return "static" if isinstance(config, Static) else "dynamic"


def _explicit_pixels(config: Static | Dynamic) -> PixelNormalization | None:
    if config.mean is None and config.std is None:
        return None
    mean = 0.0 if config.mean is None else config.mean
    return PixelNormalization.of(mean, 1.0 if config.std is None else config.std)


def _static_rules(
    root: nn.Module,
    layers: dict[str, nn.Module],
    config: Static,
    known: PixelNormalization | None,
    explicit: PixelNormalization | None,
) -> dict[str, InputRule]:
    # What is certain: given, carried by the data, or uint8 rows. Floats from elsewhere are checked.
    certain = explicit or carried_pixels(config.calibration)
    if certain is None and data_pixels(config.calibration) is not None:
        certain = known or data_pixels(config.calibration)
    identity = PixelNormalization()
    candidates = [identity] if known in (None, identity) else [known, identity]
    observers, pixels = observe(
        root,
        layers,
        config.calibration,
        pixels=certain,
        candidates=[c for c in candidates if c is not None],
        max_samples=config.max_samples,
        batch_fn=config.batch_fn,
    )
    return {
        name: input_rule(observers[name], layer, pixels, config.per_feature)
        for name, layer in layers.items()
    }


def _network(
    chain: list[str], layers: dict[str, nn.Module], rules: dict[str, InputRule], word: str
) -> QuantizedNetwork:
    quantized = []
    for name in chain:
        linear = layers[name]
        assert isinstance(linear, nn.Linear)
        bias = linear.bias.detach() if linear.bias is not None else torch.zeros(linear.out_features)
        clamp = linear.clamp if isinstance(linear, FusedLinear) else NO_CLAMP
        layer = FloatLayer(name, linear.weight.detach().numpy(), bias.numpy(), clamp)
        quantized.append(quantize_layer(layer, rules[name]))
    first = rules[chain[0]]
    kind = "affine" if first.multiplier is not None else word
    return QuantizedNetwork(tuple(quantized), kind, first.multiplier, first.offset, first.pixels)


def _put(
    root: nn.Module,
    graph: Graph | None,
    chain: list[str],
    network: QuantizedNetwork,
    why_not: str,
) -> list[Change]:
    module = QuantizedChain(network)
    first = root.get_submodule(chain[0])
    move_hooks(first, module)
    for name, other in [*root.named_modules(remove_duplicate=False)]:
        if other is first:
            root.set_submodule(name, module)
    for name in chain[1:]:
        root.set_submodule(name, Identity().eval())
    kind = f"int8 {network.kind}"
    if len(chain) > 1:
        start = Change(chain[0], f"{kind}, one operator for {', '.join(chain)}")
        return [start, *(Change(name, f"{kind}, in {chain[0]}'s operator") for name in chain[1:])]
    why = f", alone: the model cannot be traced ({why_not})" if graph is None else ", alone"
    return [Change(chain[0], f"{kind}{why}")]
