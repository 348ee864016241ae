"""A quantized network as plain JSON and arrays, and back, trusting neither.

The tensors of one layer are the same everywhere, in a module's ``state_dict`` and in a file::

    weight_int8        int8    [outputs, inputs]
    weight_scale       float32 [outputs]
    bias               float32 [outputs], or absent
    input_scale        float32 []                  static and affine
    input_zero_point   int32   []                  static and affine
    input_multiplier   float32 [inputs]            affine: a network's first layer only
    input_offset       float32 [inputs]            affine

How often calibration saw a zero in each input is a field of the description, "input_zeros": a
letter for each, from "A" (never) to "z" (always), and behind it how often in a row where that is
more than once ("z28Yz3"); or absent, as in every file of before.
"""

from __future__ import annotations

import itertools
import math
import re
import string
from collections.abc import Mapping
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmnist.files.fields import required_field, required_tensor
from fastmnist.int8.activation import Activation
from fastmnist.int8.network import KINDS, U8, QuantizedLayer, QuantizedNetwork
from fastmnist.pixels import PixelNormalization

Arrays = dict[str, npt.NDArray[Any]]
_MOST_LAYERS = 1024
_LETTERS = string.ascii_uppercase + string.ascii_lowercase
# Steps of a chain that change no value of an int8 network's rows.
_SILENT_STEPS = ("flatten", "rows", "identity", "dropout")


# ---- one layer -----------------------------------------------------------------------------------


def layer_arrays(network: QuantizedNetwork, i: int, prefix: str) -> Arrays:
    """The tensors of layer `i`."""
    layer = network.layers[i]
    arrays: Arrays = {
        f"{prefix}weight_int8": layer.weight,
        f"{prefix}weight_scale": layer.weight_scale,
        f"{prefix}bias": layer.bias,
    }
    if network.kind != "dynamic":
        arrays[f"{prefix}input_scale"] = np.array(layer.input_scale, np.float32)
        arrays[f"{prefix}input_zero_point"] = np.array(layer.input_zero_point, np.int32)
    if i == 0 and network.multiplier is not None and network.offset is not None:
        arrays[f"{prefix}input_multiplier"] = network.multiplier
        arrays[f"{prefix}input_offset"] = network.offset
    return arrays


def layer_from_arrays(
    arrays: Mapping[str, npt.NDArray[Any]], prefix: str, description: Any
) -> QuantizedNetwork:
    """A network of one layer, from :func:`layer_arrays` and its description.

    Parameters
    ----------
    description : dict
        ``kind`` ("static", "affine" or "dynamic"), ``name``, ``clamp``, ``pixels``, ``bias``,
        which is false where there is none, and maybe ``input_zeros``.

    Raises
    ------
    ValueError
        Naming the tensor or field that is missing or not as it should be.
    """
    kind = _checked_kind(description)
    layer = _layer_from(arrays, prefix, kind, description)
    multiplier = offset = None
    if kind == "affine":
        shape = (layer.inputs,)
        multiplier = required_tensor(arrays, f"{prefix}input_multiplier", np.float32, shape)
        offset = required_tensor(arrays, f"{prefix}input_offset", np.float32, shape)
    pixels = pixels_from_json(description.get("pixels"))
    if pixels is not None:
        pixels.per_feature(layer.inputs)  # refuses channels that do not divide the features
    return QuantizedNetwork((layer,), kind, multiplier, offset, pixels)


def _layer_from(
    arrays: Mapping[str, npt.NDArray[Any]], prefix: str, kind: str, description: Any
) -> QuantizedLayer:
    weight = required_tensor(arrays, f"{prefix}weight_int8", np.int8, (None, None))
    outputs = int(weight.shape[0])
    scale, zero_point = 1.0, 0
    if kind != "dynamic":
        scale = float(required_tensor(arrays, f"{prefix}input_scale", np.float32, ()))
        zero_point = int(required_tensor(arrays, f"{prefix}input_zero_point", np.int32, ()))
    bias = np.zeros(outputs, np.float32)
    if description.get("bias") is not False:
        bias = required_tensor(arrays, f"{prefix}bias", np.float32, (outputs,))
    return QuantizedLayer(
        name=required_field(description, "name", str),
        weight=weight,
        weight_scale=required_tensor(arrays, f"{prefix}weight_scale", np.float32, (outputs,)),
        bias=bias,
        clamp=clamp_from_json(description),
        function=function_from_json(description),
        input_scale=scale,
        input_zero_point=zero_point,
        input_zeros=_zeros_from_json(description, int(weight.shape[1])),
    )


def _checked_kind(description: Any) -> str:
    kind: str = required_field(description, "kind", str)
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got '{kind}'")
    return kind


# ---- a network -----------------------------------------------------------------------------------


def network_arrays(network: QuantizedNetwork, prefix: str) -> Arrays:
    """The tensors of all layers, each under ``<prefix>layers.<i>.``."""
    return {
        name: array
        for i in range(len(network.layers))
        for name, array in layer_arrays(network, i, f"{prefix}layers.{i}.").items()
    }


def network_to_json(network: QuantizedNetwork) -> dict[str, Any]:
    """What :func:`network_arrays` leaves out, as plain JSON."""
    return {
        "kind": network.kind,
        "pixels": pixels_to_json(network.pixels),
        "layers": [
            {
                "name": layer.name,
                "clamp": clamp_to_json(layer.clamp),
                **function_to_json(layer.function),
                **zeros_to_json(layer.input_zeros),
            }
            for layer in network.layers
        ],
    }


