"""The default limits for variants, for functions and suite alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

# A number, or one for each metric that has a unit everybody knows.
Limit: TypeAlias = float | Mapping[str, float]

DROP: Mapping[str, float] = {"accuracy": 0.5, "r2": 0.005, "f1": 0.005, "auc": 0.005}
DROP_SINCE: Mapping[str, float] = {"accuracy": 0.1, "r2": 0.001, "f1": 0.001, "auc": 0.001}
AGREEMENT = 0.98
OUTPUTS_R2 = 0.98
SQNR_DB = 15.0
SMALLER = 0.99  # names of layers that were fused or dropped take some bytes
FASTER = 1.0

# Check -> limit; None: only where it is said.
DEFAULTS: dict[str, Any] = {
    "accuracy_drop": DROP,
    "agreement": AGREEMENT,
    "r2": OUTPUTS_R2,
    "max_error": None,
    "sqnr": SQNR_DB,
    "smaller": SMALLER,
    "bit_equal": True,
    "faster": None,
    "no_worse": DROP_SINCE,
}


def limit_for(metric: str, limit: Limit, name: str) -> float:
    """Return the limit of a drop for a metric.

    Raises
    ------
    ValueError
        If there is none for it: only the user knows the unit of an MSE.

    Examples
    --------
    >>> limit_for("r2", DROP, "max"), limit_for("mse", 0.1, "max")
    (0.005, 0.1)
    """
    if not isinstance(limit, Mapping):
        return limit
    if metric not in limit:
        raise ValueError(
            f"{name}: expected a limit for '{metric}', whose unit is its own, got none: give "
            f"{name}=, how much worse it may become, in that unit (the suite's limit for it is in "
            "fastmnist_limits, or an option: --fastmnist-accuracy-drop=0.1)"
        )
    return limit[metric]


def in_words(check: str) -> str:
    """Return the default of a check, for help."""
    limit = DEFAULTS[check]
    if isinstance(limit, Mapping):
        return ", ".join(f"{value:g} of {metric}" for metric, value in limit.items())
    return "skipped" if limit is None else f"{limit:g}"
