"""Post-training quantization: float Linear layers to int8, static or dynamic, or to 16 bits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fastmnist.attempts import quantize_itself, start, within
from fastmnist.configs import Config, Dynamic, Half, Static, check_config, check_half
from fastmnist.copies import check_module
from fastmnist.graph import is_linear
from fastmnist.recurrent import RECURRENT
from fastmnist.selection import Selected

__all__ = ["Dynamic", "Half", "Static", "quantize", "quantize_dynamic"]


def quantize(
    model: Any,
    config: Config,
    *,
    include: str | type | Iterable[str | type] | None = None,
    exclude: str | type | Iterable[str | type] | None = None,
    max_drop: float | None = None,
    data: Any = None,
    metric: Any = None,
) -> nn.Module:
    """Return a copy of `model` whose Linear layers run in int8, or in 16-bit floats.

    Linear layers are first fused with what follows them (:func:`fastmnist.fuse`). Where tracing
    shows a chain that is used only there, it becomes one module and one operator; elsewhere
    layers are swapped one by one, floats in and out. ``Dynamic`` and ``Half`` take LSTM and GRU
    too. :func:`fastmnist.changes` tells what was done, and which layers were left.

    Parameters
    ----------
    model : torch.nn.Module
        Any model with Linear layers, in any mode, on any device; left as it was.
    config : Static, Dynamic or Half
    include, exclude : str, type, or several of them
        Which layers: by name (or name of a module that holds some), glob pattern, or type of the
        layer or of a module that holds it. Default: all.
    max_drop : float, optional
        How much accuracy may be lost, in points (0.2 is from 97.7 % to 97.5 %); the layers that
        disturb the outputs most stay in float until that holds. With a `metric`, in its unit.
    data : optional
        To measure `max_drop` on, with targets; of a bundle, its test half. Default: the
        calibration data.
    metric : callable, optional
        ``metric(outputs, target)`` in place of accuracy, for `max_drop`; more is better.

    Returns
    -------
    torch.nn.Module
        Of the same class, on the CPU, in eval mode; parameters that stay float are frozen.

    Raises
    ------
    TypeError
        If `model` is no module or `config` no configuration.
    ValueError
        If there is no layer to quantize, calibration data is empty, never reaches a layer or holds
        NaN or infinity, a layer has weights that are not finite, or no layer can be quantized
        within `max_drop`.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Static(calibration=torch.rand(64, 1, 28, 28)))
    >>> [change.layer for change in fm.changes(q)][-3:]
    ['linear1', 'linear2', 'linear3']
    >>> q = fm.quantize(fm.NeuralNetwork(), fm.Dynamic(), exclude="linear3")
    """
    config = check_config(config)
    if max_drop is None and (data is not None or metric is not None):
        raise ValueError("data, metric: expected max_drop too, which they are for")
    attempt = start(model, config, include, exclude)
    if max_drop is None:
        return attempt.make([*attempt.layers])
    if isinstance(max_drop, bool) or not isinstance(max_drop, int | float):
        raise TypeError(f"max_drop: expected a number, got {type(max_drop).__name__}")
    if not 0 <= max_drop < float("inf"):
        raise ValueError(f"max_drop: expected 0 or more points, got {max_drop}")
    if data is None:
        data = config.calibration if isinstance(config, Static) else None
    if data is None:
        raise ValueError("data: expected data with targets to measure max_drop on, got None")
    # Who reads the calibration data knows how to read this.
    batch_fn = config.batch_fn if isinstance(config, Static) else None
    return within(check_module(model), attempt, float(max_drop), data, metric, batch_fn)


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
    qconfig_spec : set of types or names, or dict with such keys, optional
        Which layers: ``{nn.Linear, nn.LSTM, nn.GRU}``, or their names, or names of modules that
        hold them. None takes every Linear, LSTM and GRU; a dict's None leaves a layer out.
    dtype : torch.dtype, optional
        ``torch.qint8`` or ``torch.int8`` (the default): both are int8 weights, and activations
        quantized per row. ``torch.float16`` or ``torch.bfloat16``: weights and products in that.
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
    config: Dynamic | Half = Dynamic()
    if dtype is not None and str(dtype) not in ("torch.qint8", "torch.int8"):
        try:
            check_half(dtype)
        except ValueError:
            raise ValueError(
                f"dtype: expected torch.qint8, torch.int8, torch.float16 or torch.bfloat16, got "
                f"{dtype}"
            ) from None
        config = Half(dtype)
    if mapping is not None:
        raise ValueError(f"mapping: expected None, got {type(mapping).__name__}")
    if isinstance(qconfig_spec, dict):
        config = _of_values(qconfig_spec, config)
    selected = _of_spec(model, qconfig_spec)
    if not inplace:
        attempt = start(model, config, None, None, selected)
        return attempt.make([*attempt.layers])
    own = check_module(model)
    if is_linear(own) or isinstance(own, RECURRENT):
        raise ValueError("inplace: a single layer cannot change its class: use the returned module")
    return quantize_itself(own, config, selected)


def _of_values(spec: dict[Any, Any], config: Dynamic | Half) -> Dynamic | Half:
    """What the qconfigs of a spec ask for: int8, or all of them float16."""
    half = ["float16" in repr(value) for value in spec.values() if value is not None]
    if any(half) and not all(half):
        raise ValueError(
            "qconfig_spec: expected qconfigs of one kind, got int8 and float16: quantize one kind "
            "after the other"
        )
    return Half(torch.float16) if any(half) else config


def _of_spec(model: Any, spec: Any) -> Selected:
    if spec is None:
        return lambda name, layer: True
    if isinstance(spec, str | type) or not isinstance(spec, Iterable):
        raise TypeError(f"qconfig_spec: expected a set such as {{nn.Linear}}, got {spec!r}")
    without: set[Any] = set()
    if isinstance(spec, dict):
        without = {key for key, value in spec.items() if value is None}
    wanted = [entry for entry in spec if entry not in without]
    names = {entry for entry in wanted if isinstance(entry, str)}
    types = tuple(entry for entry in wanted if isinstance(entry, type))
    known = {name for name, _ in check_module(model).named_modules()}
    for entry in wanted:
        if isinstance(entry, str):
            if entry not in known:
                raise ValueError(f"qconfig_spec: the model has no module named '{entry}'")
        elif entry not in (nn.Linear, *RECURRENT):
            raise ValueError(
                f"qconfig_spec: expected nn.Linear, nn.LSTM, nn.GRU or names of modules, got "
                f"{entry!r}: only Linear, LSTM and GRU layers are quantized"
            )

    def selected(name: str, layer: nn.Module) -> bool:
        parts = name.split(".")
        above = {"", *(".".join(parts[:i]) for i in range(1, len(parts) + 1))}
        if above & without or type(layer) in without:
            return False
        return isinstance(layer, types) or bool(above & names)

    return selected