def network_from_arrays(
    arrays: Mapping[str, npt.NDArray[Any]], prefix: str, description: Any
) -> QuantizedNetwork:
    """Rebuild a network from :func:`network_arrays` and :func:`network_to_json`.

    Raises
    ------
    ValueError
        Naming the tensor or field that is missing or not as it should be.
    """
    kind = _checked_kind(description)
    rows = required_field(description, "layers", list)
    if not 1 <= len(rows) <= _MOST_LAYERS:
        raise ValueError(f"layers: expected 1 to {_MOST_LAYERS}, got {len(rows)}")
    parts = []
    for i, row in enumerate(rows):
        about = {"name": required_field(row, "name", str), "clamp": row.get("clamp")}
        about |= {key: row[key] for key in ("input_zeros", "function") if key in row}
        first = {"kind": kind, "pixels": description.get("pixels")}
        later = {"kind": "dynamic" if kind == "dynamic" else "static"}
        whole = {**about, **(later if i else first)}
        parts.append(layer_from_arrays(arrays, f"{prefix}layers.{i}.", whole))
    return reduce(QuantizedNetwork.then, parts)


def network_from(description: dict[str, Any], arrays: Arrays) -> QuantizedNetwork:
    """Read one model's record as a chain of quantized layers.

    Raises
    ------
    ValueError
        If the record is damaged, or is no such chain.
    """
    if description.get("type") == "compiled":
        whole = required_field(description, "network", dict)
        return network_from_arrays(arrays, "network.", whole)
    replaced = required_field(description, "replaced", dict)
    if "" in replaced and required_field(replaced[""], "type", str) == "int8":
        return layer_from_arrays(arrays, "", replaced[""])
    network: QuantizedNetwork | None = None
    steps = description.get("chain")
    for step in steps if isinstance(steps, list) else []:
        kind, path = required_field(step, "type", str), step.get("path")
        if kind == "int8" and isinstance(path, str):
            part = layer_from_arrays(arrays, f"{path}.", required_field(replaced, path, dict))
            network = part if network is None else network.then(part)
        elif kind == "clamp" and network is not None:
            network = network.clamped(clamp_from_json(step))
        elif kind not in _SILENT_STEPS:
            raise ValueError(
                f"expected int8 layers alone, got a float one ('{path}'), which needs torch: "
                "use fm.load, or save fm.compile(model), which runs without it"
            )
    if network is None:
        raise ValueError(
            "expected a chain of quantized layers, got another model, which needs torch: "
            "use fm.load with into="
        )
    return network


# ---- small things --------------------------------------------------------------------------------


def function_to_json(function: Activation | None) -> dict[str, Any]:
    """The field of a layer's description that tells of its function; none where it has none."""
    return {} if function is None else {"function": function.to_json()}


def function_from_json(record: Any) -> Activation | None:
    """The reverse."""
    told = record.get("function")
    return None if told is None else Activation.from_json(told)


def clamp_to_json(clamp: tuple[float, float]) -> list[float | str]:
    """Two bounds. JSON has no infinity: "inf" and "-inf" stand for it."""
    return [float(bound) if math.isfinite(bound) else str(bound) for bound in clamp]


def clamp_from_json(record: Any) -> tuple[float, float]:
    """The field "clamp" of a record: two bounds in order."""
    bounds = required_field(record, "clamp", list)
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


def zeros_to_json(zeros: U8 | None) -> dict[str, str]:
    """The field of a description that tells of a layer's zeros; none where they are not known."""
    if zeros is None:
        return {}
    runs = ((_LETTERS[share], len([*run])) for share, run in itertools.groupby(zeros.tolist()))
    return {"input_zeros": "".join(letter + str(n) * (n > 1) for letter, n in runs)}


def averaged_zeros(text: str) -> str:
    """The same field with each input as often zero as all are on average, which is shorter."""
    runs = [(k, int(n or 1)) for k, n in re.findall("([A-Za-z])([0-9]*)", text)]
    count = sum(n for _, n in runs)
    mean = round(sum(_LETTERS.index(k) * n for k, n in runs) / count) if count else 0
    return f"{_LETTERS[mean]}{count}" if count else text


def _zeros_from_json(record: Any, inputs: int) -> U8 | None:
    if record.get("input_zeros") is None:
        return None
    text = required_field(record, "input_zeros", str)
    zeros = np.empty(0, np.uint8)
    if re.fullmatch("([A-Za-z][0-9]{0,5})*", text):
        runs = re.findall("([A-Za-z])([0-9]*)", text)
        counts = [int(n or 1) for _, n in runs]
        if sum(counts) == inputs:
            zeros = np.repeat(np.array([_LETTERS.index(k) for k, _ in runs], np.uint8), counts)
    if len(zeros) != inputs:
        raise ValueError(
            f"input_zeros: expected letters for {inputs} inputs, got '{text[:40]}', {len(text)} "
            "characters"
        )
    return zeros


def pixels_to_json(pixels: PixelNormalization | None) -> dict[str, list[float]] | None:
    """Plain lists, or None."""
    return None if pixels is None else {"mean": [*pixels.mean], "std": [*pixels.std]}


def pixels_from_json(value: Any) -> PixelNormalization | None:
    """The reverse of :func:`pixels_to_json`."""
    if value is None:
        return None
    try:
        return PixelNormalization.of(
            required_field(value, "mean", list), required_field(value, "std", list)
        )
    except TypeError as error:
        raise ValueError(f"pixels: {error}") from None
