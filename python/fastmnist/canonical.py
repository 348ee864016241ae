"""Quantized networks as they are saved, exported and compared: plain NumPy, no machine in it.

A :class:`QuantizedNetwork` is a list of int8 layers and the rule by which rows become codes. It is
what files and pickles hold, what torch modules hold as buffers, and what ``_core`` packs for the
instruction set that it finds. Free of torch.

The input rule is one of three *kinds* (design, "Arithmetic"):

``static``
    one scale and zero point for each layer's input;
``affine``
    static, but the network's own input has a real multiplier and offset per feature,
    ``q_j = rne(x_j * multiplier_j + offset_j)``, folded into the first layer;
``dynamic``
    scale and zero point per row, from the row's own range, at every layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist import _core
from fastmnist.pixels import PixelNormalization
from fastmnist.planning import Plan, Shape, plan_into, plan_mode
from fastmnist.sparse_encoding import Encoded, decode, encode

F32 = npt.NDArray[np.float32]
I8 = npt.NDArray[np.int8]

KINDS = ("static", "affine", "dynamic")
MAX_INPUTS = 65_536
NO_CLAMP = (-math.inf, math.inf)


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """One fused Linear(+activation): ``clamp(x @ weight.T * scale + bias)``.

    Attributes
    ----------
    name : str
        Where it was in the model it came from.
    weight : int8 ``[outputs, inputs]``
    weight_scale : float32 ``[outputs]``
        Real weight = code x scale.
    bias : float32 ``[outputs]``
    clamp : (float, float)
        ``(0, inf)`` is ReLU, ``(0, 6)`` ReLU6, ``(-inf, inf)`` none.
    input_scale, input_zero_point : float, int
        What a code of this layer's input stands for; 1 and 0 in dynamic networks.
    """

    name: str
    weight: I8
    weight_scale: F32
    bias: F32
    clamp: tuple[float, float] = NO_CLAMP
    input_scale: float = 1.0
    input_zero_point: int = 0

    @property
    def inputs(self) -> int:
        return int(self.weight.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.weight.shape[0])

    @property
    def activation(self) -> str:
        return activation_name(self.clamp)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the zeros, where that is smaller."""
        encoded = encode(self.weight)
        return self.__dict__ | ({} if encoded is None else {"weight": encoded})

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight = state["weight"]
        if isinstance(weight, Encoded):
            state = state | {"weight": decode(weight)}
        self.__dict__.update(state)

    def native(self) -> _core.Layer:
        return _core.Layer(
            self.weight,
            self.weight_scale,
            self.bias,
            *self.clamp,
            self.input_scale,
            self.input_zero_point,
        )


@dataclass(frozen=True, eq=False)
class QuantizedNetwork:
    """A chain of quantized layers and the rule that turns rows into codes.

    Attributes
    ----------
    layers : tuple of QuantizedLayer
    kind : {"static", "affine", "dynamic"}
    multiplier, offset : float32 ``[inputs]`` or None
        Of kind ``affine`` only.
    pixels : PixelNormalization or None
        What a uint8 pixel stands for; None if uint8 rows are refused.
    """

    layers: tuple[QuantizedLayer, ...]
    kind: str = "static"
    multiplier: F32 | None = None
    offset: F32 | None = None
    pixels: PixelNormalization | None = None

    @property
    def inputs(self) -> int:
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        return self.layers[-1].outputs

    def pack(self, forms: list[list[str]] | None = None) -> npt.NDArray[np.uint8]:
        """Lay the network out for this machine's kernels: one uint8 buffer.

        `forms` names per layer the sparse forms that are wanted beside the dense one ("bitmask",
        "picks"); None takes those that may pay.
        """
        table = None
        if self.pixels is not None and self.kind == "dynamic":
            table = pixel_table(self.pixels)
        return _core.pack(
            [layer.native() for layer in self.layers],
            self.kind,
            self.pixels is not None and self.kind != "dynamic",
            self.multiplier,
            self.offset,
            table,
            forms,
        )

    def shapes(self) -> list[Shape]:
        """Tell the planner what the layers' speed depends on."""
        last = len(self.layers) - 1
        dynamic = self.kind == "dynamic"
        return [
            Shape(layer.inputs, layer.outputs, i < last and not dynamic, dynamic)
            for i, layer in enumerate(self.layers)
        ]

    def planned(self, mode: str | None = None) -> tuple[npt.NDArray[np.uint8], Plan]:
        """Pack, and choose kernels: see :mod:`fastmnist.planning`."""
        mode = plan_mode(mode)
        packed = self.pack()
        about = f"{self.kind}{' pixels' * (self.pixels is not None)}"
        plan = plan_into(packed, self.shapes(), mode, about)
        # Forms of weights that no kernel of the plan reads would only take memory.
        made = [packed_forms(packed, i) for i in range(len(self.layers))]
        used = [
            [form for form in forms if any(name.endswith(f" {form}") for name in (*one, *many))]
            for forms, one, many in zip(made, plan.kernels, plan.threaded, strict=True)
        ]
        if used != made:
            packed = self.pack(used)
            if mode == "measured":
                one, many = ([[*names] for names in p] for p in (plan.kernels, plan.threaded))
                _core.set_plan(packed, one, plan.block_rows, many)
        return packed, plan

    def clamped(self, clamp: tuple[float, float]) -> QuantizedNetwork:
        """Put an activation behind the last layer's own."""
        last = self.layers[-1]
        last = replace(last, clamp=compose(last.clamp, clamp))
        return replace(self, layers=(*self.layers[:-1], last))

    def then(self, other: QuantizedNetwork) -> QuantizedNetwork:
        """Hand this network's outputs to `other` as codes (or rows, if both are dynamic)."""
        if (self.kind == "dynamic") != (other.kind == "dynamic"):
            raise ValueError(
                "a dynamic layer next to a static one cannot become one native call: quantize "
                "the whole model one way"
            )
        if other.kind == "affine":
            raise ValueError("only a network's own input can have multipliers per feature")
        return QuantizedNetwork(
            self.layers + other.layers, self.kind, self.multiplier, self.offset, self.pixels
        )


