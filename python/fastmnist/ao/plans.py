"""What a qconfig requires of a layer, honored exactly or refused by name.

torch.ao's qconfigs, ours or its own, are read by making what they name and looking at it: which
dtype, scheme and codes, who makes them. What fastmnist's own rules give in any case becomes one of
those; anything else watches the layer's input itself, and its scale and zero point are used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastmnist.ao.uniform import EPS, SIGNED, UNSIGNED
from fastmnist.ranges.rules import MinMax, MovingAverage, Rule

Kind = Literal["static", "dynamic", "half", "half weights", "embedding", "embedding 4bit"]
Maker = Callable[[], Any]

_MIN_MAX = ("MinMaxObserver", "PerChannelMinMaxObserver")
_MOVING = ("MovingAverageMinMaxObserver", "MovingAveragePerChannelMinMaxObserver")
_FAKE = ("FakeQuantize", "FusedMovingAvgObsFakeQuantize", "FixedQParamsFakeQuantize")
_UNRANGED = ("NoopObserver", "ReuseInputObserver", "Identity")


@dataclass(frozen=True)
class Plan:
    """What one layer is to become.

    Attributes
    ----------
    kind : str
        "static", "dynamic", "half" (weights and products), "half weights", "embedding" (8 bits) or
        "embedding 4bit".
    per_channel : bool
        Whether each output has a weight scale of its own.
    rule : Rule
        For a static layer: determines the range of its input.
    watcher : callable or None
        Creates an observer that gives scale and zero point instead of the rule.
    weight_scales : callable or None
        Gives scales and codes of the weight instead of fastmnist's rule.
    dtype : torch.dtype
        Of kind "half".
    """

    kind: Kind
    per_channel: bool = True
    rule: Rule = field(default_factory=MinMax)
    watcher: Maker | None = None
    weight_scales: OwnScales | None = None
    dtype: torch.dtype = torch.float16


@dataclass(frozen=True)
class OwnScales:
    """Scales of a weight by the user's own observer, which sees the weight anew each time."""

    make: Maker
    layer: str

    def __call__(self, weight: Tensor) -> tuple[Tensor, int, int]:
        observer = self.make()
        observer(weight.detach())
        scale, zero_point = (t.detach().reshape(-1) for t in observer.calculate_qparams())
        outputs = len(weight)
        if bool((zero_point != 0).any()) or len(scale) not in (1, outputs):
            raise ValueError(
                f"layer '{self.layer}': expected {type(observer).__name__} to give one weight "
                f"scale or {outputs}, with zero point 0, got {len(scale)} and zero points "
                f"{zero_point[:3].tolist()}: use a symmetric qscheme"
            )
        scale = scale.to(weight.device, torch.float32).expand(outputs).contiguous()
        return scale, int(observer.quant_min), int(observer.quant_max)


def plan_of(qconfig: Any, name: str, *, training: bool = False) -> Plan:
    """What a qconfig asks of the Linear, LSTM, GRU or cell called `name`.

    Raises
    ------
    TypeError
        If it is no qconfig.
    ValueError
        Naming the layer and what of the qconfig it cannot have.
    """
    activation, weight = _made(qconfig, name)
    if _dtype(weight) == "float16" and _is(activation, "PlaceholderObserver"):
        if training:
            raise _refused(name, "activation", "one of training", activation)
        if _dtype(activation) != "float16":
            raise _refused(name, "activation", "torch.float16 beside such weights", activation)
        return Plan("half weights" if activation.is_dynamic else "half")
    per_channel, scales = _weight(qconfig, weight, name)
    if bool(getattr(activation, "is_dynamic", False)):
        if scales is not None and not training:
            raise _refused(name, "weight", "a MinMax observer of 8 bits", weight)
        if _dtype(activation) not in ("quint8", "uint8", "qint8", "int8"):
            raise _refused(name, "activation", "8 bits", activation)
        return Plan("dynamic", per_channel, weight_scales=scales)
    rule, watcher = _activation(qconfig, activation, name)
    return Plan("static", per_channel, rule, watcher, scales)


def stepped_plan_of(qconfig: Any, name: str) -> Plan | None:
    """What a qconfig asks of an LSTM, GRU, RNN or cell: None where it is static, as there is none.

    Raises
    ------
    TypeError, ValueError
        As :func:`plan_of`.
    """
    activation, weight = _made(qconfig, name)
    is_static = not getattr(activation, "is_dynamic", False) and _dtype(weight) != "float16"
    return None if is_static else dynamic_plan_of(qconfig, name)


def dynamic_plan_of(qconfig: Any, name: str) -> Plan:
    """What a qconfig asks of a layer that ``quantize_dynamic`` takes: its weight says all.

    Raises
    ------
    TypeError, ValueError
        As :func:`plan_of`.
    """
    _, weight = _made(qconfig, name)
    if _dtype(weight) == "float16":
        return Plan("half weights")
    if _dtype(weight) == "bfloat16":
        return Plan("half", dtype=torch.bfloat16)
    per_channel, scales = _weight(qconfig, weight, name)
    if scales is not None:
        raise _refused(name, "weight", "a MinMax observer of 8 bits", weight)
    return Plan("dynamic", per_channel)


def embedding_plan_of(qconfig: Any, name: str) -> Plan | None:
    """What a qconfig asks of an Embedding: None where it is not one of embeddings.

    Raises
    ------
    TypeError, ValueError
        As :func:`plan_of`.
    """
    _, weight = _made(qconfig, name)
    if not str(getattr(weight, "qscheme", "")).endswith("float_qparams"):
        return None
    observer = getattr(weight, "activation_post_process", weight)
    if type(observer).__name__ not in _MIN_MAX + _MOVING or getattr(observer, "ch_axis", 0) != 0:
        raise _refused(name, "weight", "float_qparams_weight_only_qconfig's observer", observer)
    bits = {"quint8": "embedding", "uint8": "embedding", "quint4x2": "embedding 4bit"}
    if _dtype(observer) not in bits:
        raise _refused(name, "weight", "quint8 or quint4x2", observer)
    return Plan("embedding" if bits[_dtype(observer)] == "embedding" else "embedding 4bit")


