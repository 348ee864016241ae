"""QConfigMapping: which qconfig for which layer, in the order of torch.ao's FX mode."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fastmnist.ao.fake_quantize import FixedQParamsFakeQuantize, default_weight_fake_quant
from fastmnist.ao.observer import (
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
    default_placeholder_observer,
    default_weight_observer,
)
from fastmnist.ao.qconfig import (
    QConfig,
    default_quint8_weight_qconfig,
    default_reuse_input_qconfig,
    get_default_qat_qconfig,
    get_default_qconfig,
)

# A call of a layer within the enclosing module: its index among calls of that type.
Order = Callable[[str], "tuple[str, int] | None"]


class QConfigMapping:
    """Which qconfig for which layer; None leaves a layer in float.

    In rising priority: :meth:`set_global`, :meth:`set_object_type`, :meth:`set_module_name_regex`
    (the first that matches), :meth:`set_module_name` (of the layer, or the nearest module around
    it), :meth:`set_module_name_object_type_order`.

    Examples
    --------
    >>> from fastmnist.ao import default_qconfig
    >>> mapping = QConfigMapping().set_global(default_qconfig).set_module_name("head", None)
    >>> mapping.qconfig_of("head", torch.nn.Linear)
    """

    def __init__(self) -> None:
        self.global_qconfig: Any = None
        self.object_type_qconfigs: OrderedDict[Any, Any] = OrderedDict()
        self.module_name_regex_qconfigs: OrderedDict[str, Any] = OrderedDict()
        self.module_name_qconfigs: OrderedDict[str, Any] = OrderedDict()
        self.module_name_object_type_order_qconfigs: OrderedDict[tuple[str, Any, int], Any] = (
            OrderedDict()
        )

    def set_global(self, global_qconfig: Any) -> QConfigMapping:
        """Set the qconfig of all layers without another one."""
        self.global_qconfig = global_qconfig
        return self

    def set_object_type(self, object_type: Any, qconfig: Any) -> QConfigMapping:
        """Set the qconfig of a module type, a function or a method name."""
        self.object_type_qconfigs[object_type] = qconfig
        return self

    def set_module_name_regex(self, module_name_regex: str, qconfig: Any) -> QConfigMapping:
        """Set the qconfig of modules whose names match from the beginning."""
        self.module_name_regex_qconfigs[module_name_regex] = qconfig
        return self

    def set_module_name(self, module_name: str, qconfig: Any) -> QConfigMapping:
        """Set the qconfig of a module and everything in it."""
        self.module_name_qconfigs[module_name] = qconfig
        return self

    def set_module_name_object_type_order(
        self, module_name: str, object_type: Any, index: int, qconfig: Any
    ) -> QConfigMapping:
        """Set the qconfig of call number `index`, from 0, of a type directly in a module."""
        self.module_name_object_type_order_qconfigs[module_name, object_type, index] = qconfig
        return self

    def qconfig_of(self, name: str, kind: Any, order: Order | None = None) -> Any:
        """The qconfig of the layer `name` of type `kind`.

        `order` maps a name to the module that calls it, and the number of earlier calls of its
        type.
        """
        found = self.object_type_qconfigs.get(kind, self.global_qconfig)
        for pattern, qconfig in self.module_name_regex_qconfigs.items():
            if _matches(pattern, name):
                found = qconfig
                break
        parts = name.split(".") if name else []
        for i in range(len(parts), 0, -1):
            path = ".".join(parts[:i])
            if path in self.module_name_qconfigs:
                found = self.module_name_qconfigs[path]
                break
        called = order(name) if order is not None else None
        if called is not None:
            parent, index = called
            key = (parent, kind, index)
            found = self.module_name_object_type_order_qconfigs.get(key, found)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the older form: a dict of lists of tuples, with "" for the global one."""
        ordered = self.module_name_object_type_order_qconfigs.items()
        return {
            "": self.global_qconfig,
            "object_type": [*self.object_type_qconfigs.items()],
            "module_name_regex": [*self.module_name_regex_qconfigs.items()],
            "module_name": [*self.module_name_qconfigs.items()],
            "module_name_object_type_order": [(*key, value) for key, value in ordered],
        }

    @classmethod
    def from_dict(cls, qconfig_dict: dict[str, Any]) -> QConfigMapping:
        """The reverse of :meth:`to_dict`; every key may be missing.

        Raises
        ------
        ValueError
            If a key is unknown.
        """
        known = cls().to_dict()
        for key in qconfig_dict:
            if key not in known:
                raise ValueError(
                    f"qconfig_dict: expected the keys {', '.join(map(repr, known))}, got {key!r}"
                )
        made = cls().set_global(qconfig_dict.get(""))
        for key, qconfig in qconfig_dict.get("object_type", ()):
            made.set_object_type(key, qconfig)
        for key, qconfig in qconfig_dict.get("module_name_regex", ()):
            made.set_module_name_regex(key, qconfig)
        for key, qconfig in qconfig_dict.get("module_name", ()):
            made.set_module_name(key, qconfig)
        for name, kind, index, qconfig in qconfig_dict.get("module_name_object_type_order", ()):
            made.set_module_name_object_type_order(name, kind, index, qconfig)
        return made

    @classmethod
    def of(cls, mapping: Any) -> QConfigMapping:
        """Return `mapping` itself, or one made from a dict or from torch.ao's own.

        Raises
        ------
        TypeError
            If it is none of these.
        """
        if isinstance(mapping, QConfigMapping):
            return mapping
        if isinstance(mapping, dict):
            return cls.from_dict(mapping)
        if hasattr(mapping, "module_name_object_type_order_qconfigs"):
            return cls.from_dict(mapping.to_dict())
        raise TypeError(
            f"qconfig_mapping: expected a QConfigMapping, got {type(mapping).__name__}: for "
            "example get_default_qconfig_mapping('x86')"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QConfigMapping):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for style, value in vars(self).items():
            lines.append(f" {style}")
            is_rules = isinstance(value, OrderedDict) and value
            lines += [f"  {k}: {v}" for k, v in value.items()] if is_rules else [f"  {value}"]
        return "\n".join([*lines, ")"])