def packed_forms(packed: npt.NDArray[np.uint8], i: int) -> list[str]:
    """The sparse forms in which a packed network holds layer `i`."""
    sizes = _core.layer_forms(packed, i)
    return [form for form in ("bitmask", "picks") if sizes[form]]


def compose(inner: tuple[float, float], outer: tuple[float, float]) -> tuple[float, float]:
    """The one clamp that equals `inner` followed by `outer`."""

    def bound(value: float) -> float:
        return min(max(value, outer[0]), outer[1])

    return bound(inner[0]), bound(inner[1])


def activation_name(clamp: tuple[float, float]) -> str:
    """What people call the clamp: "", "ReLU", "ReLU6" or "Hardtanh(lo, hi)"."""
    names = {NO_CLAMP: "", (0.0, math.inf): "ReLU", (0.0, 6.0): "ReLU6"}
    return names.get(clamp, f"Hardtanh({clamp[0]:g}, {clamp[1]:g})")


def pixel_table(pixels: PixelNormalization) -> F32:
    """The real value of each of the 256 pixels, per channel: float32 ``[channels, 256]``."""
    every = np.arange(256, dtype=np.uint8)
    one_channel = [
        PixelNormalization((mean,), (std,)).to_float(every)
        for mean, std in zip(pixels.mean, pixels.std, strict=True)
    ]
    return np.ascontiguousarray(np.stack(one_channel), dtype=np.float32)


