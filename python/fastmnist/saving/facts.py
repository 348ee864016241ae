"""Plain facts of saved models: what they are, how they were made, how good they were."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastmnist.files.container import read
from fastmnist.files.fields import required_field
from fastmnist.rewriting.changes import Change

Facts = dict[str, Any]


def measured_facts(measured: Any, names: list[str]) -> dict[str, Facts]:
    """Give by name what was measured of each model, as plain JSON.

    Parameters
    ----------
    measured : None, Report, score, or mapping of str to score
        A score is what :func:`fastmnist.evaluate` gives, or a number.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or of a model that is not saved.
    """
    if measured is None:
        return {}
    if hasattr(measured, "rows") and hasattr(measured, "about"):
        about = {"n": measured.about.get("n"), "data": measured.about.get("data")}
        known = {row.name: row for row in measured.rows if row.name in names}
        if not known:
            raise ValueError(
                f"measured: expected a report with rows called {', '.join(names)}, got "
                f"{', '.join(row.name for row in measured.rows)}"
            )
        return {name: _fact(row.score, row.metric, **about) for name, row in known.items()}
    if not isinstance(measured, Mapping):
        if len(names) > 1:
            raise TypeError(
                f"measured: expected scores by name for {', '.join(names)}, got one "
                f"{type(measured).__name__}"
            )
        measured = {names[0]: measured}
    unknown = [name for name in measured if name not in names]
    if unknown:
        raise ValueError(f"measured: expected scores of {', '.join(names)}, got '{unknown[0]}'")
    return {
        name: _fact(score, getattr(score, "metric", "accuracy"), n=getattr(score, "n", None))
        for name, score in measured.items()
    }


def _fact(score: Any, metric: str, **about: Any) -> Facts:
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise TypeError(f"measured: expected finite numbers, got {score!r}")
    told = {key: value for key, value in about.items() if isinstance(value, int | str)}
    return {"metric": str(metric), "score": float(score), **told}


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Tell what a file of :func:`fastmnist.save` holds, without loading any model.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    dict
        ``format`` (int), ``bytes`` (of the file), and ``models``: by name ``type`` ("module" or
        "compiled"), ``precision`` (of the layers: "int8", "float32", "int8, float32", or "other"),
        ``recipe`` (the recipe as YAML, or None), ``changes`` (what was done, as
        text), and ``measured`` (``metric``, ``score``, maybe ``n`` and ``data``; or None).

    Raises
    ------
    FileNotFoundError, OSError, ValueError
        If there is no such file, or it is none of fastmnist's.

    Examples
    --------
    >>> import fastmnist as fm, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "digits.safetensors")
    >>> fm.save(path, {"original": fm.NeuralNetwork()}, measured={"original": 0.1})
    >>> fm.describe(path)["models"]["original"]["measured"]
    {'metric': 'accuracy', 'score': 0.1}
    """
    file = read(path)
    return {
        "format": file.format,
        "bytes": Path(path).stat().st_size,
        "models": {name: _facts_of(file.description(name)) for name in file.names},
    }


def _facts_of(description: Mapping[str, Any]) -> Facts:
    changes = description.get("changes")
    try:
        told = [str(Change.from_json(change)) for change in changes or []]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"changes: expected what fm.save wrote, got another: {error}") from None
    measured = description.get("measured")
    if measured is not None:
        required_field(measured, "metric", str)
        required_field(measured, "score", (int, float))
    try:
        precision = _precision(description)
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"description: expected what fm.save wrote, got another: {error}"
        ) from None
    return {
        "type": description.get("type"),
        "precision": precision,
        "recipe": description.get("recipe"),
        "changes": told,
        "measured": description.get("measured"),
    }


def _precision(description: Mapping[str, Any]) -> str:
    """Of what its layers are, as far as the description tells."""
    kinds: set[str] = set()
    if "network" in description:
        kinds.add("int8")
    for step in (description.get("graph") or {}).get("steps", []):
        kinds |= {{"int8": "int8", "float": "float32"}.get(step.get("kind"), "")}
    for part in (description.get("replaced") or {}).values():
        kind = part.get("type")
        kinds |= {{"int8": "int8", "fused": "float32", "linear": "float32"}.get(kind, "")}
    for step in description.get("chain") or []:
        kinds |= {"float32"} if step.get("type") == "linear" else set()
    known = [kind for kind in ("int8", "float32") if kind in kinds]
    return ", ".join(known) or "other"
