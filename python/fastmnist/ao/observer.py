"""The names of torch.ao's observers: each stands for a rule, or for per-channel weights.

:func:`fastmnist.ao.prepare` reads which one a qconfig names. Called on a tensor, one watches it on
its own, for scripts that ask an observer for scale and zero point.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from fastmnist.int8.quantizer import rule_from_range
from fastmnist.ranges.observer import InputObserver
from fastmnist.ranges.rules import Histogram, MinMax, MovingAverage, Rule

# What torch.ao's constructors take; only averaging_constant and observer mean something here.
_KNOWN = {
    "averaging_constant",
    "bins",
    "ch_axis",
    "dtype",
    "eps",
    "factory_kwargs",
    "is_dynamic",
    "observer",
    "qscheme",
    "quant_max",
    "quant_min",
    "reduce_range",
    "upsample_rate",
    "compute_dtype",
    "custom_op_name",
}


class ObserverName:
    """What a qconfig names: the rule of an activation, or whether weights are per channel.

    Parameters
    ----------
    **options
        Those of torch.ao's observer of this name.

    Raises
    ------
    TypeError
        For an option that torch.ao's has not.
    """

    per_channel: ClassVar[bool] = False

    def __init__(self, **options: Any) -> None:
        unknown = sorted(set(options) - _KNOWN)
        if unknown:
            raise TypeError(f"{type(self).__name__}: got an unexpected option '{unknown[0]}'")
        self.options = options
        self._seen: InputObserver | None = None

    @classmethod
    def with_args(cls, **options: Any) -> ObserverName:
        """Return one with these options; torch.ao's way to write a constructor call."""
        return cls(**options)

    def __call__(self, x: Tensor | None = None) -> Any:
        """Without arguments itself, as a constructor would; else watch `x` and return it."""
        if x is None:
            return self
        if self._seen is None:
            self._seen = InputObserver(1, self.rule())
        self._seen.watch(x.detach().reshape(-1, 1), None)
        return x

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point of what was watched, for uint8 codes 0 to 255.

        Raises
        ------
        RuntimeError
            If nothing was watched yet.
        """
        if self._seen is None or not self._seen.started:
            raise RuntimeError(f"{type(self).__name__}: expected to have watched data, got none")
        rule = rule_from_range(*self._seen.range())
        return torch.tensor([rule.scale]), torch.tensor([rule.zero_point], dtype=torch.int32)

    def rule(self) -> Rule:
        """The rule that it stands for."""
        return MinMax()

    def __repr__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{type(self).__name__}({options})"


class MinMaxObserver(ObserverName):
    """:class:`fastmnist.MinMax`."""


class PerChannelMinMaxObserver(ObserverName):
    """A weight scale per output channel."""

    per_channel = True


class MovingAverageMinMaxObserver(ObserverName):
    """:class:`fastmnist.MovingAverage`, with `averaging_constant` for its momentum."""

    def rule(self) -> Rule:
        return MovingAverage(float(self.options.get("averaging_constant", 0.01)))


class MovingAveragePerChannelMinMaxObserver(MovingAverageMinMaxObserver):
    """A weight scale per output channel."""

    per_channel = True


class HistogramObserver(ObserverName):
    """:class:`fastmnist.Histogram`."""

    def rule(self) -> Rule:
        return Histogram()


class PlaceholderObserver(ObserverName):
    """Of dynamic qconfigs: nothing is observed."""


class NoopObserver(PlaceholderObserver):
    """Nothing is observed."""


class FakeQuantize(ObserverName):
    """What simulates in training: stands for the `observer` that it is given."""

    def _inner(self) -> Any:
        return self.options.get("observer", MovingAverageMinMaxObserver)

    def rule(self) -> Rule:
        inner = self._inner()
        if isinstance(inner, type) and issubclass(inner, ObserverName):
            # Its other options are the observer's.
            own = {k: v for k, v in self.options.items() if k != "observer"}
            return inner(**own).rule()
        return rule_named(inner)

    @property
    def is_per_channel(self) -> bool:
        return names_per_channel(self._inner())


class FusedMovingAvgObsFakeQuantize(FakeQuantize):
    """The same; torch.ao's fused form."""


def rule_named(observer: Any) -> Rule:
    """The rule that an observer stands for: ours, or torch.ao's own of the same name."""
    if isinstance(observer, Rule):
        return observer
    if isinstance(observer, type) and issubclass(observer, ObserverName):
        return observer().rule()
    if isinstance(observer, ObserverName):
        return observer.rule()
    name, options = _torchs(observer)
    if "Histogram" in name:
        return Histogram()
    if "observer" in options:
        inner = rule_named(options["observer"])
        if isinstance(inner, MovingAverage) and "averaging_constant" in options:
            return MovingAverage(float(options["averaging_constant"]))
        return inner
    if "MovingAverage" in name or "FakeQuantize" in name:
        return MovingAverage(float(options.get("averaging_constant", 0.01)))
    return MinMax()


def names_per_channel(observer: Any) -> bool:
    """Whether a weight's observer asks for a scale per output channel."""
    if isinstance(observer, FakeQuantize):
        return observer.is_per_channel
    if isinstance(observer, ObserverName) or (
        isinstance(observer, type) and issubclass(observer, ObserverName)
    ):
        return bool(observer.per_channel)
    name, options = _torchs(observer)
    return "PerChannel" in name or (
        "observer" in options and names_per_channel(options["observer"])
    )


def options_of(observer: Any) -> dict[str, Any]:
    """What an observer, ours or torch.ao's own, was given."""
    if isinstance(observer, ObserverName):
        return observer.options
    return _torchs(observer)[1]


def _torchs(observer: Any) -> tuple[str, dict[str, Any]]:
    """Name and options of a class of torch.ao's, or of its ``with_args``."""
    partial = getattr(observer, "p", None)
    if partial is not None and hasattr(partial, "func"):
        return str(getattr(partial.func, "__name__", partial.func)), dict(partial.keywords)
    return str(getattr(observer, "__name__", type(observer).__name__)), {}


default_observer = MinMaxObserver.with_args(quant_min=0, quant_max=127)
default_histogram_observer = HistogramObserver.with_args(quant_min=0, quant_max=127)
default_weight_observer = MinMaxObserver.with_args()
default_per_channel_weight_observer = PerChannelMinMaxObserver.with_args()
default_fake_quant = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver)
default_weight_fake_quant = FakeQuantize.with_args(observer=MovingAverageMinMaxObserver)
default_per_channel_weight_fake_quant = FakeQuantize.with_args(
    observer=MovingAveragePerChannelMinMaxObserver
)
