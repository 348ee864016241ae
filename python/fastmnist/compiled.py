"""The whole network as one native call. Free of torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist import _core
from fastmnist.canonical import QuantizedLayer, QuantizedNetwork
from fastmnist.tables import Table


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

    Examples
    --------
    >>> import fastmnist as fm, torch
    >>> model = fm.NeuralNetwork()
    >>> net = fm.compile(model, dynamic=True)
    >>> net(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self, network: QuantizedNetwork) -> None:
        super().__init__(network.pack())
        # Everything but the numbers, which the packed form already holds: they are unpacked when
        # somebody asks. What stands in for them has their shapes and takes no memory.
        self._shell = replace(
            network, layers=tuple(_without_numbers(layer) for layer in network.layers)
        )

    @property
    def network(self) -> QuantizedNetwork:
        """The canonical network that this model was made from, unpacked again."""
        layers = []
        for i, layer in enumerate(self._shell.layers):
            weight, weight_scale, bias = self.unpack(i)
            layers.append(replace(layer, weight=weight, weight_scale=weight_scale, bias=bias))
        return replace(self._shell, layers=tuple(layers))

    @property
    def layers(self) -> tuple[QuantizedLayer, ...]:
        """The fused layers: name, weight, weight_scale, bias, clamp, input scale, zero point."""
        return self.network.layers

    @property
    def pixels(self) -> Any:
        """What a uint8 pixel stands for (mean, std), or None if uint8 rows are refused."""
        return self._shell.pixels

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

    def explain(self) -> Table:
        """Say what runs: each layer's shape, kernel, activation, input rule and bytes."""
        isa = _core.cpu_info()["isa"]
        table = Table(
            f"{self.in_features} → {self.out_features}, {self._shell.kind}, kernels: {isa}",
            ["layer", "shape", "activation", "input", "kernel", "weights"],
        )
        for i, layer in enumerate(self._shell.layers):
            table.row(
                layer.name,
                f"{layer.inputs} → {layer.outputs}",
                layer.activation or "none",
                self._input_rule(i),
                f"{isa} int8",
                f"{layer.weight.nbytes / 1024:.1f} KB",
            )
        pixels = self.pixels
        table.note(
            "uint8 rows are refused: the model does not know what a pixel stands for"
            if pixels is None
            else f"uint8 rows: pixel p stands for {pixels.formula}"
        )
        return table

    def _input_rule(self, i: int) -> str:
        layer = self._shell.layers[i]
        if self._shell.kind == "dynamic":
            return "scale per row"
        if i == 0 and self._shell.kind == "affine":
            return "multiplier and offset per feature"
        return f"scale {layer.input_scale:.4g}, zero point {layer.input_zero_point}"

    def __repr__(self) -> str:
        widths = [self.in_features, *(layer.outputs for layer in self._shell.layers)]
        chain = "-".join(str(w) for w in widths)
        return f"CompiledModel({chain}, int8 {self._shell.kind}, {self.nbytes:,} bytes)"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.network,)

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
