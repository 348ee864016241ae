"""torch.ao's observers, under its names: each watches tensors and computes qparams.

:func:`fastmnist.ao.prepare` puts a qconfig's observer before each layer.
:mod:`fastmnist.ao.uniform` computes qparams from a range.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.ao.histogram import HistogramObserver as HistogramObserver
from fastmnist.ao.left_out import left_out_of
from fastmnist.ao.min_max import MinMaxObserver as MinMaxObserver
from fastmnist.ao.min_max import MovingAverageMinMaxObserver as MovingAverageMinMaxObserver
from fastmnist.ao.min_max import (
    MovingAveragePerChannelMinMaxObserver as MovingAveragePerChannelMinMaxObserver,
)
from fastmnist.ao.min_max import PerChannelMinMaxObserver as PerChannelMinMaxObserver
from fastmnist.ao.uniform import EPS as EPS
from fastmnist.ao.uniform import ObserverBase as ObserverBase
from fastmnist.ao.uniform import UniformQuantizationObserverBase as UniformQuantizationObserverBase


class FixedQParamsObserver(ObserverBase):
    """Always return the given scale and zero point.

    Parameters
    ----------
    scale : float
    zero_point : int
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        scale: float,
        zero_point: int,
        dtype: Any = torch.quint8,
        qscheme: Any = torch.per_tensor_affine,
        quant_min: int = 0,
        quant_max: int = 255,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        if is_dynamic:
            raise NotImplementedError("is_dynamic: expected False, as what is fixed is not dynamic")
        super().__init__(dtype=dtype, **kwargs)
        self.quant_min, self.quant_max, self.qscheme = quant_min, quant_max, qscheme
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor([zero_point], dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The given scale and zero point."""
        return self.scale, self.zero_point


class _Unranged(ObserverBase):
    """An observer that has no scale to give."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Raise RuntimeError: it has none."""
        raise RuntimeError(
            f"calculate_qparams: expected an observer of ranges, got {type(self).__name__}, which "
            "has none: name another one in the qconfig"
        )


class PlaceholderObserver(_Unranged):
    """Specify what a layer becomes (dynamic, float16) if nothing needs to be observed."""

    def __init__(
        self,
        dtype: Any = torch.float32,
        custom_op_name: str = "",
        compute_dtype: Any = None,
        quant_min: int | None = None,
        quant_max: int | None = None,
        qscheme: Any = torch.per_tensor_affine,
        eps: float = EPS,
        is_dynamic: bool = False,
    ) -> None:
        super().__init__(dtype, is_dynamic or compute_dtype is not None)
        self.qscheme, self.eps, self.custom_op = qscheme, eps, custom_op_name
        self.quant_min, self.quant_max = quant_min, quant_max

    def extra_repr(self) -> str:
        return f"dtype={self.dtype}, is_dynamic={self.is_dynamic}"


class RecordingObserver(_Unranged):
    """Keep a copy of every tensor, for ``get_tensor_value()``."""

    def __init__(self, dtype: Any = torch.quint8) -> None:
        super().__init__(dtype)
        self.tensor_val: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Keep a copy of `x` and return it."""
        self.tensor_val.append(x.detach().clone())
        return x

    def get_tensor_value(self) -> list[Tensor]:
        """What was kept."""
        return self.tensor_val


class NoopObserver(_Unranged):
    """Observe nothing."""

    def __init__(self, dtype: Any = torch.float16, custom_op_name: str = "") -> None:
        super().__init__(dtype)
        self.custom_op = custom_op_name


class ReuseInputObserver(_Unranged):
    """For operators that pass their inputs on; no Linear does."""

    def __init__(self) -> None:
        super().__init__(torch.quint8)


_KEPT = (".observer.", ".watcher.")


def get_observer_state_dict(mod: nn.Module) -> OrderedDict[str, Any]:
    """Return the observers' part of a prepared model's state_dict."""
    state = mod.state_dict()
    kept = OrderedDict((key, value) for key, value in state.items() if _is_observers(key))
    kept._metadata = getattr(state, "_metadata", {})  # type: ignore[attr-defined]
    return kept


def load_observer_state_dict(mod: nn.Module, obs_dict: dict[str, Any]) -> None:
    """Load the observers' state of another model into a prepared model.

    Raises
    ------
    KeyError
        If keys are missing or unexpected; the error names them, and nothing is loaded.
    """
    wanted = {key for key in mod.state_dict() if _is_observers(key)}
    given = {key for key in obs_dict if _is_observers(key)}
    for key in sorted(wanted ^ given):
        what = "a state with" if key in wanted else "no"
        raise KeyError(f"obs_dict: expected {what} '{key}': both models must be prepared alike")
    mod.load_state_dict(obs_dict, strict=False)


def _is_observers(key: str) -> bool:
    return any(part in f".{key}" for part in _KEPT)


default_observer = MinMaxObserver.with_args(quant_min=0, quant_max=127)
default_placeholder_observer = PlaceholderObserver
default_debug_observer = RecordingObserver
default_weight_observer = MinMaxObserver.with_args(
    dtype=torch.qint8, qscheme=torch.per_tensor_symmetric
)
weight_observer_range_neg_127_to_127 = default_weight_observer.with_args(
    quant_min=-127, quant_max=127, eps=2**-12
)
default_histogram_observer = HistogramObserver.with_args(quant_min=0, quant_max=127)
default_per_channel_weight_observer = PerChannelMinMaxObserver.with_args(
    dtype=torch.qint8, qscheme=torch.per_channel_symmetric
)
per_channel_weight_observer_range_neg_127_to_127 = default_per_channel_weight_observer.with_args(
    quant_min=-127, quant_max=127, eps=2**-12
)
default_dynamic_quant_observer = PlaceholderObserver.with_args(
    dtype=torch.quint8, quant_min=0, quant_max=255, is_dynamic=True
)
default_float_qparams_observer = PerChannelMinMaxObserver.with_args(
    dtype=torch.quint8, qscheme=torch.per_channel_affine_float_qparams, ch_axis=0
)
default_float_qparams_observer_4bit = default_float_qparams_observer.with_args(dtype=torch.quint4x2)
default_fixed_qparams_range_neg1to1_observer = FixedQParamsObserver.with_args(
    scale=2.0 / 256.0, zero_point=128, dtype=torch.quint8, quant_min=0, quant_max=255
)
default_fixed_qparams_range_0to1_observer = FixedQParamsObserver.with_args(
    scale=1.0 / 256.0, zero_point=0, dtype=torch.quint8, quant_min=0, quant_max=255
)
default_symmetric_fixed_qparams_observer = default_fixed_qparams_range_neg1to1_observer
default_affine_fixed_qparams_observer = default_fixed_qparams_range_0to1_observer
default_reuse_input_observer = ReuseInputObserver


__getattr__ = left_out_of(__name__)