def to_arrays(network: QuantizedNetwork, prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The network's tensors, under the names that a module's ``state_dict`` gives them."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    if network.multiplier is not None and network.offset is not None:
        arrays[f"{prefix}input_multiplier"] = network.multiplier
        arrays[f"{prefix}input_offset"] = network.offset
    for i, layer in enumerate(network.layers):
        at = f"{prefix}layers.{i}."
        arrays[f"{at}weight"] = layer.weight
        arrays[f"{at}weight_scale"] = layer.weight_scale
        arrays[f"{at}bias"] = layer.bias
        if network.kind != "dynamic":
            arrays[f"{at}input_scale"] = np.array(layer.input_scale, np.float32)
            arrays[f"{at}input_zero_point"] = np.array(layer.input_zero_point, np.int32)
    return arrays


def to_description(network: QuantizedNetwork) -> dict[str, Any]:
    """What :func:`to_arrays` leaves out, as plain JSON."""
    return {
        "kind": network.kind,
        "pixels": pixels_to_json(network.pixels),
        "layers": [
            {"name": layer.name, "clamp": [bound_to_json(b) for b in layer.clamp]}
            for layer in network.layers
        ],
    }


def from_arrays(
    arrays: Mapping[str, npt.NDArray[Any]], prefix: str, description: Any
) -> QuantizedNetwork:
    """Rebuild a network from :func:`to_arrays` and :func:`to_description`, trusting neither.

    Raises
    ------
    ValueError
        Naming the tensor or field that is missing or not as it should be.
    """
    kind = field(description, "kind", str)
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got '{kind}'")
    rows = field(description, "layers", list)
    if not 1 <= len(rows) <= 1024:
        raise ValueError(f"layers: expected 1 to 1024, got {len(rows)}")
    layers = tuple(
        _layer_from(arrays, f"{prefix}layers.{i}.", kind, row) for i, row in enumerate(rows)
    )
    multiplier = offset = None
    if kind == "affine":
        shape = (layers[0].inputs,)
        multiplier = tensor(arrays, f"{prefix}input_multiplier", np.float32, shape)
        offset = tensor(arrays, f"{prefix}input_offset", np.float32, shape)
    pixels = pixels_from_json(description.get("pixels"))
    if pixels is not None:
        pixels.per_feature(layers[0].inputs)  # refuses channels that do not divide the features
    return QuantizedNetwork(layers, kind, multiplier, offset, pixels)


def _layer_from(
    arrays: Mapping[str, npt.NDArray[Any]], at: str, kind: str, row: Any
) -> QuantizedLayer:
    weight = tensor(arrays, f"{at}weight", np.int8, (None, None))
    outputs = int(weight.shape[0])
    scale, zero_point = 1.0, 0
    if kind != "dynamic":
        scale = float(tensor(arrays, f"{at}input_scale", np.float32, ()))
        zero_point = int(tensor(arrays, f"{at}input_zero_point", np.int32, ()))
    return QuantizedLayer(
        name=field(row, "name", str),
        weight=weight,
        weight_scale=tensor(arrays, f"{at}weight_scale", np.float32, (outputs,)),
        bias=tensor(arrays, f"{at}bias", np.float32, (outputs,)),
        clamp=clamp_from_json(row),
        input_scale=scale,
        input_zero_point=zero_point,
    )


def tensor(
    arrays: Mapping[str, npt.NDArray[Any]],
    name: str,
    dtype: type[np.generic],
    shape: tuple[int | None, ...],
) -> npt.NDArray[Any]:
    """The named array, after checking its dtype and shape (None: any size)."""
    if name not in arrays:
        raise ValueError(f"tensor '{name}' is missing")
    array = arrays[name]
    fits = len(array.shape) == len(shape) and all(
        want in (None, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        want = f"{np.dtype(dtype)} {['any' if s is None else s for s in shape]}"
        raise ValueError(f"tensor '{name}': expected {want}, got {array.dtype} {[*array.shape]}")
    return np.ascontiguousarray(array).reshape(array.shape)


def field(record: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    """``record[name]``, after checking that there is such a field and of which type."""
    if not isinstance(record, dict) or not isinstance(record.get(name), kind):
        raise ValueError(f"field '{name}': expected {_names(kind)}, got something else or nothing")
    return record[name]


def _names(kind: type | tuple[type, ...]) -> str:
    return kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)


def bound_to_json(bound: float) -> float | str:
    """JSON has no infinity: "inf" and "-inf" stand for it."""
    return float(bound) if math.isfinite(bound) else str(bound)


def clamp_from_json(record: Any) -> tuple[float, float]:
    """The field "clamp" of a record: two bounds in order."""
    bounds = field(record, "clamp", list)
    if len(bounds) != 2:
        raise ValueError(f"clamp: expected two bounds, got {len(bounds)}")
    lo, hi = map(_bound_from_json, bounds)
    if lo > hi:
        raise ValueError(f"clamp: expected the lower bound first, got {bounds}")
    return lo, hi


def _bound_from_json(bound: Any) -> float:
    if bound in ("inf", "-inf"):
        return float(bound)
    if isinstance(bound, int | float) and not isinstance(bound, bool) and abs(bound) < 3.5e38:
        return float(bound)
    raise ValueError(f"clamp: expected a number, 'inf' or '-inf', got {bound!r}")


def pixels_to_json(pixels: PixelNormalization | None) -> dict[str, list[float]] | None:
    """Plain lists, or None."""
    return None if pixels is None else {"mean": [*pixels.mean], "std": [*pixels.std]}


def pixels_from_json(value: Any) -> PixelNormalization | None:
    """The reverse of what :func:`to_description` writes under "pixels"."""
    if value is None:
        return None
    try:
        return PixelNormalization.of(field(value, "mean", list), field(value, "std", list))
    except TypeError as error:
        raise ValueError(f"pixels: {error}") from None