def _made(qconfig: Any, name: str) -> tuple[Any, Any]:
    """An observer of activations, and one of weights."""
    makers = [getattr(qconfig, part, None) for part in ("activation", "weight")]
    if not all(map(callable, makers)):
        raise TypeError(
            f"qconfig: expected a QConfig such as get_default_qconfig('x86'), got "
            f"{type(qconfig).__name__} for '{name}'"
        )
    activation, weight = (_make(make) for make in makers)
    return activation, weight


def _make(maker: Any) -> Any:
    with warnings.catch_warnings():  # torch's own warn of reduce_range each time they are made
        warnings.simplefilter("ignore")
        return maker()


def _activation(qconfig: Any, made: Any, name: str) -> tuple[Rule, Maker | None]:
    fake = hasattr(made, "activation_post_process")
    observer = made.activation_post_process if fake else made
    if fake and not _is(made, *_FAKE):
        raise _refused(name, "activation", "FakeQuantize or an observer", made)
    if not callable(getattr(observer, "calculate_qparams", None)) or _is(observer, *_UNRANGED):
        raise _refused(name, "activation", "an observer of 8 bits", observer)
    if _is(observer, "PlaceholderObserver"):
        raise _refused(name, "activation", "an observer, or a dynamic or float16 one", observer)
    if f"torch.{_dtype(observer)}" not in SIGNED + UNSIGNED:
        raise _refused(name, "activation", "qint8 or quint8", observer)
    scheme = str(getattr(observer, "qscheme", "torch.per_tensor_affine"))
    if "per_channel" in scheme:
        raise _refused(name, "activation", "a qscheme per tensor", observer)
    rule = _rule(observer)
    if rule is not None and _covers(observer, 0, 255) and scheme.endswith("affine"):
        return rule, None
    return MinMax(), _Watchers(qconfig.activation)


@dataclass(frozen=True)
class _Watchers:
    """Makes the observer of a qconfig, out of a FakeQuantize."""

    maker: Maker

    def __call__(self) -> Any:
        made = _make(self.maker)
        return getattr(made, "activation_post_process", made)


def _rule(observer: Any) -> Rule | None:
    """The rule that finds the same range, if there is one."""
    if _is(observer, *_MIN_MAX):
        return MinMax()
    if _is(observer, *_MOVING):
        share = float(observer.averaging_constant)
        return MovingAverage(share) if 0 < share <= 1 else None
    return None


def _weight(qconfig: Any, made: Any, name: str) -> tuple[bool, OwnScales | None]:
    """Whether there is a scale per channel, and who gives the scales if not our own rule."""
    observer = getattr(made, "activation_post_process", made)
    if observer is not made and not _is(made, *_FAKE):
        raise _refused(name, "weight", "FakeQuantize or an observer", made)
    if f"torch.{_dtype(observer)}" not in SIGNED:
        raise _refused(name, "weight", "torch.qint8, or float16 placeholders", observer)
    if not callable(getattr(observer, "calculate_qparams", None)):
        raise _refused(name, "weight", "an observer", observer)
    scheme = str(getattr(observer, "qscheme", "torch.per_tensor_symmetric"))
    per_channel = "per_channel" in scheme
    if per_channel and getattr(observer, "ch_axis", 0) not in (0, -2):
        raise _refused(name, "weight", "ch_axis=0, the outputs", observer)
    is_plain = _is(observer, *_MIN_MAX, *_MOVING)
    if scheme.endswith("affine") and is_plain:
        # torch's own guides write weights so.
        warnings.warn(
            # Without the layer's name: warned once, not for each layer.
            f"qconfig, weight: weights have zero point 0 here, though {scheme} was asked for: say "
            f"qscheme={scheme.replace('affine', 'symmetric')}",
            stacklevel=2,
        )
    elif not (is_plain and (_covers(observer, -128, 127) or _covers(observer, -127, 127))):
        return per_channel, OwnScales(_Watchers(qconfig.weight), name)
    return per_channel, None


def _covers(observer: Any, lo: int, hi: int) -> bool:
    """Whether these are its codes, signed or not, and its least scale is the usual one."""
    codes = (observer.quant_min, observer.quant_max)
    unsigned = f"torch.{_dtype(observer)}" in UNSIGNED
    return unsigned == (lo == 0) and codes == (lo, hi) and float(observer.eps) <= EPS


def _is(made: Any, *names: str) -> bool:
    """Whether it is of one of these very classes, ours or torch's: a subclass may differ."""
    kind = type(made)
    return kind.__name__ in names and kind.__module__.startswith(("fastmnist.ao", "torch."))


def _dtype(made: Any) -> str:
    return str(getattr(made, "dtype", None)).removeprefix("torch.")


def _refused(name: str, part: str, expected: str, made: Any) -> ValueError:
    told = f"{type(made).__name__} of {_dtype(made)}"
    return ValueError(
        f"qconfig of '{name}', {part}: expected {expected}, got {told}: name another observer, or "
        "leave the layer in float with a qconfig of None"
    )


def is_fixed(watcher: nn.Module | None) -> bool:
    """Whether it gives the same scale whatever it saw, so that no data is needed."""
    return watcher is not None and type(watcher).__name__ == "FixedQParamsObserver"
