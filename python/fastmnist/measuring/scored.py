"""Records that hold the value of a metric, under that metric's name: no MAE is an accuracy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any


class Scored:
    """A dataclass with fields ``score`` and ``metric``, and perhaps ``val_score``.

    They are attributes, columns and keys of JSON under the metric's own name: of an accuracy,
    ``record.accuracy`` is ``record.score``, and of an MAE there is ``record.mae`` and no accuracy.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Row(Scored):
    ...     score: float
    ...     metric: str
    >>> Row(0.25, "mae").mae, Row(0.25, "mae").as_record()
    (0.25, {'mae': 0.25})
    """

    def __getattr__(self, name: str) -> Any:
        # Via the dict: while a copy is made, there is no metric yet.
        metric = self.__dict__.get("metric")
        prefix = name.removesuffix(str(metric))
        if metric is not None and name.endswith(metric) and f"{prefix}score" in self.__dict__:
            return self.__dict__[f"{prefix}score"]
        hint = "" if name != "accuracy" else f": it holds '{metric}', which is its score"
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'{hint}")

    def as_record(self) -> dict[str, Any]:
        """Give all fields by name, those of the metric under its own."""
        fields = asdict(self)  # type: ignore[call-overload]
        metric = fields.pop("metric")
        # The user's own function may have any name.
        taken = {name for key in fields for name in (key, f"val_{key}")}
        named = {key: key.replace("score", metric) for key in ("score", "val_score")}
        if metric in taken:
            named = {}
        return {named.get(key, key): value for key, value in fields.items()}
