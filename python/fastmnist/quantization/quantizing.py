"""Post-training quantization: float Linear layers to int8, static or dynamic, or to 16 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from fastmnist.data.batch import BatchFn
from fastmnist.measuring.metrics import MetricLike
from fastmnist.quantization.configs import Config, Static, check_config
from fastmnist.quantization.posttraining import data_to_measure_on, post_training
from fastmnist.rewriting.selection import Names
from fastmnist.rewriting.transform import transformed


def quantize(
    model: Any,
    config: Config,
    *,
    include: Names = None,
    exclude: Names = None,
    inplace: bool = False,
    example: Any = None,
    max_drop: float | None = None,
    data: Any = None,
    metric: MetricLike = None,
    greater_is_better: bool | None = None,
    batch_fn: BatchFn | None = None,
) -> nn.Module:
    """Return a copy of `model` whose Linear layers run in int8, or in 16-bit floats.

    Linear layers are first fused with what follows them (see :func:`fastmnist.fuse`; int8 layers
    also with other activation modules, such as GELU). Then each is replaced, at its own path, by a
    layer with float inputs and outputs. Separate activations, norms and softmax use the kernels of
    compiled networks, so that both give the same bits. Every entry point of the model
    (``model[:-1]``, ``model.encode(x)``, hooks) keeps working. Only :func:`fastmnist.compile`
    combines layers into one call. ``Dynamic`` and ``Half`` also take LSTM, GRU and RNN, ``Dynamic``
    their cells too. :func:`fastmnist.changes` lists what was done, and which layers were skipped.

    Parameters
    ----------
    model : torch.nn.Module
        Any model with Linear layers, in any mode, on any device; left unchanged.
    config : Static, Dynamic or Half
    include, exclude : str, type, or sequence of them
        Which layers: by name, glob pattern or type, of the layer or of a module that contains it.
        Default: all.
    inplace : bool
        Change `model` itself, and return it; unquantized parts stay the same objects.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows on which original and result are compared. Default: the first rows of the calibration
        data.
    max_drop : float, optional
        How much accuracy may be lost, in points (0.2: from 97.7 % to 97.5 %); the layers that
        disturb the outputs most stay in float until the limit is met. For another metric, how much
        worse it may become, in its own unit (0.02 of an MAE: from 0.10 to 0.12).
    data : optional
        Data with targets to measure `max_drop` on; for a bundle, its test half. Default: the
        calibration data.
    metric, greater_is_better
        As for :func:`fastmnist.evaluate`, for `max_drop`; for your own function, give the
        direction. Default: accuracy if the targets are classes, R² if they are other floats.
    batch_fn : callable, optional
        Converts batches of `data` and of the calibration data. Default: that of `config`.

    Returns
    -------
    torch.nn.Module
        Of the same class, on the CPU, in eval mode; parameters that stay float are frozen.

    Raises
    ------
    TypeError
        If `model` is not a module or `config` is not a configuration.
    ValueError
        If there is no layer to quantize; calibration data is empty, never reaches a layer, or
        contains NaN or infinity; weights are not finite; no layer can be quantized within
        `max_drop`; the model's forward behaves differently with int8 layers; or the ``check`` of
        `config` fails.

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
        raise ValueError("data, metric: expected beside max_drop= alone, got none: give it too")
    if isinstance(config, Static):
        # Who reads the one knows how to read the other.
        batch_fn = batch_fn or config.batch_fn
        config = replace(config, batch_fn=config.batch_fn or batch_fn)
    return transformed(
        model,
        post_training(config),
        include=include,
        exclude=exclude,
        inplace=inplace,
        example=example,
        check=config.check,
        max_drop=max_drop,
        metric=metric,
        data=None if max_drop is None else data_to_measure_on(config, data),
        greater_is_better=greater_is_better,
        batch_fn=batch_fn,
    )
