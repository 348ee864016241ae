"""The Linear layers of prepared models: float, trainable, and watched or simulating int8.

A :class:`SimulatedLinear` is the very Linear that it was, of another class: parameters, masks and
names stay. It observes its inputs; in quantization-aware training it also computes what the int8
layer will, with straight-through gradients (Y. Bengio, N. Léonard and A. Courville, "Estimating or
propagating gradients through stochastic neurons", arXiv:1308.3432)::

    x ─ observe ─ codes·scale ──┐ F.linear ─ [norm] ─ clamp ─► simulated ─► gradients
    weight ─ fold norm ─ codes·scale ┘                             │
                    └──► fastmnist::mlp on the same codes ─► exact ┴─► values (CPU, float32)

On the CPU in float32 the values are those of the int8 layer itself, so that a converted model
gives the same bits; elsewhere (CUDA, autocast, other dtypes, a norm that still follows its batches)
they are those of the simulation, in plain torch operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling
from torch.nn import functional as F

import fastmnist._ops as _ops
from fastmnist.int8.network import NO_CLAMP, ZEROS_OF, QuantizedLayer, QuantizedNetwork
from fastmnist.int8.quantizer import (
    FloatLayer,
    InputRule,
    codes_of,
    quantize_layer,
    rule_from_columns,
    rule_from_pixels,
    rule_from_range,
)
from fastmnist.layers.batchnorm import check_rows, zeros_for
from fastmnist.layers.fused import FusedLinear
from fastmnist.ranges.model_inputs import ModelInputs
from fastmnist.ranges.observer import InputObserver
from fastmnist.ranges.rules import Rule
from fastmnist.runtime.packing import pack


@dataclass(frozen=True)
class Settings:
    """What a prepared layer is to do.

    Attributes
    ----------
    rule : Rule
        Makes the input's range of what was seen.
    per_channel : bool
    per_feature : bool or None
    training : bool
        Quantization-aware training: simulate, and observe in training mode only. Else calibrate:
        compute in float, observe always, and refuse NaN.
    check : float or None
        dB that the outputs of the converted model must reach.
    """

    rule: Rule
    per_channel: bool = True
    per_feature: bool | None = None
    training: bool = False
    check: float | None = None


# Scales ``[outputs]`` of a weight ``[outputs, inputs]``, and the smallest and largest code.
WeightScales = Callable[[Tensor], tuple[Tensor, int, int]]


class _StraightThrough(torch.autograd.Function):
    """The value of one tensor, the gradient of another (where `inside` holds)."""

    @staticmethod
    def forward(differentiable: Tensor, value: list[Tensor], inside: Tensor | None) -> Tensor:
        return value[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.inside = inputs[2]
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inside = ctx.inside
        own = gradient if inside is None else gradient * inside
        return own.to(ctx.dtype), None, None


def _straight_through(differentiable: Tensor, value: Tensor, inside: Tensor | None) -> Tensor:
    result: Tensor = _StraightThrough.apply(  # type: ignore[no-untyped-call]
        # In a list: an input that is returned would become a view, which in-place operations of
        # what follows must not change.
        differentiable,
        [value],
        inside,
    )
    return result


class SimulatedLinear(FusedLinear):
    """A Linear layer that is being prepared for int8; made by :func:`fastmnist.prepare`."""

    observer: InputObserver

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("SimulatedLinear: made by fm.prepare and fm.prepare_qat only")

    @classmethod
    def prepare(
        cls, layer: nn.Linear, name: str, settings: Settings, inputs: ModelInputs
    ) -> SimulatedLinear:
        """Make `layer` itself a prepared one."""
        if not isinstance(layer, FusedLinear):
            FusedLinear.of(layer, NO_CLAMP)
        layer.__class__ = cls
        assert isinstance(layer, SimulatedLinear)
        layer.name, layer.settings, layer.inputs = name, settings, inputs
        layer.observing, layer.simulating = True, settings.training
        layer.watcher, layer.weight_scales, layer.dynamic = None, None, False
        observer = InputObserver(layer.in_features, settings.rule)
        layer.observer = observer.to(layer.weight.device)
        layer.observer.train(layer.training)
        return layer

    settings: Settings
    inputs: ModelInputs
    observing: bool
    simulating: bool
    # Of others, in place of the settings' rules: who sees the inputs too, and gives scale and zero
    # point; the scales of the weight; whether each row is to have a scale of its own.
    watcher: nn.Module | None
    weight_scales: WeightScales | None
    dynamic: bool

    def released(self) -> FusedLinear:
        """Make the layer itself a float one again."""
        for name in ("settings", "inputs", "observing", "simulating", "weight_scales", "dynamic"):
            del self.__dict__[name]
        del self.observer, self.watcher
        self.__class__ = FusedLinear  # type: ignore[assignment]
        return self

    def forward(self, input: Tensor) -> Tensor:
        if self.observing and (self.training or not self.settings.training):
            self._observe(input)
        if not (self.simulating and self.observer.started):
            return super().forward(input)
        return self._simulate(input)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _observe(self, x: Tensor) -> None:
        if x.dim() < 1 or x.shape[-1] != self.in_features or not x.is_floating_point():
            return  # F.linear says what is wrong with it
        if not self.settings.training and not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"calibration: expected finite inputs to layer '{self.name}', got NaN or inf: "
                "clean the calibration data, or look for an overflow before that layer"
            )
        if self.follows_norm:
            check_rows(self.name, x)
        self.observer.watch(x, self.inputs.position_of(x), self.inputs.calls)
        if self.watcher is not None:
            self.watcher(x.detach())

    # ---- what the layer will be ------------------------------------------------------------

    def input_rule(self) -> InputRule:
        """Decide how the layer's inputs become codes.

        Pixels are pinned; raw table columns, known by a BatchNorm1d that led or by `per_feature`,
        get a multiplier and offset each; everything else gets one scale and zero point.
        """
        if self.dynamic:
            return InputRule()
        if self.watcher is not None:
            return rule_from_qparams(self.name, self.watcher)
        seen, wanted = self.observer, self.settings.per_feature
        pixels = self.inputs.pixels
        if pixels is not None and seen.is_first_input and wanted is not True:
            return rule_from_pixels(pixels, self.in_features)
        if self.columns_differ if wanted is None else wanted and seen.is_model_input:
            lo, hi = (c.double().cpu().numpy() for c in (seen.column_lo, seen.column_hi))
            return rule_from_columns(lo, hi, self.folded()[0].cpu().numpy())
        return rule_from_range(*seen.range())

    def final_rule(self) -> InputRule:
        """The rule of the layer that is made at last: with the zeros that were seen."""
        rule = self.input_rule()
        lowest, share = self.observer.lowest()
        if self.dynamic or rule.zero_point != 0 or share is None:
            return rule  # a code of 0 is no zero, or nobody counted
        zeros = np.where(codes_of(lowest, rule) == 0, share, 0.0)
        if not self.observer.is_model_input:  # neurons have no place: one number does, in files too
            zeros[:] = zeros.mean()
        return replace(rule, zeros=np.rint(ZEROS_OF * zeros).astype(np.uint8))

    def quantized(self, rule: InputRule) -> QuantizedLayer:
        """Quantize the layer as it is now, for inputs that follow `rule`."""
        folded, bias = (t.cpu() for t in self.folded())
        layer = FloatLayer(self.name, folded.numpy(), bias.numpy(), self.clamp)
        given = None
        if self.weight_scales is not None:
            if rule.multiplier is not None and rule.scale == 1.0:
                folded = folded / torch.from_numpy(rule.multiplier)  # as it will be quantized
            scales, lo, hi = self.weight_scales(folded)
            given = scales.numpy(), lo, hi
        return quantize_layer(layer, rule, self.settings.per_channel, given)

    # ---- what it computes meanwhile --------------------------------------------------------

    def _simulate(self, x: Tensor) -> Tensor:
        if self.norm_before is not None and self.norm_before.training:
            with torch.no_grad():
                self.norm_before(x)  # its statistics go on
        follows_batches = self.norm_after is not None and self.norm_after.training
        rule = self.input_rule()
        exact = None
        if not follows_batches and self._is_exact_here(x):
            exact = self._exact(x, rule)
            if not torch.is_grad_enabled():
                return exact
        simulated = self._simulated(x, rule, follows_batches)
        return simulated if exact is None else _straight_through(simulated, exact, None)

    def _is_exact_here(self, x: Tensor) -> bool:
        return (
            type(x) in (Tensor, nn.Parameter)
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and not is_dynamo_compiling()
            and not torch._C._functorch.maybe_current_level()
        )

    @torch.no_grad()
    def _exact(self, x: Tensor, rule: InputRule) -> Tensor:
        kind = "dynamic" if self.dynamic else "static" if rule.multiplier is None else "affine"
        layers = (self.quantized(rule),)
        network = QuantizedNetwork(layers, kind, rule.multiplier, rule.offset, rule.pixels)
        packed = torch.from_numpy(pack(network, [[]]))
        y: Tensor = _ops.mlp(x.detach().contiguous(), packed, self.out_features)
        return y

    def _simulated(self, x: Tensor, rule: InputRule, follows_batches: bool) -> Tensor:
        weight: Tensor = self.weight
        bias: Tensor = zeros_for(weight) if self.bias is None else self.bias
        gain: Tensor | None = None
        if self.norm_before is not None:
            column_gain, shift = _gain_and_shift(self.norm_before)
            weight, bias = weight * column_gain, bias + weight @ shift
        norm = self.norm_after
        if norm is not None:
            gain, shift = _gain_and_shift(norm)
            gain = torch.where(gain == 0, torch.ones_like(gain), gain)
            weight = weight * gain[:, None]
            if not follows_batches:
                bias = bias * gain + shift
        x_codes = _fake_rows(x) if self.dynamic else _fake_input(x, rule)
        w_codes = _fake_weight(weight, rule, self.settings.per_channel, self.weight_scales)
        if norm is None or gain is None or not follows_batches:
            return self.activate(F.linear(x_codes, w_codes, bias))
        # The weights are quantized as they will be when folded; the norm sees what it would see
        # without (B. Jacob et al., "Quantization and training of neural networks for efficient
        # integer-arithmetic-only inference", CVPR 2018, section 3.2).
        return self.activate(norm(F.linear(x_codes, w_codes) / gain + bias))

    def get_extra_state(self) -> Tensor:
        # A tensor, as everything in a state_dict: what averages, clones or saves those goes on.
        holds = [int(holds) for holds in self.inputs.state()]
        return torch.tensor([int(self.observing), int(self.simulating), self.inputs.calls, *holds])

    def set_extra_state(self, state: Any) -> None:
        observing, simulating, calls, *holds = (round(float(value)) for value in state)
        self.observing, self.simulating = observing > 0, simulating > 0
        if calls:
            self.inputs.load_state([value > 0 for value in holds])

    def extra_repr(self) -> str:
        what = "simulates int8" if self.simulating else "observes"
        return f"{super().extra_repr()}, {what}"


def rule_from_qparams(name: str, watcher: nn.Module) -> InputRule:
    """The rule of a layer whose inputs were watched by an observer of somebody's own.

    Signed codes with zero point z are unsigned ones with zero point z + 128, exactly.

    Raises
    ------
    ValueError
        If it does not give one scale above 0 and one zero point that is a code.
    """
    scale, zero_point = watcher.calculate_qparams()  # type: ignore[operator]
    scales, zeros = (torch.as_tensor(t).detach().reshape(-1).tolist() for t in (scale, zero_point))
    shift = 128 if str(getattr(watcher, "dtype", "")) in ("torch.qint8", "torch.int8") else 0
    fits = len(scales) == len(zeros) == 1 and 0 < scales[0] < torch.inf
    if not (fits and zeros[0] == round(zeros[0]) and 0 <= zeros[0] + shift <= 255):
        raise ValueError(
            f"layer '{name}': expected {type(watcher).__name__} to give one scale above 0 and one "
            f"zero point from {-shift} to {255 - shift}, got {scales[:3]} and {zeros[:3]}"
        )
    return InputRule(scales[0], int(zeros[0]) + shift)


def _gain_and_shift(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """As :func:`fastmnist.layers.batchnorm.affine`, with gradients to the norm's own parameters."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # Copies: the norm changes its statistics in place while gradients still need these.
    gain = (norm.running_var.clone() + norm.eps).rsqrt()
    gain = gain if norm.weight is None else gain * norm.weight
    shift = -norm.running_mean.clone() * gain
    return gain, shift if norm.bias is None else shift + norm.bias


