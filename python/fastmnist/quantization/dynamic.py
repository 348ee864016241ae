"""``quantize_dynamic``, with torch.ao's signature."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from fastmnist.layers.recurrent import RECURRENT
from fastmnist.quantization.configs import Dynamic, Half, check_half
from fastmnist.quantization.posttraining import DynamicInt8, SixteenBits
from fastmnist.rewriting.copies import check_module
from fastmnist.rewriting.selection import Selected
from fastmnist.rewriting.transform import Transform, transformed


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
    how: Transform = SixteenBits(config) if isinstance(config, Half) else DynamicInt8(config)
    return transformed(model, how, select=_of_spec(model, qconfig_spec), inplace=inplace)


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
