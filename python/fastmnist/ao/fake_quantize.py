"""torch.ao's fake quantization, under its names: round a tensor to the values of its codes.

``(clamp(round(x / scale + zero_point), quant_min, quant_max) - zero_point) * scale``, with
straight-through gradients where nothing was clamped. In layers of :func:`fastmnist.ao.prepare_qat`
the observer inside gives scale and zero point, and the layer simulates its own int8 form; called on
a tensor, a module works by itself.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from fastmnist.ao.observer import (
    FixedQParamsObserver,
    HistogramObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
)
from fastmnist.ao.uniform import Makes
from fastmnist.layers.simulated import SimulatedLinear
from fastmnist.layers.simulated_embedding import SimulatedEmbedding, SimulatedEmbeddingBag


class FakeQuantizeBase(Makes, nn.Module):
    """Base class of all fake quantization: it observes and quantizes, unless switched off.

    Attributes
    ----------
    fake_quant_enabled, observer_enabled : uint8 ``[1]``
    """

    fake_quant_enabled: Tensor
    observer_enabled: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fake_quant_enabled", torch.ones(1, dtype=torch.uint8))
        self.register_buffer("observer_enabled", torch.ones(1, dtype=torch.uint8))

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Observe `x` and return what its codes stand for."""

    @abstractmethod
    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Return scale and zero point."""

    def enable_fake_quant(self, enabled: bool = True) -> None:
        """Switch quantization on or off."""
        self.fake_quant_enabled.fill_(int(enabled))

    def disable_fake_quant(self) -> None:
        """Pass tensors through unchanged."""
        self.enable_fake_quant(False)

    def enable_observer(self, enabled: bool = True) -> None:
        """Switch observation on or off."""
        self.observer_enabled.fill_(int(enabled))

    def disable_observer(self) -> None:
        """Keep scale and zero point as they are."""
        self.enable_observer(False)


class FakeQuantize(FakeQuantizeBase):
    """Observe with the given observer, and quantize by its scale and zero point.

    Parameters
    ----------
    observer : callable
        Called with the remaining arguments to create the observer.
    quant_min, quant_max : int, optional
    is_dynamic : bool
        Whether it represents dynamic quantization.

    Examples
    --------
    >>> fake = FakeQuantize(quant_min=0, quant_max=3)
    >>> fake(torch.tensor([0.0, 1.1, 3.0]))
    tensor([0., 1., 3.])
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(
        self,
        observer: Any = MovingAverageMinMaxObserver,
        quant_min: int | None = None,
        quant_max: int | None = None,
        is_dynamic: bool = False,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__()
        if quant_min is not None and quant_max is not None:
            observer_kwargs |= {"quant_min": quant_min, "quant_max": quant_max}
        if is_dynamic:
            observer_kwargs["is_dynamic"] = True
        made = observer(**observer_kwargs)
        self.activation_post_process = made
        self.quant_min, self.quant_max = made.quant_min, made.quant_max
        self.dtype, self.qscheme = made.dtype, made.qscheme
        self.is_dynamic = bool(getattr(made, "is_dynamic", False))
        self.ch_axis = int(getattr(made, "ch_axis", -1))
        self.is_per_channel = "per_channel" in str(made.qscheme)
        is_float = str(made.qscheme).endswith("float_qparams")
        self.register_buffer("scale", torch.ones(1, dtype=torch.float32))
        zero = torch.zeros(1, dtype=torch.float32 if is_float else torch.int32)
        self.register_buffer("zero_point", zero)

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Scale and zero point, from the observer."""
        scale, zero_point = self.activation_post_process.calculate_qparams()
        return scale, zero_point

    def forward(self, x: Tensor) -> Tensor:
        """Observe `x` and return what its codes stand for."""
        if self.observer_enabled.item():
            self.activation_post_process(x.detach())
            self._take(*self.calculate_qparams())
        if not self.fake_quant_enabled.item():
            return x
        lo, hi = self.quant_min, self.quant_max
        if self.is_per_channel:
            return torch.fake_quantize_per_channel_affine(
                x, self.scale, self.zero_point, self.ch_axis, lo, hi
            )
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, lo, hi)

    @torch.no_grad()
    def _take(self, scale: Tensor, zero_point: Tensor) -> None:
        # In place, so that holders of the buffers, such as DataParallel, keep working.
        self.scale.resize_(scale.numel()).copy_(scale.reshape(-1))
        self.zero_point.resize_(zero_point.numel()).copy_(zero_point.reshape(-1))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("scale", "zero_point"):  # as many channels as the state has
            if (value := state_dict.get(prefix + name)) is not None:
                getattr(self, name).resize_(value.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return (
            f"fake_quant_enabled={self.fake_quant_enabled}, observer_enabled="
            f"{self.observer_enabled}, quant_min={self.quant_min}, quant_max={self.quant_max}, "
            f"dtype={self.dtype}, qscheme={self.qscheme}, ch_axis={self.ch_axis}, "
            f"scale={self.scale}, zero_point={self.zero_point}"
        )


class FixedQParamsFakeQuantize(FakeQuantize):
    """Quantize by a fixed scale and zero point.

    Raises
    ------
    TypeError
        If `observer` does not create a FixedQParamsObserver.
    """

    def __init__(self, observer: Any) -> None:
        super().__init__(observer=observer)
        if not isinstance(self.activation_post_process, FixedQParamsObserver):
            raise TypeError(
                "observer: expected a FixedQParamsObserver, got "
                f"{type(self.activation_post_process).__name__}"
            )
        self._take(*self.activation_post_process.calculate_qparams())


class FusedMovingAvgObsFakeQuantize(FakeQuantize):
    """FakeQuantize with a moving average, as torch's one operator for both computes it.

    Raises
    ------
    TypeError
        If `observer` does not create a moving-average observer.
    """

    def __init__(
        self,
        observer: Any = MovingAverageMinMaxObserver,
        quant_min: int = 0,
        quant_max: int = 255,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__(observer, quant_min, quant_max, **observer_kwargs)
        kinds = (MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver)
        if not isinstance(self.activation_post_process, kinds):
            raise TypeError(
                "observer: expected one of moving averages, got "
                f"{type(self.activation_post_process).__name__}: use FakeQuantize"
            )
        self.fake_quant_enabled = self.fake_quant_enabled.long()  # which the operator reads
        self.observer_enabled = self.observer_enabled.long()

    def forward(self, x: Tensor) -> Tensor:
        """Observe `x` and return what its codes stand for."""
        observer = self.activation_post_process
        y: Tensor = torch.fused_moving_avg_obs_fake_quant(
            x,
            self.observer_enabled,
            self.fake_quant_enabled,
            observer.min_val,
            observer.max_val,
            self.scale,
            self.zero_point,
            observer.averaging_constant,
            self.quant_min,
            self.quant_max,
            self.ch_axis,
            self.is_per_channel,
            "symmetric" in str(self.qscheme),
        )
        return y


def disable_observer(mod: nn.Module) -> None:
    """Freeze the ranges; for ``model.apply``."""
    _switch(mod, "observer", False)


def enable_observer(mod: nn.Module) -> None:
    """Update the ranges from the inputs again; for ``model.apply``."""
    _switch(mod, "observer", True)


def disable_fake_quant(mod: nn.Module) -> None:
    """Compute in float, while observing; for ``model.apply``."""
    _switch(mod, "fake_quant", False)


def enable_fake_quant(mod: nn.Module) -> None:
    """Simulate int8 again; for ``model.apply``."""
    _switch(mod, "fake_quant", True)


def _switch(mod: nn.Module, what: str, on: bool) -> None:
    if isinstance(mod, SimulatedLinear):
        setattr(mod, "observing" if what == "observer" else "simulating", on)
    elif isinstance(mod, SimulatedEmbedding | SimulatedEmbeddingBag) and what == "fake_quant":
        mod.simulating = on
    elif isinstance(mod, FakeQuantizeBase):
        getattr(mod, f"enable_{what}")(on)


_PIXEL = {"quant_min": 0, "quant_max": 255, "dtype": torch.quint8}
_WEIGHT = {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8}
_TENSOR = _WEIGHT | {"qscheme": torch.per_tensor_symmetric}
_CHANNEL = _WEIGHT | {"qscheme": torch.per_channel_symmetric}
_NARROW = {"quant_min": -127, "quant_max": 127, "eps": 2**-12}

default_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, reduce_range=True, **_PIXEL
)
default_weight_fake_quant = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver, **_TENSOR)
default_dynamic_fake_quant = FakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, is_dynamic=True, averaging_constant=1, **_PIXEL
)
default_fixed_qparams_range_neg1to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_neg1to1_observer
)
default_fixed_qparams_range_0to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_0to1_observer
)
default_symmetric_fixed_qparams_fake_quant = default_fixed_qparams_range_neg1to1_fake_quant
default_affine_fixed_qparams_fake_quant = default_fixed_qparams_range_0to1_fake_quant
default_per_channel_weight_fake_quant = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver, ch_axis=0, **_CHANNEL
)
default_embedding_fake_quant = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    qscheme=torch.per_channel_affine_float_qparams,
    ch_axis=0,
    averaging_constant=1,
    **_PIXEL,
)
default_embedding_fake_quant_4bit = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver,
    qscheme=torch.per_channel_affine_float_qparams,
    ch_axis=0,
    dtype=torch.quint4x2,
    averaging_constant=1,
)
default_histogram_fake_quant = FakeQuantize.with_args(
    observer=HistogramObserver, reduce_range=True, **_PIXEL
)
default_fused_act_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, **_PIXEL
)
default_fused_wt_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(
    observer=MovingAverageMinMaxObserver, **_TENSOR
)
default_fused_per_channel_wt_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver, **_CHANNEL
)
fused_wt_fake_quant_range_neg_127_to_127 = default_fused_wt_fake_quant.with_args(**_NARROW)
fused_per_channel_wt_fake_quant_range_neg_127_to_127 = (
    default_fused_per_channel_wt_fake_quant.with_args(**_NARROW)
)
