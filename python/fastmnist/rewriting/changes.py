"""What transforms did to a model: recorded on their result as data, read as sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from fastmnist.files.fields import required_field

_ATTRIBUTE = "fastmnist_changes"
_RECIPE = "fastmnist_recipe"

# Kinds of changes, beside "int8 static", "int8 dynamic", "int8 affine", "bfloat16", "float16".
FUSED = "fused"
DROPPED = "dropped"
LEFT = "left"
PRUNED = "pruned"
SHRUNK = "shrunk"
UNPRUNED = "unpruned"
FACTORIZED = "factorized"
CLUSTERED = "clustered"
UNCLUSTERED = "unclustered"
COMPILED = "compiled"
OTHER = "other"
NOT_RUN = "not run"
# What a layer that is as it was, or does nothing at inference, has to say.
NOT_CHANGED = (DROPPED, LEFT)


@dataclass(frozen=True)
class Change:
    """One layer that a transform changed or skipped. ``str()`` gives a sentence.

    Attributes
    ----------
    layer : str
        The layer's name in the model.
    kind : str
        "int8 static", "int8 dynamic", "int8 affine", "bfloat16", "float16", "fused" (`after`: with
        what; the layer now outputs the result of that), "dropped", "left" (in float, see `why`),
        "pruned" (`before`: weights; `after`: zeros among them), "shrunk" (neurons before and
        after), "unpruned" (`after`: the tensor), "factorized" (weights before and after, `why`: the
        rank), "clustered" (`before`: weights; `after`: distinct values, with scope "channel" per
        output), "unclustered", "compiled", or "other" (`after`: a description).
    before, after : None, int, float or str
    why : str
    checked : str
        How the result was verified against the original: "rows" (both ran on the same rows),
        "graph" (both forwards make the same calls), "not run" (neither was possible), or "".
    """

    layer: str
    kind: str
    before: Any = None
    after: Any = None
    why: str = ""
    checked: str = ""

    @property
    def what(self) -> str:
        """What happened to the layer, in words."""
        if self.kind == FUSED:
            return f"fused with {self.after}"
        if self.kind == LEFT:
            return f"left in float: {self.why}"
        if self.kind == PRUNED:
            return f"pruned: {self.after / self.before:.1%} of {self.before:,} weights are 0"
        if self.kind == SHRUNK:
            about = f": {self.why}" if self.why else ""
            return f"pruned: {self.after} of {self.before} neurons are left{about}"
        if self.kind == UNPRUNED:
            return f"unpruned: {self.after} as it was behind its mask"
        if self.kind == FACTORIZED:
            return f"factorized: {self.after:,} of {self.before:,} weights are left: {self.why}"
        if self.kind == CLUSTERED:
            return f"clustered: {self.before:,} weights share {self.after} values"
        if self.kind == UNCLUSTERED:
            return f"unclustered: {self.after} as it was before"
        if self.kind == OTHER:
            return str(self.after)
        about = f", {self.after}" if self.after is not None else ""
        return f"{self.kind}{about}{': ' * bool(self.why)}{self.why}"

    def __str__(self) -> str:
        return f"{self.layer}: {self.what}{' (not run)' * (self.checked == NOT_RUN)}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields that say something."""
        told = {key: value for key, value in asdict(self).items() if value not in (None, "")}
        return {"layer": self.layer, "kind": self.kind, **told}

    @classmethod
    def from_json(cls, record: Any) -> Change:
        """The reverse of :meth:`to_json`, trusting nothing.

        Raises
        ------
        ValueError
            If a field is not as it should be.
        """
        layer, kind = (required_field(record, name, str) for name in ("layer", "kind"))
        before, after = record.get("before"), record.get("after")
        for name, value in (("before", before), ("after", after)):
            if value is not None and not isinstance(value, str | int | float):
                raise ValueError(f"{name}: expected a number or words, got {type(value).__name__}")
        counts = kind in (PRUNED, SHRUNK, FACTORIZED, CLUSTERED)
        if counts and not all(type(n) is int and n > 0 for n in (before, 1 + (after or 0))):
            raise ValueError(f"changes: expected numbers of weights, got {before!r} and {after!r}")
        why, checked = record.get("why", ""), record.get("checked", "")
        if not (isinstance(why, str) and isinstance(checked, str)):
            raise ValueError(f"changes: expected words, got {why!r} and {checked!r}")
        return cls(layer, kind, before, after, why, checked)


def record(model: nn.Module, new: Iterable[Change]) -> None:
    """Append to what earlier transforms recorded. Plain dicts, so pickles do not need us."""
    before = getattr(model, _ATTRIBUTE, ())
    object.__setattr__(model, _ATTRIBUTE, (*before, *(c.to_json() for c in new)))
    vars(model).pop(_RECIPE, None)  # no longer all that was done


def recipe_text(model: Any) -> str | None:
    """The recipe that made a module or a compiled network, as YAML; None if none did."""
    text = vars(model).get(_RECIPE) if hasattr(model, "__dict__") else None
    return text if isinstance(text, str) else None


def keep_recipe_text(model: Any, text: str | None) -> None:
    """Let a model, its copies and the file it is saved to tell what recipe made it."""
    if text is not None:
        object.__setattr__(model, _RECIPE, text)


def drop_outdated(model: nn.Module) -> None:
    """Forget that layers were left which another transform of the same call changed."""
    entries = getattr(model, _ATTRIBUTE, ())
    quantized = ("int", "bfloat16", "float16")
    changed = {entry["layer"] for entry in entries if entry["kind"].startswith(quantized)}
    kept = [e for e in entries if e["kind"] != LEFT or e["layer"] not in changed]
    unique = [entry for i, entry in enumerate(kept) if entry not in kept[:i]]
    object.__setattr__(model, _ATTRIBUTE, (*unique,))


def mark_checked(changes: Iterable[Change], checked: str) -> list[Change]:
    """Say of those that changed something how their result was held against the original."""
    return [c if c.kind == LEFT else replace(c, checked=checked) for c in changes]


def changes(model: Any) -> list[Change]:
    """Return what fastmnist's transforms changed to produce `model`.

    Parameters
    ----------
    model : torch.nn.Module or CompiledModel
        A result of :func:`~fastmnist.fuse`, :func:`~fastmnist.quantize`,
        :func:`~fastmnist.prune` or :func:`~fastmnist.compile`.

    Returns
    -------
    list of Change
        In the order in which they were made; empty for a model that was not transformed. "(not
        run)" marks changes that could not be verified against the original, because its forward
        cannot be traced and there were no rows: pass ``example=`` or calibration data.

    Examples
    --------
    >>> import fastmnist as fm
    >>> [c.layer for c in fm.changes(fm.prune(fm.NeuralNetwork(), fm.L1Unstructured(0.5)))]
    ['linear1', 'linear2', 'linear3']
    """
    network = getattr(model, "network", None)
    if not isinstance(model, nn.Module) and network is not None:
        return [Change(layer.name, COMPILED) for layer in network.layers]
    return [Change.from_json(entry) for entry in getattr(model, _ATTRIBUTE, ())]
