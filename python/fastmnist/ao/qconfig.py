"""qconfigs: which observer for activations, and whether weights are per channel."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, NamedTuple

import torch

from fastmnist.ao.observer import (
    FusedMovingAvgObsFakeQuantize,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    PerChannelMinMaxObserver,
    PlaceholderObserver,
    names_per_channel,
    options_of,
    rule_named,
)
from fastmnist.quantization.configs import QAT, Dynamic, Half, Static

_BACKENDS = ("fbgemm", "x86", "qnnpack", "onednn")


class QConfig(NamedTuple):
    """Observers of activations and weights, as torch.ao's.

    Parameters
    ----------
    activation, weight
        Names of observers, such as ``HistogramObserver`` or ``MinMaxObserver.with_args(…)``.
    """

    activation: Any
    weight: Any


default_qconfig = QConfig(MinMaxObserver.with_args(quant_min=0, quant_max=127), MinMaxObserver)
default_per_channel_qconfig = QConfig(
    MinMaxObserver.with_args(quant_min=0, quant_max=127), PerChannelMinMaxObserver
)
default_dynamic_qconfig = QConfig(
    PlaceholderObserver.with_args(dtype=torch.uint8, is_dynamic=True), MinMaxObserver
)
per_channel_dynamic_qconfig = QConfig(
    PlaceholderObserver.with_args(dtype=torch.uint8, is_dynamic=True), PerChannelMinMaxObserver
)
float16_dynamic_qconfig = QConfig(
    PlaceholderObserver.with_args(dtype=torch.float16, is_dynamic=True),
    PlaceholderObserver.with_args(dtype=torch.float16),
)
default_qat_qconfig = QConfig(
    FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver),
    FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver),
)


def get_default_qconfig(backend: str = "x86", version: int = 0) -> QConfig:
    """Histogram observer; weights per channel, but per tensor for "qnnpack", as in torch.ao.

    Raises
    ------
    ValueError
        For a backend that torch.ao has not either.
    """
    _check_backend(backend)
    per_tensor = backend == "qnnpack"
    return QConfig(HistogramObserver, MinMaxObserver if per_tensor else PerChannelMinMaxObserver)


def get_default_qat_qconfig(backend: str = "x86", version: int = 1) -> QConfig:
    """Moving averages; weights per channel, but per tensor for "qnnpack", as in torch.ao.

    Raises
    ------
    ValueError
        For a backend that torch.ao has not either.
    """
    _check_backend(backend)
    weight: Any = MovingAveragePerChannelMinMaxObserver
    weight = MovingAverageMinMaxObserver if backend == "qnnpack" else weight
    return QConfig(
        FusedMovingAvgObsFakeQuantize.with_args(observer=MovingAverageMinMaxObserver),
        FusedMovingAvgObsFakeQuantize.with_args(observer=weight),
    )


def _check_backend(backend: Any) -> None:
    if backend not in _BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(_BACKENDS)}, got {backend!r}")


class QConfigMapping:
    """Which qconfig for which layer, as torch.ao's FX mode has it.

    Examples
    --------
    >>> mapping = QConfigMapping().set_global(default_qconfig).set_module_name("head", None)
    >>> mapping.qconfig_of("head", object())
    """

    def __init__(self) -> None:
        self.global_qconfig: Any = None
        self.object_type_qconfigs: OrderedDict[Any, Any] = OrderedDict()
        self.module_name_regex_qconfigs: OrderedDict[str, Any] = OrderedDict()
        self.module_name_qconfigs: OrderedDict[str, Any] = OrderedDict()

    def set_global(self, global_qconfig: Any) -> QConfigMapping:
        """Set what holds where nothing else does."""
        self.global_qconfig = global_qconfig
        return self

    def set_object_type(self, object_type: Any, qconfig: Any) -> QConfigMapping:
        """Set what holds for a type of module."""
        self.object_type_qconfigs[object_type] = qconfig
        return self

    def set_module_name(self, module_name: str, qconfig: Any) -> QConfigMapping:
        """Set what holds for a module, and all in it."""
        self.module_name_qconfigs[module_name] = qconfig
        return self

    def set_module_name_regex(self, module_name_regex: str, qconfig: Any) -> QConfigMapping:
        """Set what holds for modules whose names match."""
        self.module_name_regex_qconfigs[module_name_regex] = qconfig
        return self

    def qconfig_of(self, name: str, module: Any) -> Any:
        """The qconfig of a layer: by its name or a module's that holds it, by type, or global."""
        parts = name.split(".")
        for i in range(len(parts), 0, -1):
            path = ".".join(parts[:i])
            if path in self.module_name_qconfigs:
                return self.module_name_qconfigs[path]
        for pattern, qconfig in self.module_name_regex_qconfigs.items():
            if re.match(pattern, name):
                return qconfig
        for kind, qconfig in self.object_type_qconfigs.items():
            if isinstance(kind, type) and isinstance(module, kind):
                return qconfig
        return self.global_qconfig


def get_default_qconfig_mapping(backend: str = "x86", version: int = 0) -> QConfigMapping:
    """:func:`get_default_qconfig` for everything."""
    return QConfigMapping().set_global(get_default_qconfig(backend, version))


def get_default_qat_qconfig_mapping(backend: str = "x86", version: int = 1) -> QConfigMapping:
    """:func:`get_default_qat_qconfig` for everything."""
    return QConfigMapping().set_global(get_default_qat_qconfig(backend, version))


def config_of(qconfig: Any, training: bool) -> Static | QAT | Dynamic | Half:
    """What a qconfig, ours or torch.ao's own, asks for.

    Raises
    ------
    TypeError
        If it is no qconfig.
    ValueError
        If it is a dynamic one, for training.
    """
    activation, weight = getattr(qconfig, "activation", None), getattr(qconfig, "weight", None)
    if activation is None or weight is None:
        raise TypeError(
            f"qconfig: expected a QConfig such as get_default_qconfig('x86'), got "
            f"{type(qconfig).__name__}"
        )
    name = getattr(activation, "__name__", "") or repr(activation)
    if "Placeholder" in name:
        if training:
            raise ValueError("qconfig: expected one of training, got a dynamic one")
        is_half = "float16" in str(options_of(activation).get("dtype"))
        return Half(torch.float16) if is_half else Dynamic(per_channel=names_per_channel(weight))
    kind: type[Static] | type[QAT] = QAT if training else Static
    return kind(observer=rule_named(activation), per_channel=names_per_channel(weight))
