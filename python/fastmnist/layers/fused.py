"""A float Linear and the activation behind it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastmnist.files.records import (
    clamp_from_json,
    clamp_to_json,
    function_from_json,
    function_to_json,
)
from fastmnist.int8.activation import Activation
from fastmnist.int8.network import NO_CLAMP, activation_name
from fastmnist.layers.batchnorm import check_rows, fold_after, fold_before, zeros_for
from fastmnist.layers.functions import torchs
from fastmnist.layers.registry import Arrays, Description, saved, shape_of_weight


@saved("fused")
class FusedLinear(nn.Linear):
    """A Linear and the activation behind it, in float: ``clamp(x @ weight.T + bias)``.

    Attributes
    ----------
    clamp : (float, float)
        Bounds of the output; ``(0, inf)`` is ReLU.
    function : Activation or None
        What follows the clamp, of layers that were quantized with it and train on.
    columns_differ : bool
        Whether a BatchNorm1d that led here was folded in: the inputs are raw columns then, and
        quantization gives each a scale of its own.
    norm_before, norm_after : BatchNorm1d or None
        In models that train on, the norms that will be folded in: at the input, and between the
        product and the clamp.
    follows_norm : bool
        Whether there is, or was, such a norm: inputs must be rows of features then.
    name : str
        Where it is in the model, for errors; known where it follows a norm.
    """

    clamp: tuple[float, float]
    function: Activation | None = None
    columns_differ: bool
    norm_before: nn.BatchNorm1d | None
    norm_after: nn.BatchNorm1d | None
    follows_norm: bool
    name: str

    def __init__(
        self,
        in_features: int,
        out_features: int,
        clamp: tuple[float, float] = NO_CLAMP,
        columns_differ: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, dtype=torch.float32)
        self._fuse(clamp, columns_differ)

    @classmethod
    def of(
        cls, linear: nn.Linear, clamp: tuple[float, float], columns_differ: bool = False
    ) -> FusedLinear:
        """Make `linear` itself a fused one: it keeps parameters, masks, mode and names."""
        linear.__class__ = cls
        assert isinstance(linear, FusedLinear)
        linear._fuse(clamp, columns_differ)
        return linear

    def _fuse(self, clamp: tuple[float, float], columns_differ: bool) -> None:
        self.clamp, self.columns_differ = clamp, columns_differ
        self.norm_before = self.norm_after = None
        self.follows_norm, self.name = False, ""

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias with the norms folded in, float32."""
        with torch.no_grad():
            weight = self.weight.detach().float()
            bias = zeros_for(weight) if self.bias is None else self.bias.detach().float()
            if self.norm_before is not None:
                weight, bias = fold_before(weight, bias, self.norm_before)
            if self.norm_after is not None:
                weight, bias = fold_after(weight, bias, self.norm_after)
        return weight, bias

    def fold_norms(self) -> None:
        """Fold the norms for good: the layer is one for inference from here on."""
        if self.norm_before is not None or self.norm_after is not None:
            weight, bias = self.folded()
            self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
            self.norm_before = self.norm_after = None

    def activate(self, y: Tensor) -> Tensor:
        """Clamp outputs; exactly torch's functions, for their gradients too."""
        lo, hi = self.clamp
        if self.clamp == (0.0, math.inf):
            y = torch.relu(y)
        elif self.clamp != NO_CLAMP:
            y = F.hardtanh(y, lo, hi)
        return y if self.function is None else torchs(self.function)(y)

    def forward(self, input: Tensor) -> Tensor:
        if self.follows_norm:
            check_rows(self.name, input)
        if self.norm_before is not None:
            input = self.norm_before(input)
        y = F.linear(input, self.weight, self.bias)
        return self.activate(y if self.norm_after is None else self.norm_after(y))

    def describe(self) -> Description:
        """What a file has to tell besides the numbers, as plain JSON."""
        told: dict[str, Any] = {
            "type": "fused",
            "shape": [self.in_features, self.out_features],
            "clamp": clamp_to_json(self.clamp),
            **function_to_json(self.function),
            "columns_differ": self.columns_differ,
            "follows_norm": self.follows_norm,
            "name": self.name,
        }
        return told if self.bias is not None else {**told, "bias": False}

    @classmethod
    def rebuild(cls, description: Description, prefix: str, arrays: Arrays) -> FusedLinear:
        """Make one as described; its numbers are loaded later."""
        has_bias = description.get("bias") is not False
        outputs, inputs = shape_of_weight(description, prefix, arrays, has_bias=has_bias)
        differ = description.get("columns_differ") is True
        layer = FusedLinear(inputs, outputs, clamp_from_json(description), differ)
        layer.follows_norm = description.get("follows_norm") is True
        layer.name = str(description.get("name", ""))
        layer.function = function_from_json(description)
        if not has_bias:
            layer.bias = None  # type: ignore[assignment]
        return layer

    def extra_repr(self) -> str:
        names = (activation_name(self.clamp), self.function.title if self.function else "")
        return f"{super().extra_repr()}, activation={', '.join(filter(None, names)) or None}"
