"""From a module to one native call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from fastmnist.compilation.chains import network_of
from fastmnist.layers.linear import is_int8_linear
from fastmnist.quantization.configs import Dynamic, Static, check_config
from fastmnist.quantization.posttraining import post_training
from fastmnist.rewriting.copies import check_module
from fastmnist.rewriting.selection import check_not_prepared
from fastmnist.rewriting.transform import transformed
from fastmnist.runtime.compiled import CompiledModel
from fastmnist.runtime.planning import plan_mode, using


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
    plan: str | None = None,
) -> CompiledModel:
    """Turn a chain of layers into one native call.

    Parameters
    ----------
    model : torch.nn.Module
        A quantized model, or a float one with `calibration` or ``dynamic=True``. Its forward
        must be a chain of Flatten, Linear, ReLU, ReLU6, Hardtanh, Dropout, Identity and
        BatchNorm1d, modules or functions. Nothing is requantized: the answers are bit for bit
        those of the quantized module.
    calibration : optional
        Data to quantize a float model with, as for :class:`fastmnist.Static`.
    dynamic : bool
        Quantize a float model with :class:`fastmnist.Dynamic`.
    mean, std : float or sequence of float, optional
    pixels : str, optional
        What a pixel stands for, as for the two: "0..255" for a model trained on ``images.float()``.
    max_samples, batch_fn
        As for :class:`fastmnist.Static`.
    plan : {"measured", "fixed"}, optional
        How kernels are chosen, as for :class:`fastmnist.CompiledModel`.

    Returns
    -------
    CompiledModel

    Raises
    ------
    TypeError, ValueError
        If `plan` is unknown; if `model` is no chain (the module that cannot be taken is named), or
        is float and neither `calibration` nor ``dynamic=True`` is given, or is quantized and one
        of them is.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> net = fm.compile(fm.NeuralNetwork(), dynamic=True)
    >>> net.predict(torch.rand(3, 784)).shape
    torch.Size([3])
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
    with using("fixed"):  # what the modules pack is not kept
        if any(is_int8_linear(module) for module in model.modules()):
            _refuse_options(given, "a model that is quantized already")
            quantized = model
        elif dynamic and calibration is not None:
            raise ValueError("dynamic: expected calibration or dynamic=True, got both")
        elif dynamic:
            quantized = _closed(model, Dynamic(mean, std, pixels=pixels))
        elif calibration is not None:
            config = Static(
                calibration,
                mean,
                std,
                pixels=pixels,
                max_samples=max_samples,
                batch_fn=batch_fn,
            )
            quantized = _closed(model, config)
        else:
            raise ValueError(
                "model: expected a quantized model, got a float one: give calibration=data (static "
                "int8) or dynamic=True, or quantize it first with fm.quantize"
            )
        network = network_of(quantized)
    return CompiledModel(network, plan)


def _closed(model: nn.Module, config: Static | Dynamic) -> nn.Module:
    """As fm.quantize, but for a result that is entered at its beginning only."""
    return transformed(model, post_training(check_config(config), is_closed=True))


def _refuse_options(given: list[str], what: str) -> None:
    if given:
        raise ValueError(f"{given[0]}: expected a float model to quantize, got {what}")
