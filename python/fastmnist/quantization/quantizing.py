"""Post-training quantization: float Linear layers to int8, static or dynamic, or to 16 bits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from fastmnist.quantization.budget import within
from fastmnist.quantization.configs import Config, Dynamic, Half, Static, check_config
from fastmnist.quantization.dynamic import quantize_dynamic
from fastmnist.quantization.makers import start
from fastmnist.rewriting.copies import check_module

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
