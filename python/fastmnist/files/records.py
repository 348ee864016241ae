"""A quantized network as plain JSON and arrays, and back, trusting neither."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist.files.fields import field, tensor
from fastmnist.int8.network import (
    KINDS,
    QuantizedLayer,
    QuantizedNetwork,
)
from fastmnist.int8.sparse_encoding import Encoded, decode
from fastmnist.pixels import PixelNormalization


def dense_arrays(description: dict[str, Any], arrays: Arrays) -> Arrays:
    """Put the arrays that are stored without their zeros among a model's others.

    Raises
    ------
    ValueError
        Naming the tensor whose parts are missing or do not belong together.
    """
    sparse = description.get("sparse", {})
    if not isinstance(sparse, dict):
        raise ValueError("field 'sparse': expected a table of shapes")
    dense = dict(arrays)
    for key, shape in sparse.items():
        bitmask, values = (dense.pop(f"{key}.{part}", None) for part in ("bitmask", "values"))
        if key in dense or bitmask is None or values is None or not isinstance(shape, list):
            raise ValueError(f"tensor '{key}': expected a shape, bitmask and values, nothing else")
        try:
            dense[key] = decode(Encoded(bitmask, values, tuple(shape)))
        except ValueError as error:
            raise ValueError(f"tensor '{key}': {error}") from None
    return dense


def network_from(description: dict[str, Any], arrays: Arrays) -> QuantizedNetwork:
    """Read one model's record as a chain of quantized layers.

    Raises
    ------
    ValueError
        If the record is damaged, or is no such chain.
    """
    arrays = dense_arrays(description, arrays)
    if description.get("type") == "compiled":
        return from_arrays(arrays, "network.", field(description, "network", dict))
    root = field(description, "replaced", dict).get("")
    if isinstance(root, dict) and root.get("type") == "quantized":
        return from_arrays(arrays, "", root)
    steps = description.get("chain")
    replaced = description.get("replaced")
    if (
        isinstance(replaced, dict)
        and "" in replaced
        and field(replaced[""], "type", str) == "quantized"
    ):
        return from_arrays(arrays, "", replaced[""])
    network: QuantizedNetwork | None = None
    for step in steps if isinstance(steps, list) else []:
        kind, path = field(step, "type", str), step.get("path")
        if kind == "quantized" and isinstance(replaced, dict) and isinstance(path, str):
            part = from_arrays(arrays, f"{path}.", field(replaced, path, dict))
            network = part if network is None else network.then(part)
        elif kind == "clamp" and network is not None:
            network = network.clamped(clamp_from_json(step))
        elif kind not in ("flatten", "rows", "identity", "dropout"):
            raise ValueError(f"it has a float layer ('{path}'), which needs torch: use fm.load")
    if network is None:
        raise ValueError("it is no chain of quantized layers: use fm.load with into=")
    return network


Arrays = dict[str, npt.NDArray[Any]]


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
