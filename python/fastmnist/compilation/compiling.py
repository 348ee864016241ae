"""From a module to one native call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fastmnist.compilation.builder import CALL_IT_AS_IT_IS, USE_THE_MODULE
from fastmnist.compilation.graphs import Reading, as_model, read
from fastmnist.compilation.running import tensors_of
from fastmnist.fusion.fusing import fuse_closed
from fastmnist.int8.graph import NetworkGraph
from fastmnist.layers.linear import is_int8_linear, is_known_linear
from fastmnist.layers.registry import kind_of
from fastmnist.pixels import PixelNormalization, model_pixels
from fastmnist.quantization.configs import Dynamic, Static, check_config, pixels_of
from fastmnist.quantization.posttraining import post_training
from fastmnist.rewriting.changes import keep_recipe_text, recipe_text
from fastmnist.rewriting.copies import check_module
from fastmnist.rewriting.selection import check_not_prepared
from fastmnist.rewriting.transform import transformed
from fastmnist.rewriting.verify import Rows
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.planning import plan_mode, using

# Relative root mean square errors, see _check_answers.
_MOST_APART, _MOST_APART_IN_FLOAT = 0.25, 1e-3


def compile(
    model: Any,
    calibration: Any = None,
    *,
    dynamic: bool = False,
    mean: Any = None,
    std: Any = None,
    pixels: str | None = None,
    max_samples: int = 512,
    batch_fn: Callable[[Any], Any] | None = None,
    example: Any = None,
    plan: str | None = None,
) -> CompiledModel:
    """Turn a model into one native call.

    Parameters
    ----------
    model : torch.nn.Module
        A quantized model, or a float one. With `calibration` or ``dynamic=True`` a float model is
        quantized first; with neither it stays float32. Its forward may be a chain or a small graph
        of Linear layers, activations (ReLU, ReLU6, Hardtanh, LeakyReLU, PReLU, ELU, CELU, SELU,
        GELU, SiLU, Mish, Hardswish, Hardsigmoid, Sigmoid, Tanh, Softplus, LogSigmoid, Softsign),
        BatchNorm1d, LayerNorm, Softmax, LogSoftmax, GLU, Flatten, Dropout, Identity, sums,
        differences, products and quotients, abs, squares, cat, chunk, split, slices, transpose,
        matmul with a constant, means over positions, sums of features and arg max, as modules or
        functions; with several inputs and outputs, and layers that are called twice. Nothing is
        requantized: the outputs equal those of the quantized module bit for bit, except for float
        layers, and for activations, norms, softmax, means and sums that forward calls as functions,
        because torch rounds these differently.
    calibration : optional
        Data to quantize a float model with, as for :class:`fastmnist.Static`.
    dynamic : bool
        Quantize a float model with :class:`fastmnist.Dynamic`.
    mean, std : float or sequence of float, optional
    pixels : str, optional
        What a pixel means, as for these two classes: "0..255" for a model trained on
        ``images.float()``.
    max_samples, batch_fn
        As for :class:`fastmnist.Static`.
    example : tensor, tuple of arguments, or dict of keywords, optional
        Rows like those that the result will be called with. Needed if the layers do not determine
        the width of the inputs, or if rows have several significant dimensions (``[N, positions,
        features]``); calibration data serves as well.
    plan : {"measured", "fixed"}, optional
        How kernels are chosen, as for :class:`fastmnist.CompiledModel`.

    Returns
    -------
    CompiledModel

    Raises
    ------
    TypeError, ValueError
        If `plan` is unknown; if a step of `model` cannot be part of one call (the error names it);
        or if the model is quantized, and calibration, ``dynamic=True``, mean, std or pixels is
        given.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> net = fm.compile(fm.NeuralNetwork(), dynamic=True)
    >>> net.predict(torch.rand(3, 784)).shape
    torch.Size([3])
    >>> fm.compile(fm.NeuralNetwork())  # float32
    CompiledModel(784 → 10, 3 float32 layers, 417,664 bytes)
    """
    plan_mode(plan)  # refused before anything is done
    options = {"calibration": calibration, "mean": mean, "std": std, "pixels": pixels}
    given = [name for name, value in options.items() if value is not None]
    given += ["dynamic"] if dynamic else []
    if isinstance(model, CompiledModel):
        _refuse_options(given, "a CompiledModel")
        return model if plan in (None, model.plan) else CompiledModel(model.network, plan)
    model = check_module(model)
    check_not_prepared(model, "fm.convert makes it int8, which compiles")
    told: PixelNormalization | None = None
    if not dynamic and calibration is None:
        told = pixels_of(Dynamic(mean, std, pixels=pixels))
    rows = (
        example
        if example is None or isinstance(example, Rows)
        else Rows.of(example, told or model_pixels(model))
    )
    with using("fixed"):  # what the modules pack is not kept
        if any(is_int8_linear(module) for module in model.modules()):
            _refuse_options(given, "a model that is quantized already")
            ready = model
        elif dynamic and calibration is not None:
            raise ValueError("dynamic: expected calibration or dynamic=True, got both")
        elif dynamic:
            ready, _ = _closed(model, Dynamic(mean, std, pixels=pixels))
        elif calibration is not None:
            config = Static(
                calibration,
                mean,
                std,
                pixels=pixels,
                max_samples=max_samples,
                batch_fn=batch_fn,
            )
            ready, calibrated = _closed(model, config)
            rows = calibrated if rows is None else rows
        else:
            ready = _fused(model, rows)
        with _advice_for(model):
            found = read(as_model(ready), _by_name(ready, rows), told)
    net = CompiledModel(found.graph, plan)
    with _advice_for(model):
        _check_answers(net, found)
    keep_recipe_text(net, recipe_text(model))
    return net


def graph_of(model: nn.Module) -> NetworkGraph:
    """Read a model, quantized or float, as a graph with the very numbers that its layers have.

    Raises
    ------
    ValueError
        If it cannot be compiled, or answers otherwise then.
    """
    with using("fixed"):
        found = read(as_model(model))
        _check_answers(CompiledModel(found.graph), found)
    return found.graph


@contextmanager
def _advice_for(model: nn.Module) -> Iterator[None]:
    """Tell users of a quantized model to call it, not to quantize it once more."""
    try:
        yield
    except ValueError as error:
        kinds = [kind_of(module) for module in model.modules()]
        if any(kind is not None and kind.is_frozen for kind in kinds):
            error.args = (str(error).replace(USE_THE_MODULE, CALL_IT_AS_IT_IS),)
        raise


def _check_answers(net: CompiledModel, found: Reading) -> None:
    """Hold the network against its model once, on a few rows of noise: right, or refused.

    Float layers and functions that torch computes round otherwise, so that codes may differ by
    one; what this is for are answers of other steps.
    """
    most = _MOST_APART if found.graph.networks else _MOST_APART_IN_FLOAT
    for got, want in zip(tensors_of(net(*found.rows)), found.outputs, strict=True):
        if not (want.is_floating_point() and bool(torch.isfinite(want).all())):
            continue
        apart = float((got.double() - want.double()).norm())
        if apart > most * float(want.double().norm()) + most * 1e-3 * want.numel() ** 0.5:
            raise ValueError(
                f"model: expected the compiled network to answer as the model does, and on rows of "
                f"noise it is {apart / max(float(want.double().norm()), 1e-30):.0%} off: please "
                f"report that, and use the module meanwhile: {USE_THE_MODULE}"
            )


def _closed(model: nn.Module, config: Static | Dynamic) -> tuple[nn.Module, Rows | None]:
    """As fm.quantize, but for a result that is entered at its beginning only; and its rows."""
    how = post_training(check_config(config), is_closed=True)
    return transformed(model, how), how.rows


def _fused(model: nn.Module, rows: Rows | None) -> nn.Module:
    """The float model with its norms folded in, but for those that rows show to be apart."""
    try:
        return fuse_closed(model, _by_name(model, rows))
    except ValueError:
        if rows is None:
            raise
        return fuse_closed(model)  # where rows do not run, reading the model says at which step


def _by_name(model: nn.Module, rows: Rows | None) -> Mapping[str, Any] | None:
    """Rows by the names of forward's arguments."""
    if rows is None:
        return None
    if kind_of(model) is not None or is_known_linear(model):
        return {"input": rows.args[0]} if rows.args else rows.kwargs
    names = [*inspect.signature(model.forward).parameters]
    return {**dict(zip(names, rows.args, strict=False)), **rows.kwargs}


def _refuse_options(given: list[str], what: str) -> None:
    if given:
        raise ValueError(f"{given[0]}: expected a float model to quantize, got {what}")
