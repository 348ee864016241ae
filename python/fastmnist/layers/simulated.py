"""The Linear layers of prepared models: float, trainable, and watched or simulating int8.

A :class:`SimulatedLinear` is the very Linear that it was, of another class: parameters, masks and
names stay. It observes its inputs; in quantization-aware training it also computes what the int8
layer will, with straight-through gradients (:mod:`fastmnist.layers.fake_quantize`)::

    x ─ observe ─ codes·scale ──┐ F.linear ─ [norm] ─ clamp ─► simulated ─► gradients
    weight ─ fold norm ─ codes·scale ┘                             │
                    └──► fastmnist::mlp on the same codes ─► exact ┴─► values (CPU, float32)

On the CPU in float32 the values are those of the int8 layer itself, so that a converted model
gives the same bits; elsewhere (CUDA, autocast, other dtypes, a norm that still follows its batches)
they are those of the simulation, in plain torch operations.
"""

from __future__ import annotations

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
    INT8,
    FloatLayer,
    InputRule,
    WeightRule,
    codes_of,
    quantize_layer,
    rule_from_columns,
    rule_from_pixels,
    rule_from_range,
)
from fastmnist.layers.batchnorm import check_rows, zeros_for
from fastmnist.layers.fake_quantize import (
    WeightScales,
    fake_input,
    fake_rows,
    fake_weight,
    fake_weight_learned,
    first_steps,
    straight_through,
)
from fastmnist.layers.fused import FusedLinear
from fastmnist.layers.kept import shares_values
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
    weights : WeightRule
    per_feature : bool or None
    training : bool
        Quantization-aware training: simulate, and observe in training mode only. Else calibrate:
        compute in float, observe always, and refuse NaN.
    check : float or None
        dB that the outputs of the converted model must reach.
    """

    rule: Rule
    weights: WeightRule = INT8
    per_feature: bool | None = None
    training: bool = False
    check: float | None = None


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
        layer.weight_step = None
        if settings.training and settings.weights.bits < 8 and not shares_values(layer):
            layer.weight_step = nn.Parameter(first_steps(layer.folded()[0], settings.weights))
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
    # Scales of weights of fewer than 8 bits, learned as in LSQ: ``[outputs]``, or ``[1]`` for all.
    weight_step: nn.Parameter | None

    def steps(self) -> Tensor:
        """The learned scales, above 0 whatever an optimizer made of them; with gradients."""
        assert self.weight_step is not None
        return self.weight_step.abs().clamp(min=torch.finfo(torch.float32).tiny).float()

    def _learns_steps(self, rule: InputRule) -> bool:
        """Not where the input's scales are folded into columns: they come with the data."""
        folds = rule.multiplier is not None and rule.scale == 1.0
        return self.weight_step is not None and self.weight_scales is None and not folds

    def released(self) -> FusedLinear:
        """Make the layer itself a float one again."""
        for name in ("settings", "inputs", "observing", "simulating", "weight_scales", "dynamic"):
            del self.__dict__[name]
        del self.observer, self.watcher, self.weight_step
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
        layer = FloatLayer(self.name, folded.numpy(), bias.numpy(), self.clamp, self.function)
        given = None
        if self._learns_steps(rule):
            most = self.settings.weights.most
            steps = self.steps().detach().cpu().expand(len(folded)).contiguous()
            if not bool(steps.isfinite().all()):
                raise ValueError(
                    f"layer '{self.name}': expected finite scales in its weight_step, got NaN or "
                    "inf: train from the weights before that with a lower learning rate"
                )
            given = steps.numpy(), -most, most
        elif self.weight_scales is not None:
            if rule.multiplier is not None and rule.scale == 1.0:
                folded = folded / torch.from_numpy(rule.multiplier)  # as it will be quantized
            scales, lo, hi = self.weight_scales(folded)
            given = scales.numpy(), lo, hi
        return quantize_layer(layer, rule, self.settings.weights, given)

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
        return simulated if exact is None else straight_through(simulated, exact, None)

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
        x_codes = fake_rows(x) if self.dynamic else fake_input(x, rule)
        if self._learns_steps(rule):
            w_codes = fake_weight_learned(weight, self.steps(), self.settings.weights)
        else:
            w_codes = fake_weight(weight, rule, self.settings.weights, self.weight_scales)
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
    """The rule of a layer whose inputs were watched by the user's own observer.

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
