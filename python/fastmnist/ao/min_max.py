"""torch.ao's observers of the smallest and largest value, of all values or of each channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmnist.ao.uniform import UniformQuantizationObserverBase


class MinMaxObserver(UniformQuantizationObserverBase):
    """Observe the smallest and the largest value.

    Attributes
    ----------
    min_val, max_val : float32 ``[]``
        Infinite until something is observed.

    Examples
    --------
    >>> observer = MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)()
    >>> _ = observer(torch.tensor([-1.0, 8.0]))
    >>> [float(value) for value in observer.calculate_qparams()]
    [0.062745101749897, 0.0]
    """

    min_val: Tensor
    max_val: Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "per_channel" in str(self.qscheme):
            raise NotImplementedError(
                f"qscheme: expected one per tensor for {type(self).__name__}, got {self.qscheme}: "
                "use a PerChannel observer"
            )
        device = self.eps.device
        self.register_buffer("min_val", torch.tensor(torch.inf, dtype=torch.float32, device=device))
        self.register_buffer(
            "max_val", torch.tensor(-torch.inf, dtype=torch.float32, device=device)
        )

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Watch `x` and return it."""
        if x.numel():
            own = x.detach().to(self.min_val.dtype)
            self._take(own.min(), own.max())
        return x

    def _take(self, lo: Tensor, hi: Tensor) -> None:
        self.min_val.copy_(torch.minimum(lo, self.min_val))
        self.max_val.copy_(torch.maximum(hi, self.max_val))

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Scale and zero point of what was watched; a warning, 1 and 0 if nothing was."""
        return self._calculate_qparams(self.min_val, self.max_val)

    @torch.no_grad()
    def reset_min_max_vals(self) -> None:
        """Forget what was seen."""
        self.min_val.fill_(torch.inf)
        self.max_val.fill_(-torch.inf)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class MovingAverageMinMaxObserver(MinMaxObserver):
    """Moving averages of the smallest and largest value of each call.

    Parameters
    ----------
    averaging_constant : float
        Weight of the newest call.
    """

    def __init__(self, averaging_constant: float = 0.01, *args: Any, **options: Any) -> None:
        self.averaging_constant = averaging_constant
        super().__init__(*args, **options)

    def _take(self, lo: Tensor, hi: Tensor) -> None:
        if bool(torch.isinf(self.min_val)) and bool(torch.isinf(self.max_val)):
            self.min_val.copy_(lo)
            self.max_val.copy_(hi)
            return
        self.min_val.add_(self.averaging_constant * (lo - self.min_val))
        self.max_val.add_(self.averaging_constant * (hi - self.max_val))


class PerChannelMinMaxObserver(UniformQuantizationObserverBase):
    """Observe the smallest and the largest value of each channel.

    Parameters
    ----------
    ch_axis : int
        The dimension of the channels.

    Attributes
    ----------
    min_val, max_val : float32 ``[channels]``
        Empty until something is observed.
    """

    min_val: Tensor
    max_val: Tensor

    def __init__(
        self,
        ch_axis: int = 0,
        dtype: Any = torch.quint8,
        qscheme: Any = torch.per_channel_affine,
        **options: Any,
    ) -> None:
        super().__init__(dtype=dtype, qscheme=qscheme, **options)
        if "per_tensor" in str(self.qscheme):
            raise NotImplementedError(
                f"qscheme: expected one per channel for {type(self).__name__}, got {self.qscheme}"
            )
        self.ch_axis = ch_axis
        self.register_buffer("min_val", torch.empty(0, dtype=torch.float32, device=self.eps.device))
        self.register_buffer("max_val", torch.empty(0, dtype=torch.float32, device=self.eps.device))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Watch `x` and return it."""
        if x.numel():
            rows = x.detach().to(self.eps.dtype).movedim(self.ch_axis, 0).flatten(1)
            lo, hi = rows.amin(1), rows.amax(1)
            if self.min_val.numel():
                lo, hi = self._joined(lo, hi)
            self._put(lo, hi)
        return x

    def _put(self, lo: Tensor, hi: Tensor) -> None:
        # In place, so that holders of the buffers, such as DataParallel, keep working.
        self.min_val.resize_(lo.shape).copy_(lo)
        self.max_val.resize_(hi.shape).copy_(hi)

    def _joined(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        return torch.minimum(lo, self.min_val), torch.maximum(hi, self.max_val)

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Scales and zero points of what was watched; a warning, 1 and 0 if nothing was."""
        return self._calculate_qparams(self.min_val, self.max_val)

    def reset_min_max_vals(self) -> None:
        """Forget what was seen."""
        self._put(self.min_val.new_empty(0), self.max_val.new_empty(0))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        for name in ("min_val", "max_val"):  # as many channels as the state has
            if (value := state_dict.get(prefix + name)) is not None:
                getattr(self, name).resize_(value.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}"


class MovingAveragePerChannelMinMaxObserver(PerChannelMinMaxObserver):
    """Moving averages of the smallest and largest value of each channel.

    Parameters
    ----------
    averaging_constant : float
        Weight of the newest call.
    """

    def __init__(self, averaging_constant: float = 0.01, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.averaging_constant = averaging_constant

    def _joined(self, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
        share = self.averaging_constant
        lo = self.min_val + share * (lo - self.min_val)
        return lo, self.max_val + share * (hi - self.max_val)