# Activations that never leave a range.
_ZERO_TO_ONE = (
    nn.Hardsigmoid, F.hardsigmoid, "hardsigmoid", "hardsigmoid_",
    nn.Sigmoid, torch.sigmoid, "sigmoid", "sigmoid_", nn.Softmax,
)  # fmt: skip
_MINUS_ONE_TO_ONE = (nn.Tanh, torch.tanh, "tanh", "tanh_")
_TRANSPOSED = (
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d,
)  # fmt: skip


def _default_mapping(qconfig: QConfig, training: bool, backend: str) -> QConfigMapping:
    per_tensor = default_weight_fake_quant if training else default_weight_observer
    transposed = QConfig(qconfig.activation, per_tensor)
    made = (
        QConfigMapping().set_global(qconfig).set_object_type("reshape", default_reuse_input_qconfig)
    )
    for transpose in _TRANSPOSED:
        made.set_object_type(transpose, transposed if backend in ("fbgemm", "x86") else qconfig)
    norm = QConfig(qconfig.activation, default_placeholder_observer)
    made.set_object_type(F.layer_norm, norm).set_object_type(nn.LayerNorm, norm)
    made.set_object_type(nn.PReLU, default_quint8_weight_qconfig)
    for kinds, observer in (
        (_ZERO_TO_ONE, default_fixed_qparams_range_0to1_observer),
        (_MINUS_ONE_TO_ONE, default_fixed_qparams_range_neg1to1_observer),
    ):
        own = FixedQParamsFakeQuantize.with_args(observer=observer) if training else observer
        for kind in kinds:
            made.set_object_type(kind, QConfig(own, per_tensor))
    return made


def get_default_qconfig_mapping(backend: str = "x86", version: int = 0) -> QConfigMapping:
    """:func:`get_default_qconfig` for Linear layers, torch.ao's rules for what stays in float."""
    return _default_mapping(get_default_qconfig(backend, version), False, backend)


def get_default_qat_qconfig_mapping(backend: str = "x86", version: int = 1) -> QConfigMapping:
    """:func:`get_default_qat_qconfig`, in the same way."""
    return _default_mapping(get_default_qat_qconfig(backend, version), True, backend)


def get_default_qconfig_dict(backend: str = "x86", version: int = 0) -> dict[str, Any]:
    """:func:`get_default_qconfig_mapping` as a dict."""
    return get_default_qconfig_mapping(backend, version).to_dict()


def get_default_qat_qconfig_dict(backend: str = "x86", version: int = 1) -> dict[str, Any]:
    """:func:`get_default_qat_qconfig_mapping` as a dict."""
    return get_default_qat_qconfig_mapping(backend, version).to_dict()


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.match(pattern, name) is not None
    except re.error as error:
        raise ValueError(
            f"module_name_regex: expected a regular expression, got {pattern!r} ({error}): escape "
            "what is meant as it stands, with re.escape"
        ) from None
