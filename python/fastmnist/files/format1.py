"""Files of format 1, as fastmnist 0.1 wrote them before quantized layers stood alone.

There a chain of layers was merged into its first one: ``<path>.layers.<i>.weight`` and so on, with
a name each, and "identity" under the others' paths. Here such a record becomes one of today's,
layer by layer; the numbers, and so the answers, are the same bits.
"""

from __future__ import annotations

from typing import Any

from fastmnist.files.fields import required_field
from fastmnist.files.records import Arrays

_OLD_KEYS = {"weight": "weight_int8"}


def upgraded(description: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """One model's record in today's form.

    Raises
    ------
    ValueError
        If the record is not as it should be.
    """
    arrays, described = dict(arrays), dict(description)
    renamed: dict[str, str] = {}
    if described.get("type") == "compiled":
        _name_layers(described.get("network"), "network.", "network.layers.{i}.", renamed)
    elif described.get("type") == "module":
        replaced = dict(required_field(described, "replaced", dict))
        for path, part in [*replaced.items()]:
            if isinstance(part, dict) and part.get("type") == "quantized":
                replaced |= _parted(path, part, replaced, renamed)
            elif isinstance(part, dict) and part.get("type") == "recurrent":
                replaced[path] = _recurrent(path, part, renamed)
        described["replaced"] = replaced
        described["chain"] = _chain(described.get("chain"), replaced)
        described["changes"] = _changes(described.get("changes"))
    return described, {renamed.get(key, key): array for key, array in arrays.items()}


def _name_layers(record: Any, old: str, new: str, renamed: dict[str, str]) -> None:
    """Note how the tensors of a merged network's layers are called now."""
    rows = required_field(record, "layers", list)
    for i in range(len(rows)):
        at, to = f"{old}layers.{i}.", new.replace("{i}", str(i))
        for key in ("weight", "weight_scale", "bias", "input_scale", "input_zero_point"):
            renamed[f"{at}{key}"] = f"{to}{_OLD_KEYS.get(key, key)}"
    for key in ("input_multiplier", "input_offset"):
        renamed[f"{old}{key}"] = f"{new.replace('{i}', '0')}{key}"


def _parted(
    path: str, part: dict[str, Any], replaced: dict[str, Any], renamed: dict[str, str]
) -> dict[str, Any]:
    """The layers of a merged chain, each at its own path."""
    prefix = f"{path}." if path else ""
    rows = required_field(part, "layers", list)
    kind = required_field(part, "kind", str)
    paths = [path]
    for row in rows[1:]:
        name = required_field(row, "name", str)
        # A chain that was loaded and saved again has underscores for dots.
        at = next(
            (n for n in (name, name.replace(".", "_")) if _is_identity(replaced.get(n))), None
        )
        if at is None:
            raise ValueError(f"'{path}': expected 'identity' in the place of its layer '{name}'")
        paths.append(at)
    if len({*paths}) != len(paths):
        raise ValueError(f"'{path}': expected each of its layers once, got {paths}")
    layers: dict[str, Any] = {}
    for i, (at, row) in enumerate(zip(paths, rows, strict=True)):
        to = f"{at}." if at else ""
        one = {"layers": [row]}
        own: dict[str, str] = {}
        _name_layers(one, "", to, own)
        for old, new in own.items():
            if old.startswith("layers.0."):
                renamed[f"{prefix}layers.{i}.{old.removeprefix('layers.0.')}"] = new
            elif i == 0:
                renamed[f"{prefix}{old}"] = new
        layers[at] = {
            "type": "int8",
            "name": required_field(row, "name", str),
            "clamp": row.get("clamp"),
            "kind": kind if i == 0 or kind != "affine" else "static",
            "pixels": part.get("pixels") if i == 0 else None,
        }
    return layers


def _is_identity(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "identity"


def _recurrent(path: str, part: dict[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    prefix = f"{path}." if path else ""
    layers = {}
    for inner, chain in required_field(part, "chains", dict).items():
        _name_layers(chain, f"{prefix}{inner}.", f"{prefix}{inner}.", renamed)
        (row,) = required_field(chain, "layers", list)[:1] or [{}]
        layers[inner] = {
            "type": "int8",
            "name": required_field(row, "name", str),
            "clamp": row.get("clamp"),
            "kind": required_field(chain, "kind", str),
            "pixels": chain.get("pixels"),
        }
    return {**part, "layers": layers}


def _chain(chain: Any, replaced: dict[str, Any]) -> Any:
    """The same steps; what was merged into the first layer stands at its own step."""
    if not isinstance(chain, list):
        return chain
    steps = []
    for step in chain:
        path = step.get("path") if isinstance(step, dict) else None
        part = replaced.get(path) if isinstance(path, str) else None
        if isinstance(part, dict) and part.get("type") in ("int8", "fused", "half"):
            steps.append({"type": part["type"], "path": path})
        else:
            steps.append(step)
    return steps


def _changes(changes: Any) -> Any:
    """What was said in words: a sentence stays one."""
    if not isinstance(changes, list):
        return changes
    kinds = {"dropped": "dropped"}
    return [
        {"layer": str(entry[0]), "kind": kinds.get(str(entry[1]), "other"), "after": str(entry[1])}
        for entry in changes
        if isinstance(entry, list) and len(entry) == 2
    ]