def _fake_input(x: Tensor, rule: InputRule) -> Tensor:
    """The values that the codes of `x` stand for; gradients where nothing saturated."""
    with torch.no_grad():
        real = x.float()
        if rule.multiplier is not None and rule.offset is not None:
            multiplier = torch.from_numpy(rule.multiplier).to(x.device)
            offset = torch.from_numpy(rule.offset).to(x.device)
            codes = torch.round(real * multiplier + offset)
            value = (codes.clamp(0, 255) - offset) / multiplier
        else:
            codes = torch.round(real * (1.0 / rule.scale)) + rule.zero_point
            value = (codes.clamp(0, 255) - rule.zero_point) * rule.scale
        inside = (codes >= 0) & (codes <= 255)
    return _straight_through(x, value.to(x.dtype), inside)


def _fake_rows(x: Tensor) -> Tensor:
    """The same where each row has a scale of its own, which nothing in it saturates."""
    with torch.no_grad():
        real = x.float()
        lo, hi = real.amin(-1, keepdim=True).clamp(max=0), real.amax(-1, keepdim=True).clamp(min=0)
        scale = hi / 255 - lo / 255
        scale = torch.where(scale < torch.finfo(torch.float32).tiny, 1.0, scale)
        zero_point = torch.round(-lo * (1.0 / scale)).clamp(0, 255)
        codes = (torch.round(real * (1.0 / scale)) + zero_point).clamp(0, 255)
        value = (codes - zero_point) * scale
    return _straight_through(x, value.to(x.dtype), None)


def _fake_weight(
    weight: Tensor, rule: InputRule, per_channel: bool, scales_of: WeightScales | None
) -> Tensor:
    """The values that the codes of `weight` stand for; none saturates."""
    with torch.no_grad():
        own = weight.float()
        columns = None
        if rule.multiplier is not None and rule.scale == 1.0:
            columns = 1.0 / torch.from_numpy(rule.multiplier).to(weight.device)
            own = own * columns
        if scales_of is None:
            largest = own.abs().amax(dim=1, keepdim=True) if per_channel else own.abs().amax()
            scale, least, most = largest / 127, -127, 127
            scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        else:
            scale, least, most = scales_of(own)
            scale = scale[:, None]
        value = torch.round(own / scale).clamp(least, most) * scale
        value = value if columns is None else value / columns
    return _straight_through(weight, value.to(weight.dtype), None)
