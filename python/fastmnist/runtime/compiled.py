"""The whole network as one native call. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import fastmnist._core as _core
from fastmnist.display.tables import Table
from fastmnist.int8.network import QuantizedLayer, QuantizedNetwork
from fastmnist.runtime.explanation import explained
from fastmnist.runtime.planning import pack_and_plan


class CompiledModel(_core.Model):
    """A quantized network that runs as one native call: rows in, float32 logits out.

    Made by :func:`fastmnist.compile` and :func:`fastmnist.load`. Immutable, so any number of
    threads may call one model at once. Pickles and deep-copies as canonical layers, which do not
    depend on the machine. Calling and :meth:`predict` are native: a Python method around them would
    cost as much as a small network itself. ``model(x, out=None)`` takes ``[N, ...]``, uint8 pixels
    or floats, NumPy or torch, and returns float32 ``[N, classes]`` of the same library, or `out`
    (a contiguous float32 array), and then allocates nothing.

    Parameters
    ----------
    network : QuantizedNetwork
        The layers, and how rows become codes.
    plan : {"measured", "fixed"}, optional
        How kernels are chosen: by measuring them here (some 15 ms for the digits network, once per
        shape and CPU), or by a rule. The default is ``FASTMNIST_PLAN``, else "measured". The
        answers are the same.

    Raises
    ------
    ValueError
        If `plan` is something else.

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> net = fm.compile(model, dynamic=True)
    >>> net(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, network: QuantizedNetwork, plan: str | None = None) -> None:
        packed, chosen = pack_and_plan(network, plan)
        super().__init__(packed)
        self._plan, self._wanted_plan = chosen, plan
        # Everything but the numbers, which the packed form already holds: they are unpacked when
        # somebody asks. What stands in for them has their shapes and takes no memory.
        self._network_without_weights = replace(
            network, layers=tuple(_without_numbers(layer) for layer in network.layers)
        )

    @property
    def network(self) -> QuantizedNetwork:
        """The canonical network that this model was made from, unpacked again."""
        layers = []
        for i, layer in enumerate(self._network_without_weights.layers):
            weight, weight_scale, bias = self.unpack(i)
            layers.append(replace(layer, weight=weight, weight_scale=weight_scale, bias=bias))
        return replace(self._network_without_weights, layers=tuple(layers))

    @property
    def layers(self) -> tuple[QuantizedLayer, ...]:
        """The fused layers: name, weight, weight_scale, bias, clamp, input scale, zero point."""
        return self.network.layers

    @property
    def plan(self) -> str:
        """How kernels were chosen: "measured" or "fixed"."""
        return self._plan.mode

    @property
    def pixels(self) -> Any:
        """What a uint8 pixel stands for (mean, std), or None if uint8 rows are refused."""
        return self._network_without_weights.pixels

    def predict_proba(self, x: Any) -> Any:
        """Return each row's softmax: float32 ``[N, classes]``, of `x`'s library.

        Raises
        ------
        ValueError
            If the network has a single output; otherwise as calling the model does.
        """
        if self.out_features < 2:
            raise ValueError("predict_proba: expected a network with at least two outputs, got 1")
        logits = self(x)
        if not isinstance(logits, np.ndarray):
            return logits.softmax(dim=1)
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits

    def explain(self, rows: Sequence[int] = (1, 32, 1024)) -> Table:
        """Say what runs, how near it comes to what one core can do, and why others lost.

        Parameters
        ----------
        rows : sequence of int
            The batches to speak of.

        Returns
        -------
        Table
            A line per layer and batch: the kernel (instruction set), its tile (rows × panels of 16
            outputs), the time measured for a batch, or for the 96 rows that stand for
            larger ones, the share of the core's limit (int8 products per second, or reading the
            weights, whichever takes longer), and how much slower other kernels were. Measures the
            limits when it is first called (under a second).

        Raises
        ------
        ValueError
            If `rows` holds something else than positive integers.
        """
        return explained(self.network, self._plan, rows, self._input_rule)

    def _input_rule(self, i: int) -> str:
        layer = self._network_without_weights.layers[i]
        if self._network_without_weights.kind == "dynamic":
            return "scale per row"
        if i == 0 and self._network_without_weights.kind == "affine":
            return "multiplier and offset per feature"
        return f"scale {layer.input_scale:.4g}, zero point {layer.input_zero_point}"

    def __repr__(self) -> str:
        network = self._network_without_weights
        chain = "-".join(str(n) for n in (network.inputs, *(x.outputs for x in network.layers)))
        return f"CompiledModel({chain}, int8 {network.kind}, {self.nbytes:,} bytes)"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.network, self._wanted_plan)

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledModel:
        return self  # immutable


def _without_numbers(layer: QuantizedLayer) -> QuantizedLayer:
    def shape_of(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.broadcast_to(np.zeros((), array.dtype), array.shape)

    return replace(
        layer,
        weight=shape_of(layer.weight),
        weight_scale=shape_of(layer.weight_scale),
        bias=shape_of(layer.bias),
    )
