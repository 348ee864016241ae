"""qconfigs, as in torch.ao: which observer watches activations, and which one weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from fastmnist.ao.fake_quantize import (
    FakeQuantize,
    FusedMovingAvgObsFakeQuantize,
    default_dynamic_fake_quant,
    default_embedding_fake_quant,
    default_embedding_fake_quant_4bit,
    default_fake_quant,
    default_fused_act_fake_quant,
    default_fused_per_channel_wt_fake_quant,
    default_fused_wt_fake_quant,
    default_per_channel_weight_fake_quant,
    default_weight_fake_quant,
    fused_per_channel_wt_fake_quant_range_neg_127_to_127,
    fused_wt_fake_quant_range_neg_127_to_127,
)
from fastmnist.ao.left_out import left_out_of
from fastmnist.ao.observer import (
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    NoopObserver,
    PlaceholderObserver,
    default_debug_observer,
    default_dynamic_quant_observer,
    default_float_qparams_observer,
    default_float_qparams_observer_4bit,
    default_observer,
    default_per_channel_weight_observer,
    default_placeholder_observer,
    default_reuse_input_observer,
    default_weight_observer,
    per_channel_weight_observer_range_neg_127_to_127,
    weight_observer_range_neg_127_to_127,
)

_BACKENDS = ("fbgemm", "x86", "qnnpack", "onednn")


class _Pair(NamedTuple):
    activation: Any
    weight: Any


class QConfig(_Pair):
    """Factories for the observers of a layer: of its input (here) and of its weight.

    Parameters
    ----------
    activation, weight
        Classes of observers, or factories such as ``MinMaxObserver.with_args(…)``.

    Raises
    ------
    ValueError
        If one of them is an observer instance, which only a single layer could use.
    """

    __slots__ = ()

    def __new__(cls, activation: Any, weight: Any) -> QConfig:
        for what, value in (("activation", activation), ("weight", weight)):
            if isinstance(value, nn.Module):
                raise ValueError(
                    f"{what}: expected a class of observers or its with_args(...), got an observer "
                    f"instance of {type(value).__name__}: each layer needs one of its own"
                )
        return super().__new__(cls, activation, weight)


class QConfigDynamic(QConfig):
    """The older form of a dynamic QConfig, whose activation is optional."""

    __slots__ = ()

    def __new__(
        cls,
        activation: Any = default_dynamic_quant_observer,
        weight: Any = default_weight_observer,
    ) -> QConfigDynamic:
        is_none = activation is nn.Identity
        own = default_dynamic_quant_observer if is_none else activation
        return super().__new__(cls, own, weight)  # type: ignore[return-value]


QConfigAny = QConfig | None

default_qconfig = QConfig(default_observer, default_weight_observer)
default_debug_qconfig = QConfig(default_debug_observer, default_weight_observer)
default_per_channel_qconfig = QConfig(default_observer, default_per_channel_weight_observer)
default_dynamic_qconfig = QConfig(default_dynamic_quant_observer, default_weight_observer)
per_channel_dynamic_qconfig = QConfig(
    default_dynamic_quant_observer, default_per_channel_weight_observer
)
float16_dynamic_qconfig = QConfig(
    PlaceholderObserver.with_args(dtype=torch.float16, is_dynamic=True),
    PlaceholderObserver.with_args(dtype=torch.float16),
)
float16_static_qconfig = QConfig(
    PlaceholderObserver.with_args(dtype=torch.float16),
    PlaceholderObserver.with_args(dtype=torch.float16),
)
float_qparams_weight_only_qconfig = QConfig(
    default_placeholder_observer, default_float_qparams_observer
)
float_qparams_weight_only_qconfig_4bit = QConfig(
    default_placeholder_observer, default_float_qparams_observer_4bit
)
default_qat_qconfig = QConfig(default_fake_quant, default_weight_fake_quant)
default_dynamic_qat_qconfig = QConfig(default_dynamic_fake_quant, default_weight_fake_quant)
default_weight_only_qconfig = QConfig(nn.Identity, default_weight_fake_quant)
default_activation_only_qconfig = QConfig(default_fake_quant, nn.Identity)
default_qat_qconfig_v2 = QConfig(default_fused_act_fake_quant, default_fused_wt_fake_quant)
default_reuse_input_qconfig = QConfig(default_reuse_input_observer, NoopObserver)
default_quint8_weight_qconfig = QConfig(HistogramObserver, MinMaxObserver)

_SIGNED = HistogramObserver.with_args(dtype=torch.qint8, reduce_range=False, eps=2**-12)
default_symmetric_qnnpack_qconfig = QConfig(_SIGNED, weight_observer_range_neg_127_to_127)
default_per_channel_symmetric_qnnpack_qconfig = QConfig(
    _SIGNED, per_channel_weight_observer_range_neg_127_to_127
)
_SIGNED_QAT = FusedMovingAvgObsFakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver,
    quant_min=-128,
    quant_max=127,
    dtype=torch.qint8,
    reduce_range=False,
    eps=2**-12,
)
default_symmetric_qnnpack_qat_qconfig = QConfig(
    _SIGNED_QAT, fused_wt_fake_quant_range_neg_127_to_127
)
default_per_channel_symmetric_qnnpack_qat_qconfig = QConfig(
    _SIGNED_QAT, fused_per_channel_wt_fake_quant_range_neg_127_to_127
)
default_embedding_qat_qconfig = QConfig(
    NoopObserver.with_args(dtype=torch.float32), default_embedding_fake_quant
)
default_embedding_qat_qconfig_4bit = QConfig(
    NoopObserver.with_args(dtype=torch.float32), default_embedding_fake_quant_4bit
)


def get_default_qconfig(backend: str = "x86", version: int = 0) -> QConfig:
    """Return torch.ao's default: histograms, weights per channel ("qnnpack": per tensor).

    For "x86" and "fbgemm", activations have 7 bits, as torch's kernels need; fastmnist's do not:
    "onednn" is the same with 8.

    Raises
    ------
    ValueError
        For a backend or version that torch.ao has not either.
    """
    _check("backend", backend, _BACKENDS)
    _check("version", version, (0,))
    activation = HistogramObserver.with_args(reduce_range=backend in ("x86", "fbgemm"))
    per_tensor = backend == "qnnpack"
    weight = default_weight_observer if per_tensor else default_per_channel_weight_observer
    return QConfig(activation, weight)


def get_default_qat_qconfig(backend: str = "x86", version: int | None = 1) -> QConfig:
    """Return torch.ao's default: moving averages, weights per channel (per tensor for "qnnpack").

    Raises
    ------
    ValueError
        For a backend or version that torch.ao has not either.
    """
    _check("backend", backend, _BACKENDS)
    _check("version", version, (0, 1, None))
    fused, per_tensor = version == 1, backend == "qnnpack"
    kind = FusedMovingAvgObsFakeQuantize if fused else FakeQuantize
    activation = kind.with_args(
        observer=MovingAverageMinMaxObserver,
        quant_min=0,
        quant_max=255,
        reduce_range=backend in ("x86", "fbgemm"),
    )
    if per_tensor:
        weight = default_fused_wt_fake_quant if fused else default_weight_fake_quant
    else:
        per_channel = default_per_channel_weight_fake_quant
        weight = default_fused_per_channel_wt_fake_quant if fused else per_channel
    return QConfig(activation, weight)


def _check(what: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        told = ", ".join(map(str, known))
        raise ValueError(f"{what}: expected one of {told}, got {value!r}")


def qconfig_equals(q1: Any, q2: Any) -> bool:
    """Return whether two qconfigs, or None, create the same observers."""
    return bool(q1 == q2)


__getattr__ = left_out_of(__name__)
